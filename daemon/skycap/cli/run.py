"""``skycap run``: the daemon in the foreground, as systemd wants it."""

from __future__ import annotations

from pathlib import Path

import click

from skycap.cli.loading import uncollected
from skycap.cli.options import config_option
from skycap.observe import logs


@click.command
@config_option
@click.option("--embedded", is_flag=True, help="Start a private Valkey and PostgreSQL where none is configured.")
@click.option(
    "--plugins-dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Load the plugins in this folder, instead of the configured one.",
)
def run(config: Path | None, embedded: bool, plugins_dir: Path | None) -> int:
    """Run the daemon until SIGTERM or Ctrl-C, then drain it."""
    from skycap.settings import load_settings

    overrides: dict[str, object] = {} if plugins_dir is None else {"plugins_dir": str(plugins_dir)}
    settings = load_settings(config, overrides=overrides)
    logs.configure(level=settings.log.level, style=settings.log.format)
    with uncollected():
        # Only now: a mistake in the settings is told in half the time that loading the daemon takes.
        from skycap.cli.serve import serve
    return serve(settings, config, overrides, embedded=embedded)
