"""``skycap kinds``: what can be enqueued."""

from __future__ import annotations

from pathlib import Path

import click

from skycap.cli.installation import settings_of
from skycap.cli.options import config_option
from skycap.cli.output import json_option, print_json, print_table
from skycap.installation import load_plugins
from skycap.job_type import JobType


@click.command
@config_option
@json_option
def kinds(config: Path | None, as_json: bool) -> None:
    """List the kinds of jobs and their payloads; --json has each payload's JSON Schema."""
    job_types = load_plugins(settings_of(config)).job_types
    if as_json:
        print_json(
            [
                {
                    "kind": job_type.kind,
                    "queue": job_type.queue,
                    "priority": job_type.payload.payload_spec.priority,
                    "version": job_type.payload.payload_spec.version,
                    "plugin": job_type.plugin,
                    "payload": job_type.payload.model_json_schema(by_alias=True),
                }
                for job_type in job_types
            ]
        )
        return
    rows = [
        (
            job_type.kind,
            job_type.queue,
            job_type.payload.payload_spec.priority,
            job_type.plugin,
            _fields(job_type),
        )
        for job_type in job_types
    ]
    print_table(("kind", "queue", "priority", "plugin", "payload"), rows)


def _fields(job_type: JobType) -> str:
    fields = job_type.payload.model_fields.items()
    return ", ".join(f"{field.alias or name}{'' if field.is_required() else '?'}" for name, field in fields)
