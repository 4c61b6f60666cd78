"""The command line with something on its standard input."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
from click.testing import CliRunner

from skycap.cli import skycap
from skycap.exits import Exit
from tests.support.daemons import Finished


async def piped(stdin: bytes | str, *arguments: str | Path) -> Finished:
    """Run one command in the test's own process; what it raises that is no usage error is raised."""
    done = await asyncio.to_thread(
        CliRunner().invoke, skycap, list(map(str, arguments)), input=stdin, standalone_mode=False
    )
    if isinstance(done.exception, click.ClickException):
        return Finished(code=Exit.USAGE, out=done.stdout, err=done.exception.format_message())
    if done.exception is not None:
        raise done.exception
    code = done.return_value if isinstance(done.return_value, int) else Exit.DONE
    return Finished(code=code, out=done.stdout, err=done.stderr)
