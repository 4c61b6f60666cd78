"""The unit files as systemd reads them, and what they take from skycap; nothing is started."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from skycap.cli import skycap
from skycap.exits import Exit
from skycap.settings import Settings
from tests.support.skips import skip

FOLDER = Path(__file__).resolve().parents[2] / "systemd"
UNITS = ("skycap.target", "skycap@.service", "skycap-schedule@.service", "skycap-schedule@.timer")
MOST_EXPOSURE = 15
"""Of 100; skycap needs the network and the file system, which alone is 11."""


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A folder with the units, whose program is one that every machine has: systemd looks whether it exists."""
    if shutil.which("systemd-analyze") is None:
        skip("there is no systemd-analyze on PATH")
    program = value_of("ExecStart").split()[0]
    for name in UNITS:
        (tmp_path / name).write_text((FOLDER / name).read_text().replace(program, "/bin/true"))
    return tmp_path


def value_of(directive: str, unit: str = "skycap@.service") -> str:
    (value,) = re.findall(rf"^{directive}=(.*)$", (FOLDER / unit).read_text(), re.MULTILINE)
    return str(value)


def analyze(*arguments: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        ["systemd-analyze", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout


def test_systemd_has_nothing_to_say_against_the_units(units: Path) -> None:
    assert analyze("verify", "--man=no", *(units / name for name in UNITS)) == (0, "")


def test_systemd_would_have_something_to_say_against_a_line_that_it_does_not_know(units: Path) -> None:
    with (units / "skycap.target").open("a") as target:
        target.write("[Unit]\nAftre=basic.target\n")
    _, said = analyze("verify", "--man=no", units / "skycap.target")
    assert "Aftre" in said


def test_the_services_are_hardly_exposed(units: Path) -> None:
    code, said = analyze(
        "security",
        "--no-pager",
        "--offline=true",
        f"--threshold={MOST_EXPOSURE}",
        units / "skycap@.service",
        units / "skycap-schedule@.service",
    )
    assert code == 0, said


def test_no_unit_is_without_a_mention_in_the_readme() -> None:
    readme = (FOLDER / "README.md").read_text()
    assert {file.name for file in FOLDER.iterdir()} == {"README.md", "skycap.catalog", *UNITS}
    assert "`skycap@NAME`" in readme
    assert "`skycap.target`" in readme
    assert "`skycap-schedule@NAME.timer`" in readme


@pytest.mark.parametrize("unit", ["skycap@.service", "skycap-schedule@.service"])
def test_what_it_starts_is_a_command_of_skycap(unit: str) -> None:
    program, *words = value_of("ExecStart", unit).split()
    assert program == "/opt/skycap/bin/skycap"
    command: click.Command = skycap
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(click.Context(command), words)
        assert found is not None, name
        command = found
    command.make_context(command.name, words, resilient_parsing=True)


def test_a_mistake_in_the_configuration_is_what_prevents_a_restart() -> None:
    assert value_of("RestartPreventExitStatus") == str(int(Exit.CONFIGURATION))


def test_a_stop_is_given_more_time_than_the_jobs_have() -> None:
    assert int(value_of("TimeoutStopSec")) >= Settings().worker.grace_seconds + 10


def test_poison_jobs_cannot_use_up_the_restarts() -> None:
    """Ten of them, which is more than one bad deployment enqueues before somebody looks."""
    assert int(value_of("StartLimitBurst")) >= 10 * Settings().worker.poison_after
