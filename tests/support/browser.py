"""Browser: a headless Chromium without a window, a network or a port, in which tests look at mails.

It is driven by the DevTools protocol over two pipes (``--remote-debugging-pipe``): JSON documents that end with a
zero byte. All is synchronous: a test has nothing else to do while a page is laid out.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final, Literal, cast

Shade = Literal["light", "dark"]
SHADES: Final[tuple[Shade, ...]] = ("light", "dark")

_PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
_ANSWER_WITHIN_SECONDS: Final = 20
_FIRST_FREE: Final = 10
"""Descriptors from here on are ours to choose; Chromium wants 3 to read from and 4 to write to."""

_ARGUMENTS: Final = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",  # /dev/shm is small in a container
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--font-render-hinting=none",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # nothing leaves this machine, whatever a mail asks for
    "about:blank",
)


def find_chromium() -> str | None:
    """The path of a Chromium on this machine."""
    return next(filter(None, map(shutil.which, _PROGRAMS)), None)


class BrowserError(Exception):
    """Chromium did not do what it was asked to do."""


class Page:
    """One tab, which shows one document after the other."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self._size = (0, 0)
        self._frame: str = self.ask("Page.getFrameTree")["frameTree"]["frame"]["id"]
        self.ask("Network.enable")
        self.requests: list[str] = []
        """What the document that is shown has asked for, or tried to."""

    def ask(self, method: str, **parameters: object) -> dict[str, Any]:
        """The answer to a command of the protocol. Raises BrowserError."""
        return self._browser.ask(method, session=self._session, **parameters)

    def show(self, html: str, *, width: int, shade: Shade = "light") -> None:
        """Lay ``html`` out in a window of so many CSS pixels."""
        self.look(width=width, shade=shade)
        self._browser.events.clear()
        self.ask("Page.setDocumentContent", frameId=self._frame, html=html)
        self.evaluate(
            "document.fonts.ready.then(() => Promise.all([...document.images].map(i => i.decode().catch(() => 0))))"
        )
        self.requests = [
            url
            for event in self._browser.events
            if event["method"] == "Network.requestWillBeSent"
            and not (url := str(event["params"]["request"]["url"])).startswith("data:")
        ]

    def look(self, *, width: int, height: int = 800, shade: Shade | None = None) -> None:
        """At the same document in another window, or in another light."""
        if self._size != (width, height):
            self._size = (width, height)
            metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            self.ask("Emulation.setDeviceMetricsOverride", **metrics)
        if shade is not None:
            features = [{"name": "prefers-color-scheme", "value": shade}]
            self.ask("Emulation.setEmulatedMedia", features=features)

    def evaluate(self, expression: str) -> Any:
        """The JSON value of a JavaScript expression; that of a promise when it is kept."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise BrowserError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    def screenshot(self, *, width: int) -> bytes:
        """The whole document as a PNG, however long it is."""
        height = max(200, int(self.evaluate("document.documentElement.scrollHeight")))
        self.look(width=width, height=height)
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])


class Browser:
    """Made by ``browser()``."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write
        self._buffer = bytearray()
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def page(self) -> Page:
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        return Page(self, self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])

    def ask(self, method: str, *, session: str | None = None, **parameters: object) -> dict[str, Any]:
        """The answer to a command; events that come before it are kept in ``events``."""
        self._number += 1
        command: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            command["sessionId"] = session
        _write_all(self._write, json.dumps(command).encode() + b"\0")
        deadline = time.monotonic() + _ANSWER_WITHIN_SECONDS
        while (message := self._next_message(method, deadline)).get("id") != self._number:
            if "method" in message:
                self.events.append(message)
        if "error" in message:
            raise BrowserError(f"{method}: {message['error']}")
        return cast("dict[str, Any]", message["result"])

    def _next_message(self, method: str, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise BrowserError(f"{method}: no answer within {_ANSWER_WITHIN_SECONDS} s")
            more = os.read(self._read, 1 << 20)
            if not more:
                raise BrowserError(f"{method}: Chromium has ended")
            self._buffer += more
        message, _, rest = self._buffer.partition(b"\0")
        self._buffer = rest
        return cast("dict[str, Any]", json.loads(message))


@contextmanager
def browser(program: str) -> Generator[Browser]:
    """A Chromium with a profile of its own, which ends with the block."""
    with tempfile.TemporaryDirectory(prefix="skycap-browser-", ignore_cleanup_errors=True) as profile:
        process, read, write = _started(program, profile)
        try:
            yield Browser(read, write)
        finally:
            os.close(write)  # upon which Chromium ends
            os.close(read)
            _end(process)


def _started(program: str, profile: str) -> tuple[int, int, int]:
    """Its process, which leads a group of its own, and our ends of its two pipes."""
    its_read, write = _high_pipe()
    read, its_write = _high_pipe()
    sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()  # Chromium refuses to have one as root
    process = os.posix_spawn(
        program,
        [program, *_ARGUMENTS, *sandbox, f"--user-data-dir={profile}"],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, its_read, 3),
            (os.POSIX_SPAWN_DUP2, its_write, 4),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),  # it complains of missing desktops
        ],
        setpgroup=0,
    )
    os.close(its_read)
    os.close(its_write)
    return process, read, write


def _high_pipe() -> tuple[int, int]:
    """A pipe whose ends are in nobody's way."""
    low = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE) for end in low]
    for end in low:
        os.close(end)
    return high[0], high[1]


def _end(process: int) -> None:
    """Wait for it and for its children; kill what does not end."""
    watched = os.pidfd_open(process)
    ready, _, _ = select.select([watched], [], [], 5)
    os.close(watched)
    if not ready:
        os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
