"""``skycap config``: what is configured, and what could be."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import click

from skycap.cli.config_reload import reload
from skycap.cli.options import config_option
from skycap.cli.output import answer, json_option, print_json, print_table
from skycap.exits import Exit
from skycap.signing import Signer


@click.group
def config() -> None:
    """Show, check or reload the configuration, or print its commented reference."""


@config.command("show")
@config_option
@json_option
def show_config(config: Path | None, as_json: bool) -> None:
    """Print the settings in force and where each comes from, secrets masked."""
    from skycap.settings import load_settings

    settings = load_settings(config)
    values = settings.model_dump(mode="json")
    if as_json:
        print_json(values)
        return
    rows = [(key, json.dumps(value, ensure_ascii=False), settings.origin(key)) for key, value in _leaves(values)]
    print_table(("key", "value", "from"), rows)


config.add_command(reload)


@config.command("check")
@config_option
@json_option
def check_config(config: Path | None, as_json: bool) -> int:
    """Check settings, plugins and templates as a reload would, without a server; 78 and a line if one is wrong."""
    from skycap.assembly import assemble
    from skycap.observe import logs
    from skycap.settings import load_settings
    from skycap.supervisor.renewal import refuse_what_is_left_out

    logs.configure(level="critical", style="console")  # what is wrong is the one line
    daemon = assemble(load_settings(config))
    refuse_what_is_left_out(daemon)
    plugins = [plugin.name for plugin in daemon.registry.plugins]
    answer({"plugins": plugins}, f"nothing is wrong; plugins: {', '.join(plugins)}", as_json=as_json)
    return Exit.DONE


@config.command("reference")
@json_option
def print_reference(as_json: bool) -> None:
    """Print every setting with its default and what it means; config/skycap.toml is made by this.

    With --json, the defaults alone.
    """
    from skycap.settings import Settings, reference

    if as_json:
        print_json(Settings().model_dump(mode="json"))
    else:
        click.echo(reference(), nl=False)


@config.command("signing-key")
@click.option("--id", "key_id", metavar="ID", help="What the key is called in each signature; if not given, today.")
@json_option
def print_signing_key(key_id: str | None, as_json: bool) -> None:
    """Print a new key for signing.keys: keep it as a secret."""
    key_id = key_id or f"{datetime.now(UTC):%Y-%m-%d}"
    key = Signer.new(key_id).text()
    answer({"id": key_id, "key": key}, key, as_json=as_json)


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(cast("Mapping[str, Any]", value), f"{above}{name}.")
        else:
            yield f"{above}{name}", value
