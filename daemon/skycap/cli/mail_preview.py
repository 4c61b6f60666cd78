"""``skycap mail preview``: what a mail looks like, without sending it."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skycap.cli.completing import kind_names
from skycap.cli.options import config_option, fields_of, plugins_dir_option
from skycap.cli.output import json_option, print_json, print_table

if TYPE_CHECKING:
    from skycap.preview.previews import Preview, Previews
    from skycap.registry import Registry
    from skycap.sample import Sample
    from skycap.settings import Settings
    from skycap.settings.addresses import BindAddress


@click.command
@click.argument("kind", required=False, shell_complete=kind_names)
@click.option(
    "--sample", "name", metavar="NAME", help="Which sample of KIND; else its first, or the nearest to --payload."
)
@click.option("--locale", metavar="LOCALE", help="tr, de, …; else the one that the sample's guest reads.")
@click.option("--payload", metavar="JSON|@FILE", help="Fields of the payload, instead of the sample's.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="A folder; else a new one in /tmp.")
@click.option("--serve", "is_served", is_flag=True, help="Show all mails on a page of this machine, until Ctrl-C.")
@click.option("--bind", default="127.0.0.1:8610", show_default=True, metavar="HOST:PORT", help="For --serve.")
@plugins_dir_option
@config_option
@json_option
def preview(
    kind: str | None,
    name: str | None,
    locale: str | None,
    payload: str | None,
    out: Path | None,
    is_served: bool,
    bind: str,
    plugins_dir: Path | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Write the mail of a job of KIND to files, from sample data; nothing is sent, and no server is needed.

    The plugin's own handler runs. What it reads from its payload is --payload's, what it reads from the database the
    sample's. Without KIND, every sample is written in every locale.
    """
    from skycap.installation import load_plugins
    from skycap.preview.files import named, write
    from skycap.preview.previews import Previews
    from skycap.settings import load_settings

    settings = load_settings(config, overrides={"plugins_dir": str(plugins_dir)} if plugins_dir else None)
    registry = load_plugins(settings)
    if is_served:
        asyncio.run(_serve(settings, registry, _address(bind)))
        return
    if kind is None and (name or payload):
        raise click.UsageError("--sample and --payload are of one KIND: name it")
    previews = Previews(settings, registry)
    if locale is not None and locale not in previews.locales:
        raise click.UsageError(f"no mail is written in {locale!r}; there are: {', '.join(previews.locales)}")
    if kind is None:
        found = asyncio.run(_all(previews, locale))
    else:
        found = asyncio.run(previews.of(_sample(previews, registry, kind, name, payload), locale=locale))
    folder = out or Path(tempfile.mkdtemp(prefix="skycap-mails-"))
    mails = named(found, by_sample=kind is None)
    written = [(each, write(each, folder, name=stem)) for stem, each in mails.items()]
    (_show_json if as_json else _show)(folder, written)
    if kind is not None and not as_json:
        _tell_of_others(previews, found[0])


def _sample(previews: Previews, registry: Registry, kind: str, name: str | None, payload: str | None) -> Sample:
    """The sample to preview, with the fields of ``payload`` for its own."""
    from skycap.preview.previews import sample_of

    fields = {} if payload is None else fields_of(payload)
    sample = sample_of(previews.samples, kind, name=name, fields=fields)
    if not fields:
        return sample
    own = sample.payload.model_dump(mode="json", by_alias=True)
    return replace(sample, payload=registry.checked_payload(kind, own | fields))


async def _all(previews: Previews, locale: str | None) -> list[Preview]:
    return [
        each
        for sample in previews.samples
        for each in (await previews.of(sample, locale=locale) if locale else await previews.every_locale(sample))
    ]


def _show(folder: Path, written: list[tuple[Preview, list[Path]]]) -> None:
    rows = [(path.name, f"{path.stat().st_size:,}") for _, paths in written for path in paths]
    print_table(("file", "bytes"), rows)
    click.echo(f"\nin {folder}")


def _show_json(folder: Path, written: list[tuple[Preview, list[Path]]]) -> None:
    print_json(
        {
            "folder": str(folder),
            "mails": [
                {
                    "kind": each.kind,
                    "sample": each.sample,
                    "locale": each.locale,
                    "subject": each.subject,
                    "files": [{"path": str(path), "bytes": path.stat().st_size} for path in paths],
                }
                for each, paths in written
            ],
        }
    )


def _tell_of_others(previews: Previews, shown: Preview) -> None:
    others = [each.name for each in previews.samples if each.kind == shown.kind and each.name != shown.sample]
    if others:
        click.echo(f"this is the sample {shown.sample}; there are also: {', '.join(others)}")


def _address(bind: str) -> BindAddress:
    from skycap.settings.addresses import BindAddress

    try:
        return BindAddress.parse(bind)
    except ValueError as error:
        raise click.UsageError(f"--bind: {error}") from error


async def _serve(settings: Settings, registry: Registry, address: BindAddress) -> None:
    from skycap.preview.gallery import GalleryServer

    async with GalleryServer(settings, registry, address) as gallery:
        stop = asyncio.Event()
        for each in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(each, stop.set)
        click.echo(f"all mails are at {gallery.url}, rendered anew at each reload, until Ctrl-C")
        await stop.wait()
