"""``skycap plugins``: what is loaded, from where, what could not be, and the files of a new one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skycap.cli import new_plugin
from skycap.cli.cells import state_cell
from skycap.cli.documents import document_of
from skycap.cli.installation import settings_of
from skycap.cli.options import config_option
from skycap.cli.output import answer, json_option, print_json, print_table
from skycap.observe import logs

if TYPE_CHECKING:
    from skycap.registry import LoadedPlugin, Registry


@click.group
def plugins() -> None:
    """List the plugins, and begin a new one."""


@plugins.command("list")
@config_option
@json_option
def list_plugins(config: Path | None, as_json: bool) -> None:
    """List each plugin's version, state, origin and kinds, or why it is not loaded."""
    from skycap.installation import load_plugins

    logs.configure(level="critical", style="console")  # what is broken is in the table
    found = _standings(load_plugins(settings_of(config)))
    if as_json:
        print_json([_document(plugin, state) for plugin, state in found])
        return
    rows = [
        (plugin.name, plugin.version or None, state_cell(state), plugin.origin, plugin.error or ", ".join(plugin.kinds))
        for plugin, state in found
    ]
    print_table(("plugin", "version", "state", "origin", "kinds, or why not"), rows, empty="no plugin is installed")


@plugins.command("new")
@click.argument("name")
@click.option("--package", is_flag=True, help="A package to install, with its test, instead of one file.")
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    show_default=True,
    help="The folder to write to; a file is found there with --plugins-dir.",
)
@json_option
def new(name: str, package: bool, into: Path, as_json: bool) -> None:
    """Write a plugin that works: NAME.py, or with --package a folder NAME. Nothing is overwritten."""
    begun = new_plugin.begun(name, as_package=package)
    written = begun.write(into)
    document = {"plugin": begun.name, "kind": begun.kind, "files": [str(file) for file in written]}
    answer(document, *(f"wrote {file}" for file in written), *begun.hints(into), as_json=as_json)


def _standings(registry: Registry) -> list[tuple[LoadedPlugin, str]]:
    return [
        *((plugin, "broken" if plugin.error else "loaded") for plugin in registry.plugins),
        *((plugin, "left out") for plugin in registry.left_out),
    ]


def _document(plugin: LoadedPlugin, state: str) -> dict[str, Any]:
    return {**document_of(plugin), "state": state}
