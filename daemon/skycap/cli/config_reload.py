"""``skycap config reload``: has a daemon of this unit take its configuration anew, and waits for its answer."""

from __future__ import annotations

import os
import signal
import time

import click

from skycap.cli.output import answer, json_option
from skycap.errors import ConfigurationError, Unavailable
from skycap.exits import Exit
from skycap.observe.reload_record import Reloaded, ReloadRecord

_LOOK_SECONDS = 0.05


@click.command("reload")
@click.argument("pid", type=click.IntRange(min=2))
@click.option("--timeout", "seconds", type=click.FloatRange(min=0.1), default=80.0, show_default=True)
@json_option
def reload(pid: int, seconds: float, as_json: bool) -> int:
    """Have the daemon PID take settings, plugins and templates as they are now; 78 and the reason if it refuses.

    For ExecReload= of its unit: it needs the unit's RuntimeDirectory=.
    """
    record = ReloadRecord.here()
    if record is None:
        raise click.UsageError("RUNTIME_DIRECTORY is not set: this is for ExecReload= of a unit; use kill -HUP")
    before = record.read(pid)
    _tell(pid, signal.SIGHUP)
    reloaded = _next(record, pid, before, seconds)
    if reloaded.refusal is not None:
        raise ConfigurationError(f"reload refused: {reloaded.refusal}")
    answer({"process": pid, "reloads": reloaded.number}, f"daemon {pid} has reloaded", as_json=as_json)
    return Exit.DONE


def _next(record: ReloadRecord, pid: int, before: Reloaded | None, seconds: float) -> Reloaded:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = record.read(pid)
        if found is not None and found != before:
            return found
        _tell(pid, 0)
        time.sleep(_LOOK_SECONDS)
    raise Unavailable("daemon", f"it has not reloaded within {seconds:g} s; `systemctl status` says what it waits for")


def _tell(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError as error:
        raise Unavailable("daemon", f"there is no process {pid}") from error
