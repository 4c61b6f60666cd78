"""The unit files as systemd reads them, and what they take from skycap; nothing is started."""

from __future__ import annotations

import os
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
UNITS = ("skycap.target", "skycap@.service", "skycap@.socket", "skycap-schedule@.service", "skycap-schedule@.timer")
DROP_INS = sorted(file.relative_to(FOLDER / "drop-ins") for file in (FOLDER / "drop-ins").rglob("*.conf"))
FOR_LATER_SYSTEMD = {"notify-reload.conf": "Failed to parse service type, ignoring: notify-reload"}
MOST_EXPOSURE = 15
"""Of 100; skycap needs the network and the file system, which alone is 11."""


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A folder with the units, whose program is one that every machine has: systemd looks whether it exists."""
    needs("systemd-analyze")
    program = value_of("ExecStart").split()[0]
    for name in UNITS:
        (tmp_path / name).write_text((FOLDER / name).read_text().replace(program, "/bin/true"))
    return tmp_path


def needs(program: str) -> None:
    if shutil.which(program) is None:
        skip(f"there is no {program} on PATH")


def add(drop_in: Path, units: Path) -> None:
    (units / drop_in).parent.mkdir()
    shutil.copy(FOLDER / "drop-ins" / drop_in, units / drop_in)


def value_of(directive: str, unit: str = "skycap@.service") -> str:
    (value,) = re.findall(rf"^{directive}=(.*)$", (FOLDER / unit).read_text(), re.MULTILINE)
    return str(value)


def output(*command: str | Path) -> tuple[int, str]:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def verdict(units: Path, *names: str) -> tuple[int, str]:
    return output("systemd-analyze", "verify", "--man=no", *(units / name for name in names))


def exposure(units: Path, *names: str) -> tuple[int, str]:
    """The exit code says whether it is too much."""
    limits = ("--no-pager", "--offline=true", f"--threshold={MOST_EXPOSURE}")
    return output("systemd-analyze", "security", *limits, *(units / name for name in names))


def test_systemd_has_nothing_to_say_against_the_units(units: Path) -> None:
    assert verdict(units, *UNITS) == (0, "")


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_would_have_something_to_say_against_a_line_that_it_does_not_know(units: Path, unit: str) -> None:
    with (units / unit).open("a") as file:
        file.write("[Unit]\nAftre=basic.target\n")
    assert "Aftre" in verdict(units, unit)[1]


@pytest.mark.parametrize("drop_in", DROP_INS, ids=str)
def test_systemd_understands_each_drop_in_and_the_service_stays_hardly_exposed(units: Path, drop_in: Path) -> None:
    add(drop_in, units)
    unit = drop_in.parent.name.removesuffix(".d")
    code, said = verdict(units, unit)
    if drop_in.name in FOR_LATER_SYSTEMD and systemd_version() < 253:
        assert FOR_LATER_SYSTEMD[drop_in.name] in said
        assert len(said.splitlines()) == 1
    else:
        assert (code, said) == (0, "")
    if unit.endswith(".service"):
        code, said = exposure(units, unit)
        assert code == 0, said


def test_a_drop_in_is_looked_at(units: Path) -> None:
    add(DROP_INS[0], units)
    with (units / DROP_INS[0]).open("a") as file:
        file.write("Memroy=1G\n")
    assert "Memroy" in verdict(units, DROP_INS[0].parent.name.removesuffix(".d"))[1]


def systemd_version() -> int:
    """Such as 252 of "systemd 252 (252.39-1~deb12u2)"."""
    return int(output("systemd-analyze", "--version")[1].split()[1])


def test_each_drop_in_is_explained_in_a_comment() -> None:
    assert [drop_in for drop_in in DROP_INS if not (FOLDER / "drop-ins" / drop_in).read_text().startswith("# ")] == []


def test_the_services_are_hardly_exposed(units: Path) -> None:
    code, said = exposure(units, "skycap@.service", "skycap-schedule@.service")
    assert code == 0, said


def test_the_account_and_the_folders_of_an_admin_can_be_made(tmp_path: Path) -> None:
    for program in ("systemd-sysusers", "systemd-tmpfiles"):
        needs(program)
    if os.geteuid() != 0:
        skip("only root can give folders to an account")
    (tmp_path / "etc").mkdir()
    assert output("systemd-sysusers", f"--root={tmp_path}", FOLDER / "sysusers.d" / "skycap.conf")[0] == 0
    made = output("systemd-tmpfiles", f"--root={tmp_path}", "--create", FOLDER / "tmpfiles.d" / "skycap.conf")
    assert made == (0, "")
    (account,) = (line for line in (tmp_path / "etc/passwd").read_text().splitlines() if line.startswith("skycap:"))
    assert account.split(":")[4:] == ["skycap job daemon", "/var/lib/skycap", "/usr/sbin/nologin"]
    modes = {name: (tmp_path / name).stat().st_mode & 0o7777 for name in ("etc/skycap", "etc/skycap/credentials")}
    assert modes == {"etc/skycap": 0o755, "etc/skycap/credentials": 0o700}


def test_no_file_is_without_a_mention_in_the_readme() -> None:
    readme = (FOLDER / "README.md").read_text()
    files = {file.name for file in FOLDER.iterdir()}
    assert files >= {"README.md", "skycap.catalog", *UNITS, "drop-ins", "sysusers.d", "tmpfiles.d"}
    named = [
        *UNITS,
        "skycap.catalog",
        *(drop_in.name for drop_in in DROP_INS),
        "sysusers.d/skycap.conf",
        "tmpfiles.d/skycap.conf",
    ]
    assert [name for name in named if f"`{name.replace('@.', '@NAME.')}`" not in readme] == []


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
