"""The command line within the test's own process, where a process of its own would take a second to start."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import click
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from skycap.cli import skycap
from skycap.errors import SkycapError
from skycap.exits import Exit
from tests.support.daemons import Finished


async def command(*arguments: str | Path) -> Finished:
    """Run one command to its end. What no user should meet, such as a TypeError, is raised.

    Unlike ``skycap()``, it leaves logging as it is: that is configured for a whole process, so for other tests, too.
    What was logged is in ``lines``.
    """
    with patch("skycap.observe.logs.configure", _leave_as_it_is), capture_logs() as lines:
        # In a thread, since a command has an event loop of its own.
        done = await asyncio.to_thread(CliRunner().invoke, skycap, list(map(str, arguments)), standalone_mode=False)
    problem = _problem(done)
    return Finished(code=_code(done), out=done.stdout, err=done.stderr + problem, lines=lines)


def _leave_as_it_is(**_: object) -> None: ...


def commands_of(group: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by what one types after ``skycap``."""
    if not isinstance(group, click.Group):
        yield " ".join(path), group
        return
    if group.invoke_without_command:
        yield " ".join(path), group
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield from commands_of(found, (*path, name))


def _code(done: Result) -> int:
    match done.exception:
        case None:
            return done.return_value if isinstance(done.return_value, int) else Exit.DONE
        case click.ClickException():
            return Exit.USAGE
        case SkycapError() as error:
            return error.exit_code
        case error:
            raise error


def _problem(done: Result) -> str:
    if isinstance(done.exception, click.ClickException):
        return done.exception.format_message()
    return "" if done.exception is None else str(done.exception)
