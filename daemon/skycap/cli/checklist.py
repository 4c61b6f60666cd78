"""What ``skycap check`` does: reads the installation, runs the checks, and prints what they found."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from skycap.checks.catalogue import GROUPS
from skycap.checks.finding import Finding, Status
from skycap.checks.group import Group
from skycap.checks.installation import Installation
from skycap.checks.running import Result, chosen, run
from skycap.checks.systemd import Unit, read_unit
from skycap.checks.threads import in_thread
from skycap.cli.installation import settings_of
from skycap.cli.output import print_json
from skycap.errors import ConfigurationError, PluginError
from skycap.exits import Exit
from skycap.installation import load_plugins
from skycap.observe import logs
from skycap.registry import Registry
from skycap.settings import Settings

_COLOURS = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "red", Status.SKIPPED: "bright_black"}
_WORDS = {Status.OK: "ok", Status.WARN: "warnings", Status.FAIL: "failures", Status.SKIPPED: "skipped"}
_LOADING_SECONDS = 4
_WORST = (Exit.CONFIGURATION, Exit.UNAVAILABLE, Exit.INTERNAL, Exit.NOT_DONE)
"""Of several failures, the first of these that one of them asks for."""


def go_through(
    *,
    only: frozenset[str],
    strict: bool,
    unit_name: str | None,
    nameserver: str | None,
    config: Path | None,
    as_json: bool,
) -> int:
    """Print the findings of the checks that are named, of none named all, and return the exit code."""
    _refuse_unknown(only)
    logs.configure(level="critical", style="console")  # what they would say is in the table
    began = time.monotonic()
    results = asyncio.run(_run([*chosen(GROUPS, only)], config, unit_name, nameserver))
    seconds = time.monotonic() - began
    (_show_json if as_json else _show)(results, seconds)
    return _exit_code([result.finding for result in results], strict=strict)


async def _run(
    groups: Sequence[Group[Any]], config: Path | None, unit_name: str | None, nameserver: str | None
) -> list[Result]:
    unit = await read_unit(unit_name or _unit_of(config))
    environ = _environ(unit)
    settings = _settings(config, environ)
    installation = Installation(
        environ=environ,
        settings=settings,
        registry=await _registry(settings),
        unit=unit,
        nameserver=nameserver,
    )
    return await run(groups, installation)


def _unit_of(config: Path | None) -> str:
    return f"skycap@{config.stem if config is not None else 'main'}"


def _environ(unit: Unit | None) -> Mapping[str, str]:
    """Ours, over what the unit gives the daemon: SKYCAP_ENV, by which much is judged, and credentials we may read."""
    if unit is None or not unit.is_installed:
        return os.environ
    readable = [folder for folder in unit.credentials if os.access(folder, os.R_OK | os.X_OK) and folder.is_dir()]
    credentials = {"CREDENTIALS_DIRECTORY": str(readable[0])} if readable else {}
    return {**unit.environment, **credentials, **os.environ}


def _settings(config: Path | None, environ: Mapping[str, str]) -> Settings | ConfigurationError:
    try:
        return settings_of(config, environ=environ)
    except ConfigurationError as error:
        return error


async def _registry(settings: Settings | ConfigurationError) -> Registry | ConfigurationError | None:
    if isinstance(settings, ConfigurationError):
        return None
    try:
        async with asyncio.timeout(_LOADING_SECONDS):
            return await in_thread(lambda: load_plugins(settings))
    except ConfigurationError as error:
        return error
    except TimeoutError:
        return PluginError(
            f"the plugins are not loaded within {_LOADING_SECONDS} s; see with load_plugins which one does not come to "
            "its end, and name it in disabled_plugins"
        )


def _refuse_unknown(names: frozenset[str]) -> None:
    known = {name for group in GROUPS for name in (group.name, *(f"{group.name}.{each.name}" for each in group.checks))}
    for name in sorted(names - known):
        groups = ", ".join(group.name for group in GROUPS)
        raise click.UsageError(f"--only: there is no check {name!r}; there are {groups}, and those in config/CHECKS.md")


def _exit_code(findings: Sequence[Finding], *, strict: bool) -> int:
    asked = {finding.exit_code for finding in findings if finding.status is Status.FAIL}
    if asked:
        return next(code for code in _WORST if code in asked)
    has_warnings = any(finding.status is Status.WARN for finding in findings)
    return Exit.NOT_DONE if strict and has_warnings else Exit.DONE


def _show(results: Sequence[Result], seconds: float) -> None:
    width = max(len(result.check) for result in results)
    for group, found in groupby(results, key=lambda result: result.group):
        click.secho(group, bold=True)
        lines = list(_lines(found))
        fixes = [first.finding.fix for first, _ in lines]
        for (first, others), following in zip(lines, [*fixes[1:], ""], strict=True):
            _show_one(first, width, others, with_fix=first.finding.fix != following)
    counts = Counter(result.finding.status for result in results)
    summary = ", ".join(f"{counts[status]} {_WORDS[status]}" for status in Status)
    click.echo(f"\n{summary}, in {seconds:.1f} s")


def _lines(found: Iterable[Result]) -> Iterator[tuple[Result, Sequence[str]]]:
    """Each with the names of others that say the same: of a server that is down, one line says what was skipped."""
    for _, same in groupby(found, key=lambda result: (result.finding.status is Status.SKIPPED, result.finding.says)):
        first, *others = same
        yield first, [each.check for each in others]


def _show_one(result: Result, width: int, others: Sequence[str], *, with_fix: bool) -> None:
    finding = result.finding
    status = click.style(finding.status.ljust(7), fg=_COLOURS[finding.status])
    beside = f" (so are {', '.join(others)})" if others else ""
    click.echo(f"  {status}  {result.check.ljust(width)}  {finding.says}{beside}")
    if finding.fix and with_fix:
        click.echo(f"  {' ' * (9 + width)}  → {finding.fix}")


def _show_json(results: Sequence[Result], seconds: float) -> None:
    counts = Counter(result.finding.status for result in results)
    print_json(
        {
            "summary": {str(status): counts[status] for status in Status},
            "seconds": round(seconds, 3),
            "checks": [
                {
                    "name": result.name,
                    "status": result.finding.status,
                    "says": result.finding.says,
                    "fix": result.finding.fix or None,
                    "seconds": round(result.seconds, 3),
                }
                for result in results
            ],
        }
    )
