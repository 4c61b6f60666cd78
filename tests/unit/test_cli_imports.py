"""What a command may load before it does anything. Time depends on the machine; what is loaded does not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.daemons import CLEAN

_HEAVY = frozenset(
    {
        *("aiohttp", "aiosmtplib", "apscheduler", "asyncpg", "babel", "css_inline", "email", "email_validator"),
        *("icalendar", "jinja2", "pluggy", "pydantic", "pydantic_settings", "redis", "skycap_travel", "stamina"),
        *("taskiq", "taskiq_redis", "tomllib", "typst", "uvloop"),
    }
)
_NEEDED_FOR_SETTINGS = {"email", "pydantic", "pydantic_settings", "tomllib"}
_NEEDED_FOR_REDIS = {*_NEEDED_FOR_SETTINGS, "redis"}
_NEEDED_FOR_POSTGRESQL = {*_NEEDED_FOR_SETTINGS, "asyncpg"}
_NEEDED_FOR_PLUGINS = {*_NEEDED_FOR_REDIS, "babel", "email_validator", "jinja2", "pluggy", "skycap_travel"}

_DECLARE = """
import click, sys
from skycap.cli import skycap

def walk(command, context):
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            walk(command.get_command(context, name), click.Context(command, info_name=name, parent=context))

walk(skycap, click.Context(skycap, info_name="skycap"))
"""
_RUN = """
import sys
from skycap.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
"""
_SAY = "print('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}))"


def _heavy_modules_of(script: str, *arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", script + _SAY, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=CLEAN | {"SKYCAP_REDIS_URL": "unix:///nowhere.sock", "SKYCAP_DATABASE_URL": "postgresql://u@127.0.0.1:1/d"},
    )
    return set(done.stdout.splitlines()[-1].split()) & _HEAVY


def test_no_help_loads_what_its_command_does() -> None:
    """Every command of the tree is declared here, in one process: what one of them loaded would show."""
    assert _heavy_modules_of(_DECLARE) == set()


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        ("queues list", _NEEDED_FOR_REDIS),
        ("jobs list", _NEEDED_FOR_REDIS),
        ("dead list", _NEEDED_FOR_REDIS),
        ("cache stats", _NEEDED_FOR_REDIS),
        ("alerts list", _NEEDED_FOR_REDIS),
        ("mail ledger", _NEEDED_FOR_POSTGRESQL),
        ("outbox", _NEEDED_FOR_POSTGRESQL),
        ("kinds", _NEEDED_FOR_PLUGINS),
        ("breakers list", _NEEDED_FOR_PLUGINS),
        ("schedules list", _NEEDED_FOR_PLUGINS | {"apscheduler"}),
    ],
)
def test_a_status_call_loads_what_it_needs_and_no_more(command: str, needed: set[str]) -> None:
    loaded = _heavy_modules_of(_RUN, *command.split())
    assert loaded <= needed, f"{command} loads {', '.join(sorted(loaded - needed))} besides"
