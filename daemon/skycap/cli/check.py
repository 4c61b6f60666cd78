"""``skycap check``: the deployment checklist, as a command."""

from __future__ import annotations

from pathlib import Path

import click

from skycap.cli.options import config_option
from skycap.cli.output import json_option


@click.command
@click.option("--only", metavar="NAME,…", help="Groups or single checks, as redis,mail or redis.rights.")
@click.option("--strict", is_flag=True, help="Exit 1 also where there are only warnings.")
@click.option("--unit", "unit_name", metavar="UNIT", help="The systemd unit; else skycap@NAME of --config …/NAME.toml.")
@click.option("--nameserver", metavar="ADDRESS[:PORT]", help="Whom to ask for DNS records, instead of the host's own.")
@config_option
@json_option
def check(
    only: str | None,
    strict: bool,
    unit_name: str | None,
    nameserver: str | None,
    config: Path | None,
    as_json: bool,
) -> int:
    """Look at everything that a deployment needs, and say what is so and what to mend; nothing is changed or sent.

    Exits 0 when nothing fails; else 78 for a mistake in the configuration, 69 for a server that cannot be used, 1 for
    anything else.
    """
    # Its help need not wait for all that there is to check.
    from skycap.cli.checklist import go_through

    return go_through(
        only=frozenset(filter(None, (only or "").split(","))),
        strict=strict,
        unit_name=unit_name,
        nameserver=nameserver,
        config=config,
        as_json=as_json,
    )
