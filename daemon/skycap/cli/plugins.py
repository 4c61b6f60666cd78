"""``skycap plugins``: what is loaded, from where, and what could not be."""

from __future__ import annotations

from pathlib import Path

import click

from skycap.cli.installation import settings_of
from skycap.cli.options import config_option
from skycap.cli.output import json_option, print_json, print_table
from skycap.observe import logs


@click.group
def plugins() -> None:
    """List the plugins."""


@plugins.command("list")
@config_option
@json_option
def list_plugins(config: Path | None, as_json: bool) -> None:
    """List each plugin's name, origin, version and kinds, or why it is not loaded."""
    from skycap.installation import load_plugins

    logs.configure(level="critical", style="console")  # what is broken is in the table
    found = load_plugins(settings_of(config)).plugins
    if as_json:
        print_json([vars(plugin) for plugin in found])
        return
    rows = [
        (
            plugin.name,
            plugin.version,
            plugin.origin,
            f"BROKEN: {plugin.error}" if plugin.error else ", ".join(plugin.kinds),
        )
        for plugin in found
    ]
    print_table(("plugin", "version", "origin", "kinds"), rows)
