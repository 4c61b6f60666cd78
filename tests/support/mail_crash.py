"""A daemon that kills itself at a chosen moment of sending a mail: at any await between its claim and its settlement.

python -m tests.support.mail_crash

Nothing in the daemon knows of it: the tasks that send the mail are watched from outside, each time one of them is about
to wait for something, and each time it is about to go on. This module's own process loads the daemon once and makes a
copy of itself for each order, a line of JSON on its standard input, which it answers with the copy's process id.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from types import CodeType
from typing import Any

import uvloop

from skycap.assembly import assemble
from skycap.observe import logs
from skycap.settings import load_settings
from skycap.supervisor.life import supervise
from tests.support.daemons import CLEAN

_LOADED_ONCE = ("skycap.services.mailer", "skycap.services.templates", "skycap.services.migrations")
"""What the daemon loads when it is assembled; the copies find it loaded."""

_SENDS, _SETTLES = "job ", "queue "
"""How the names of the consumer's tasks begin: of the one that runs a job, and of the one that tells Redis."""

_OURS = ("/skycap/", "/skycap_travel/")
_WHOEVER_ASKS = ("database.py:", "ledger.py:_move", "link.py:", "server.py:")
"""PostgreSQL and Redis are asked through these: who asks says more."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """An await on the mail's way. ``is_over`` says that what was awaited has come, and nobody has seen it yet."""

    task: str
    path: list[str]
    """The code of skycap's that waits for one another, as ``file:function``, the innermost last."""
    innermost: str
    is_over: bool
    time: int
    """How often this very await had been met before."""

    def __str__(self) -> str:
        return f"{self.where} #{self.time + 1}" if self.time else self.where

    @property
    def where(self) -> str:
        telling = [place for place in self.path if not place.startswith(_WHOEVER_ASKS)]
        place = (telling or self.path or [self.innermost])[-1]
        return f"{'after' if self.is_over else 'at'} {place} ({self.innermost})"


@dataclass(frozen=True, kw_only=True)
class Kill:
    """When a daemon is to kill itself: at one moment, or when it first comes through some code; else never."""

    moment: str | None = None
    place: str | None = None
    """One of the moment's path."""
    is_over: bool = False

    @classmethod
    def at(cls, moment: Moment) -> Kill:
        return cls(moment=f"{moment.task}: {moment}")

    def __str__(self) -> str:
        return self.moment or f"{'after' if self.is_over else 'at'} {self.place}"

    def meets(self, moment: Moment) -> bool:
        if self.moment is not None:
            return self.moment == f"{moment.task}: {moment}"
        return self.place in moment.path and moment.is_over == self.is_over


@dataclass(frozen=True, kw_only=True)
class Order:
    """A daemon to start. It writes its moments into ``report``, the one at which it kills itself last."""

    config: str
    log: str
    report: str
    kill: Kill


@dataclass(frozen=True, kw_only=True)
class Victim:
    """A daemon that may kill itself, seen from the test."""

    pid: int
    report: Path
    _ended: asyncio.Future[None] = field(repr=False)

    @property
    def has_ended(self) -> bool:
        return self._ended.done()

    async def ended(self) -> None:
        await asyncio.shield(self._ended)

    async def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        await self.ended()

    def moments(self) -> list[Moment]:
        lines = self.report.read_text().splitlines() if self.report.exists() else []
        return [Moment(**json.loads(line)) for line in lines]


@dataclass(kw_only=True)
class Nursery:
    """The process of which all daemons of a test are copies; none of them outlives it."""

    process: asyncio.subprocess.Process
    folder: Path
    _orders: int = 0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    @asynccontextmanager
    async def open(cls, folder: Path) -> AsyncGenerator[Nursery]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.mail_crash"),
            env={**CLEAN, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        try:
            yield cls(process=process, folder=folder)
        finally:
            process.stdin.close()
            await process.wait()

    async def daemon(self, config: Path, *, kill: Kill | None = None) -> Victim:
        """Start one, which kills itself, or is ended by whoever asked for it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        async with self._lock:
            self._orders += 1
            report = self.folder / f"moments-{self._orders}"
            order = Order(
                config=str(config), log=str(self.folder / "daemon.log"), report=str(report), kill=kill or Kill()
            )
            self.process.stdin.write(json.dumps(asdict(order)).encode() + b"\n")
            pid = int(await self.process.stdout.readline())
        return Victim(pid=pid, report=report, _ended=_end_of(pid))


def _end_of(pid: int) -> asyncio.Future[None]:
    """Done when the process, which is not our child, has ended."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        ended.set_result(None)
        return ended

    def note() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        if not ended.done():
            ended.set_result(None)

    loop.add_reader(descriptor, note)
    return ended


class _Watch:
    """Counts the moments of the tasks that send a mail, and kills the process at one of them."""

    def __init__(self, report: int, kill: Kill) -> None:
        self._report = report
        self._kill = kill
        self._met: Counter[tuple[str, str]] = Counter()
        self._settles = False
        self._is_settled = False

    def task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        """A task factory: what a watched task starts is watched, too, and goes by its name."""
        starter = asyncio.current_task(loop)
        parent = starter.get_coro() if starter else None
        name = parent.name if isinstance(parent, _Watched) and parent.name not in {"", _SETTLES} else ""
        return asyncio.Task(_Watched(coroutine, self, name), loop=loop, **options)

    def name_of(self, task: asyncio.Task[Any] | None) -> str:
        """What the moments of a task are counted under; empty where they are not."""
        name = task.get_name() if task else ""
        return next((kind for kind in (_SENDS, _SETTLES) if name.startswith(kind)), "")

    def counts(self, name: str) -> bool:
        return name != "" and not self._is_settled and (name != _SETTLES or self._settles)

    def ended(self, task: asyncio.Task[Any] | None) -> None:
        if self.name_of(task) == _SENDS:
            self._settles = True

    def passed(self, name: str, places: list[CodeType], *, is_over: bool) -> None:
        shown = [f"{Path(place.co_filename).name}:{place.co_name}" for place in places]
        ours = [
            text
            for place, text in zip(places, shown, strict=True)
            if any(folder in place.co_filename for folder in _OURS)
        ]
        moment = Moment(task=name.strip(), path=ours, innermost=shown[-1], is_over=is_over, time=0)
        moment = replace(moment, time=self._met[name, moment.where])
        self._met[name, moment.where] += 1
        self._is_settled = name == _SETTLES and not is_over and ours[-1].endswith(":_news_within")
        os.write(self._report, json.dumps(asdict(moment)).encode() + b"\n")
        if self._kill.meets(moment):
            os.kill(os.getpid(), signal.SIGKILL)


class _Watched(Coroutine[Any, Any, Any]):
    """A coroutine that says when it is about to wait, and when it is about to go on."""

    def __init__(self, inner: Coroutine[Any, Any, Any], watch: _Watch, name: str) -> None:
        self.name = name
        self._inner = inner
        self._watch = watch
        self._has_begun = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)  # what debuggers and the daemon's own monitor ask of a coroutine

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._inner.__await__()

    def send(self, value: Any) -> Any:
        return self._step(lambda: self._inner.send(value))

    def throw(self, *error: Any) -> Any:
        return self._step(lambda: self._inner.throw(*error))

    def close(self) -> None:
        self._inner.close()

    def _step(self, go_on: Callable[[], Any]) -> Any:
        task = asyncio.current_task()
        # A task has no name yet when it is made.
        self.name = self.name or self._watch.name_of(task)
        if self._has_begun and self._watch.counts(self.name):
            self._watch.passed(self.name, list(_places(self._inner)), is_over=True)
        self._has_begun = True
        try:
            awaited = go_on()
        except BaseException:
            self._watch.ended(task)
            raise
        if self._watch.counts(self.name):
            self._watch.passed(self.name, list(_places(self._inner)), is_over=False)
        return awaited


def _places(awaited: Any) -> Iterator[CodeType]:
    """The code of all that waits for one another, from the outermost to the innermost."""
    while awaited is not None:
        frame = None
        for kind in ("cr", "gi", "ag"):
            if hasattr(awaited, f"{kind}_code"):
                yield getattr(awaited, f"{kind}_code")
                frame = getattr(awaited, f"{kind}_frame")
                awaited = getattr(awaited, f"{kind}_yieldfrom" if kind == "gi" else f"{kind}_await")
                break
        else:
            return
        if type(awaited).__name__ == "async_generator_asend" and frame is not None:
            # It hides the generator; @asynccontextmanager, the only one to use it here, knows it.
            awaited = getattr(frame.f_locals.get("self"), "gen", None)


def _main() -> None:
    for module in _LOADED_ONCE:
        import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody has to wait for a copy
    lives, life = os.pipe()
    for line in sys.stdin:
        words = json.loads(line)
        order = Order(**words | {"kill": Kill(**words["kill"])})
        pid = os.fork()
        if pid == 0:
            os.close(life)  # so that its end is seen when the nursery has gone
            _become(order, lives)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _become(order: Order, lives: int) -> None:
    log = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        _serve(order, lives)
    finally:
        os._exit(0)


def _serve(order: Order, lives: int) -> None:
    settings = load_settings(Path(order.config))
    logs.configure(level=settings.log.level, style=settings.log.format)
    watch = _Watch(os.open(order.report, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), order.kill)
    with asyncio.Runner(loop_factory=uvloop.Loop) as runner:
        loop = runner.get_loop()
        loop.set_task_factory(watch.task)
        loop.add_reader(lives, lambda: os._exit(1))
        runner.run(supervise(lambda: assemble(settings)))


if __name__ == "__main__":
    _main()
