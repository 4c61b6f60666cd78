"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])


def config_option(command: _F) -> _F:
    """The ``--config`` of every command that reads the settings."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The configuration file, instead of $SKYCAP_CONFIG or /etc/skycap/skycap.toml.",
    )(command)
