"""The life of one daemon process, from its start to the last settled job."""

from __future__ import annotations

import asyncio
import faulthandler
import os
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import count
from typing import Any

import structlog

from skycap.assembly import Daemon
from skycap.exits import Exit
from skycap.observe.reload_record import Reloaded, ReloadRecord
from skycap.observe.systemd import Notifier
from skycap.supervisor.memory import memory_used_up
from skycap.supervisor.open_files import allow_many_connections
from skycap.supervisor.signals import Signals, heard_signals
from skycap.supervisor.status import StatusLine
from skycap.supervisor.succession import Succession

_log = structlog.get_logger("skycap.supervisor")

REPORT_INTERVAL = timedelta(seconds=5)

_STDERR = 2

_LOADING = timedelta(minutes=5)
"""What importing the plugins may take: systemd cannot be asked again meanwhile."""
_STARTING = timedelta(minutes=10)
"""What plugins may take in all to start; after that, systemd's own limit holds."""
ASK_AGAIN = timedelta(seconds=10)

_CLOSING = timedelta(seconds=10)


async def supervise(make: Callable[[], Daemon]) -> Exit:
    """Run a daemon until SIGTERM or SIGINT, then drain it; a second signal hands the running jobs back at once.

    SIGHUP has it made anew: ``make`` reads the settings and assembles a daemon. Returns TRY_AGAIN for a daemon that
    has to be started again, since its memory is used up. Raises what a part that died raised.
    """
    faulthandler.enable(_STDERR)  # the watchdog's SIGABRT then leaves every stack in the journal
    allow_many_connections()
    with heard_signals() as signals:
        succession = Succession(make, hurry=signals.hurry)
        try:
            return await _live(succession, signals)
        finally:
            await succession.close()


async def _live(succession: Succession, signals: Signals) -> Exit:
    notifier, line = Notifier(), StatusLine(succession)
    notifier.starting("loading plugins", within=_LOADING)
    await succession.begin()
    async with _beside(_ask_for_time(notifier)):
        await _unless_stopped(signals, succession.newest.tell_plugins_of_the_start())
    if not signals.stop.is_set():
        _say_ready(notifier, line, succession)
    watched = notifier.feed_watchdog(lambda: [name for each in succession.generations for name in each.stuck])
    async with _beside(watched, _report(notifier, line)):
        async with _beside(_reload(succession, notifier, line, signals)):
            why = await _until_it_ends(succession, signals)
        await _drain(succession, notifier, line, why)
    _log.info("daemon stopped", worker=succession.daemon.id)
    return Exit.TRY_AGAIN if why else Exit.DONE


def _say_ready(notifier: Notifier, line: StatusLine, succession: Succession) -> None:
    http = succession.daemon.http
    notifier.ready(line.text(), http_url=http.url if http else "")


async def _until_it_ends(succession: Succession, signals: Signals) -> str:
    """Why the daemon has to be started again; blank for a stop signal. Raises what a part raised."""
    stopped = asyncio.create_task(signals.stop.wait(), name="stop signal")
    failed = asyncio.create_task(succession.failed(), name="parts")
    used_up = asyncio.create_task(memory_used_up(lambda: succession.daemon.settings.worker), name="memory")
    tasks = (stopped, failed, used_up)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            failed.result()
        return used_up.result() if used_up.done() and not stopped.done() else ""
    finally:
        for task in tasks:
            task.cancel()


async def _drain(succession: Succession, notifier: Notifier, line: StatusLine, why: str) -> None:
    grace = max(generation.grace for generation in succession.generations)
    draining = asyncio.create_task(succession.drain(), name="drain")
    await asyncio.sleep(0)
    notifier.extend(grace + _CLOSING)
    line.why_it_ends = why
    notifier.stopping(line.text())
    await draining


async def _reload(succession: Succession, notifier: Notifier, line: StatusLine, signals: Signals) -> None:
    record = ReloadRecord.here()
    for number in count(1):
        await signals.reload.wait()
        signals.reload.clear()
        notifier.reloading("reloading")
        async with _beside(_ask_for_time(notifier)):
            line.refusal = await succession.reload()
            if line.refusal is None:
                await succession.newest.tell_plugins_of_the_start()
        _say_ready(notifier, line, succession)
        if record is not None and not signals.reload.is_set():  # whoever asked meanwhile waits for the next one
            record.write(Reloaded(process=os.getpid(), number=number, refusal=line.refusal))


async def _report(notifier: Notifier, line: StatusLine) -> None:
    said = ""
    while True:
        await line.look()
        if line.text() != said:
            said = line.text()
            notifier.status(said)
        await asyncio.sleep(REPORT_INTERVAL.total_seconds())


async def _ask_for_time(notifier: Notifier) -> None:
    for _ in range(_STARTING // ASK_AGAIN):
        notifier.extend(ASK_AGAIN * 3)
        await asyncio.sleep(ASK_AGAIN.total_seconds())


async def _unless_stopped(signals: Signals, action: Coroutine[Any, Any, None]) -> None:
    acting = asyncio.create_task(action)
    stopped = asyncio.create_task(signals.stop.wait(), name="stop signal")
    await asyncio.wait((acting, stopped), return_when=asyncio.FIRST_COMPLETED)
    for task in (acting, stopped):
        task.cancel()


@asynccontextmanager
async def _beside(*companions: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    """What goes on for as long as the block does."""
    tasks = [asyncio.create_task(companion) for companion in companions]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
