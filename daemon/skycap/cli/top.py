"""``skycap top``: the fleet live in the terminal; once as a table or as a document where there is none."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from skycap.cli.options import config_option
from skycap.cli.output import json_option


@click.command
@click.option(
    "--interval",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0.2, 3600),
    metavar="SECONDS",
    help="How long between two looks.",
)
@click.option("--once", is_flag=True, help="Print one plain table; so does a pipe.")
@config_option
@json_option
def top(interval: float, once: bool, config: Path | None, as_json: bool) -> None:
    """Watch queues, daemons and rates until q or Ctrl-C."""
    from skycap.cli.installation import settings_of
    from skycap.cli.watching import print_document, print_once, watch

    settings = settings_of(config)
    if as_json:
        asyncio.run(print_document(settings))
    elif once or not sys.stdout.isatty():
        asyncio.run(print_once(settings))
    else:
        asyncio.run(watch(settings, interval))
