"""Signals: what an admin, or systemd, asks of the process."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

_STOP = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, kw_only=True)
class Signals:
    """Events that are set when they have been asked for."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    """By the first SIGTERM or SIGINT."""
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    """By a further one."""
    reload: asyncio.Event = field(default_factory=asyncio.Event)
    """By SIGHUP. Whoever begins a reload clears it, so that what changes meanwhile is not missed."""


@contextmanager
def heard_signals() -> Generator[Signals]:
    """The signals that arrive inside the block."""
    signals = Signals()
    loop = asyncio.get_running_loop()

    def received() -> None:
        (signals.hurry if signals.stop.is_set() else signals.stop).set()

    for each in _STOP:
        loop.add_signal_handler(each, received)
    loop.add_signal_handler(signal.SIGHUP, signals.reload.set)
    try:
        yield signals
    finally:
        for each in (*_STOP, signal.SIGHUP):
            loop.remove_signal_handler(each)
