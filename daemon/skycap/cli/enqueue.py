"""``skycap enqueue``: one job, its payload checked by the plugin that will run it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skycap.cli.completing import kind_names
from skycap.cli.failures import told_address
from skycap.cli.installation import settings_of
from skycap.cli.options import config_option, fields_of, plugins_dir_option
from skycap.cli.output import json_option, print_fields, print_json
from skycap.cli.quantities import DURATION, MOMENT, TIME
from skycap.errors import ConfigurationError
from skycap.exits import Exit
from skycap.job import Enqueued, Job, JobState
from skycap.unique import OnConflict, Unique

if TYPE_CHECKING:
    from skycap.payload import Payload
    from skycap.settings import Settings


@click.command
@click.argument("kind", shell_complete=kind_names)
@click.option("--payload", default="{}", metavar="JSON|@FILE", help="The payload, or a file that holds it.")
@click.option("--delay", type=DURATION, metavar="DURATION", help="Run it this much later: 90 (seconds), 15m, 2h, 7d.")
@click.option("--at", type=MOMENT, metavar="TIME", help="Run it at this time: 2026-11-24T08:00+03:00.")
@click.option(
    "--deadline", type=TIME, metavar="DURATION|TIME", help="Do not run it any more after this, from now or at a time."
)
@click.option("--priority", type=int, metavar="N", help="From 1 (first) to 1000, instead of the kind's own.")
@click.option("--unique", metavar="KEY", help="One job of the kind at a time for each KEY.")
@click.option(
    "--unique-for", type=DURATION, metavar="DURATION", help="How long KEY holds; else until its job has ended."
)
@click.option(
    "--on-conflict",
    type=click.Choice(["keep", "replace", "debounce"]),
    help="While KEY holds: keep the job that has it, give it the new payload, or let it wait anew, too.",
)
@click.option("--tag", "tags", multiple=True, help="To find it by; may be given several times.")
@click.option("--id", "job_id", help="The job's id; the same id twice is one job.")
@click.option(
    "--wait", type=DURATION, metavar="DURATION", help="Wait so long for its end; exit 1 if it has not completed then."
)
@plugins_dir_option
@config_option
@json_option
def enqueue(
    kind: str,
    payload: str,
    unique: str | None,
    unique_for: timedelta | None,
    on_conflict: OnConflict | None,
    wait: timedelta | None,
    plugins_dir: Path | None,
    config: Path | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Enqueue one job of KIND."""
    from skycap.installation import load_plugins

    options["unique"] = _unique(unique, unique_for, on_conflict)
    settings = settings_of(config, {"plugins_dir": str(plugins_dir)} if plugins_dir else None)
    checked = load_plugins(settings).checked_payload(kind, fields_of(payload))
    _check_that_it_can_be_signed(settings, checked.payload_spec.kind)
    done, job = asyncio.run(_enqueue(settings, checked, options, wait))
    answer = {"jobId": done.job_id, "state": done.state.value, "duplicate": done.duplicate}
    if wait is not None:
        answer |= _end(job)
    (print_json if as_json else print_fields)(answer)
    return Exit.DONE if wait is None or (job and job.state is JobState.COMPLETED) else Exit.NOT_DONE


def _check_that_it_can_be_signed(settings: Settings, kind: str) -> None:
    signing = settings.signing
    is_required = signing.verify == "require" or kind in signing.required_kinds(production=settings.production)
    if is_required and not signing.keys:
        raise ConfigurationError(
            f"signing.keys: there is none here, and a job of kind {kind} must be signed; set SKYCAP_SIGNING_KEYS to "
            "the daemon's"
        )


def _unique(key: str | None, within: timedelta | None, on_conflict: OnConflict | None) -> Unique | None:
    if key is None:
        if within is not None or on_conflict is not None:
            raise click.UsageError("--unique-for and --on-conflict are for --unique KEY; give that, too")
        return None
    try:
        return Unique(key=key, within=within, on_conflict=on_conflict or "keep")
    except TypeError as error:
        raise click.UsageError(f"--unique: {error}") from error


async def _enqueue(
    settings: Settings, payload: Payload, options: Mapping[str, Any], wait: timedelta | None
) -> tuple[Enqueued, Job | None]:
    from skycap.client import AsyncClient

    address = settings.require_redis()
    with told_address("redis", address):
        async with AsyncClient(address.unmasked, signing_key=settings.signing.signing_key) as client:
            done = await client.enqueue(payload, **options)
            if wait is None:
                return done, None
            return done, await client.wait(done.job_id, queue=payload.payload_spec.queue, timeout=wait)


def _end(job: Job | None) -> dict[str, Any]:
    """How the job stands after the wait; its queue may keep no finished ones, so that nothing is known of it."""
    if job is None:
        return {"state": None, "reason": "it has ended, and its queue keeps no finished jobs"}
    end: dict[str, Any] = {"state": job.state.value, "result": job.result}
    if job.reason:
        end["reason"] = job.reason
    if job.errors:
        end["error"] = job.errors[-1].error
    return end
