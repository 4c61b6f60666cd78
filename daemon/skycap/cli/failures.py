"""How a command that failed says so: one line on stderr with the fix, and for programs one JSON document there."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import click

from skycap.cli.documents import json_text
from skycap.errors import SkycapError, Unavailable
from skycap.exits import Exit

_OF_CLICK = (click.NoSuchOption, click.MissingParameter, click.BadOptionUsage, click.BadArgumentUsage)


def tell(error: click.ClickException | SkycapError, *, as_json: bool) -> Exit:
    """Say it, and return the exit code."""
    code = error.exit_code if isinstance(error, SkycapError) else Exit.USAGE
    if isinstance(error, click.exceptions.NoArgsIsHelpError) and not as_json:
        click.echo(error.format_message(), err=True)
        return code
    message = str(error) if isinstance(error, SkycapError) else _message_of(error)
    if as_json:
        document = {"success": False, "error": code.name, "message": message, "exitCode": code.value}
        click.echo(json_text(document, indent=None), err=True)
    else:
        click.echo(f"skycap: {message}", err=True)
    return code


@contextmanager
def told_address(dependency: str, address: object) -> Generator[None]:
    """Whoever cannot reach the dependency inside of this is told its ``address``, as far as that is no secret."""
    try:
        yield
    except Unavailable as error:
        if error.dependency != dependency:
            raise
        raise Unavailable(dependency, f"{error.problem}; is it running, and is {address} right?") from error


def _message_of(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return f"{context.command_path if context else 'skycap'}: name a command"
    message = " ".join(error.format_message().split())
    is_of_click = isinstance(error, _OF_CLICK) or message.startswith("Got unexpected")
    if isinstance(error, click.NoSuchCommand):
        return f"{message} See `{context.command_path if context else 'skycap'} --help`"
    if is_of_click and context is not None:
        return f"{message} See `{context.command_path} --help`"
    return message
