"""``skycap enqueue``: one job, its payload checked by the plugin that will run it."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import click

from skycap.cli.installation import settings_of
from skycap.cli.options import config_option
from skycap.cli.output import json_option, print_fields, print_json
from skycap.client import AsyncClient
from skycap.installation import load_plugins
from skycap.job import Enqueued
from skycap.payload import Payload


@click.command
@click.argument("kind")
@click.option("--payload", default="{}", metavar="JSON|@FILE", help="The payload, or a file that holds it.")
@click.option("--delay", type=float, metavar="SECONDS", help="Run it this much later.")
@click.option("--id", "job_id", help="The job's id; the same id twice is one job.")
@click.option(
    "--plugins-dir", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Plugins that know the kind."
)
@config_option
@json_option
def enqueue(
    kind: str,
    payload: str,
    delay: float | None,
    job_id: str | None,
    plugins_dir: Path | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Enqueue one job of KIND."""
    settings = settings_of(config, {"plugins_dir": str(plugins_dir)} if plugins_dir else None)
    checked = load_plugins(settings).checked_payload(kind, _fields(payload))
    wait = None if delay is None else timedelta(seconds=delay)
    done = asyncio.run(_enqueue(settings.require_redis().unmasked, checked, wait, job_id))
    answer = {"jobId": done.job_id, "state": done.state.value, "duplicate": done.duplicate}
    (print_json if as_json else print_fields)(answer)


async def _enqueue(url: str, payload: Payload, delay: timedelta | None, job_id: str | None) -> Enqueued:
    async with AsyncClient(url) as client:
        return await client.enqueue(payload, delay=delay, job_id=job_id)


def _fields(payload: str) -> dict[str, Any]:
    where = "--payload"
    if payload.startswith("@"):
        where = payload[1:]
        try:
            payload = Path(where).read_text(encoding="utf-8")
        except OSError as error:
            raise click.UsageError(f"--payload: cannot read {where}: {error.strerror}") from error
    try:
        fields = json.loads(payload)
    except ValueError as error:
        raise click.UsageError(f"{where}: not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise click.UsageError(f'{where}: give a JSON object such as {{"bookingId": "…"}}')
    return cast("dict[str, Any]", fields)
