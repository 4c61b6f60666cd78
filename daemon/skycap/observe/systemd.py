"""Tells systemd how the daemon is (sd_notify(3)), and feeds its watchdog only while the work really goes on."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

import structlog

_log = structlog.get_logger("skycap.systemd")


class Notifier:
    """Sends states to ``$NOTIFY_SOCKET``; does nothing where there is none."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # An abstract socket is written with "@" and addressed with a zero byte.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog = _watchdog(environ)

    def ready(self, status: str, *, http_url: str = "") -> None:
        """Jobs are taken. ``http_url`` is for a parent that is not systemd, which ignores names that start with X_."""
        self._send("READY=1", f"STATUS={status}", f"X_SKYCAP_HTTP={http_url}")

    def starting(self, status: str, *, within: timedelta) -> None:
        """It is not ready yet, and may take this long without a word."""
        self._send(f"STATUS={status}", _more_time(within))

    def reloading(self, status: str) -> None:
        """A reload has begun; ``ready`` ends it."""
        self._send("RELOADING=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        self._send(f"STATUS={status}")

    def stopping(self, status: str) -> None:
        self._send("STOPPING=1", f"STATUS={status}")

    def extend(self, duration: timedelta) -> None:
        """Ask for this much more time before the start or stop timeout hits."""
        self._send(_more_time(duration))

    async def feed_watchdog(self, stuck: Callable[[], Sequence[str]]) -> None:
        """Feed the watchdog at half its interval for as long as nothing is ``stuck``, which names it; for ever.

        Being able to run this coroutine proves that the event loop turns; ``stuck`` must tell the rest.
        """
        if self.watchdog is None:
            return
        was_alive = True
        while True:
            loops = stuck()
            if not loops:
                self._send("WATCHDOG=1")
            elif was_alive:
                _log.error("watchdog not fed", stuck=", ".join(loops))
            was_alive = not loops
            await asyncio.sleep(self.watchdog.total_seconds() / 2)

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        message = "\n".join((*lines, f"MONOTONIC_USEC={time.monotonic_ns() // 1000}"))
        # Never blocking: a notice that nobody takes must not hold the event loop up.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as outgoing:
            try:
                outgoing.sendto(message.encode(), self._address)
            except OSError as error:
                _log.warning("systemd did not take a notification", problem=str(error))


def _more_time(duration: timedelta) -> str:
    return f"EXTEND_TIMEOUT_USEC={round(duration.total_seconds() * 1_000_000)}"


def _watchdog(environ: Mapping[str, str]) -> timedelta | None:
    # WATCHDOG_PID says whom systemd means; a child that inherited the variables must not feed.
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = int(environ.get("WATCHDOG_USEC", "0"))
    return timedelta(microseconds=microseconds) if microseconds else None
