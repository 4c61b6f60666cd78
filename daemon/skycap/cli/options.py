"""Options that several commands have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from skycap.cli.completing import kind_names, queue_names

_F = TypeVar("_F", bound=Callable[..., Any])


def config_option(command: _F) -> _F:
    """The ``--config`` of every command that reads the settings."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The configuration file, instead of $SKYCAP_CONFIG or /etc/skycap/skycap.toml.",
    )(command)


def plugins_dir_option(command: _F) -> _F:
    """The ``--plugins-dir`` of commands that check what a plugin knows."""
    return click.option(
        "--plugins-dir",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        help="Plugins that know the kind.",
    )(command)


def filter_options(command: _F) -> _F:
    """``--queue``, ``--kind`` and ``--tag``: which jobs."""
    for option in (
        click.option("--tag", help="Only jobs with this tag."),
        click.option("--kind", shell_complete=kind_names, help="Only this kind."),
        click.option("--queue", shell_complete=queue_names, help="Only this queue."),
    ):
        command = option(command)
    return command


def fields_of(payload: str) -> dict[str, Any]:
    """What ``--payload`` gives, as JSON or as ``@FILE`` that holds it; raises UsageError."""
    where = "--payload"
    if payload.startswith("@"):
        where = payload[1:]
        try:
            payload = Path(where).read_text(encoding="utf-8")
        except OSError as error:
            raise click.UsageError(f"--payload: cannot read {where}: {error.strerror}") from error
        except ValueError as error:
            raise click.UsageError(f"--payload: {where} is no text in UTF-8") from error
    try:
        fields = json.loads(payload)
    except ValueError as error:
        raise click.UsageError(f"{where}: not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise click.UsageError(f'{where}: give a JSON object such as {{"bookingId": "…"}}')
    return cast("dict[str, Any]", fields)
