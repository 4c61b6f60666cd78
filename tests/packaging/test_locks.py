"""The locks are what `./skycap` installs: complete, hashed, and free of anything that belongs to one machine."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

CHECKOUT = Path(__file__).resolve().parents[2]
RUN_LOCK = CHECKOUT / "requirements.lock"
DEV_LOCK = CHECKOUT / "requirements.dev.lock"

ENTRY = re.compile(r"(?P<pin>[a-z0-9-]+==[a-z0-9.]+( ; [^\n\\]+)?)( \\\n    --hash=sha256:[0-9a-f]{64})+\n")


def text_of(lock: Path) -> str:
    return "".join(line for line in lock.read_text().splitlines(keepends=True) if not line.startswith("#"))


def pins_of(lock: Path) -> Mapping[str, Requirement]:
    pins = (Requirement(entry["pin"]) for entry in ENTRY.finditer(text_of(lock)))
    return {canonicalize_name(pin.name): pin for pin in pins}


def wanted(*, extras: Iterable[str], groups: Iterable[str]) -> list[Requirement]:
    pyproject: dict[str, Any] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    project = pyproject["project"]
    lines: list[str] = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    for group in groups:
        lines += pyproject["dependency-groups"][group]
    return [Requirement(line) for line in lines]


def out_of_step(lock: Path, requirements: Iterable[Requirement]) -> list[str]:
    pins = pins_of(lock)
    return [str(wish) for wish in requirements if not is_met(wish, pins)]


def is_met(wish: Requirement, pins: Mapping[str, Requirement]) -> bool:
    pin = pins.get(canonicalize_name(wish.name))
    if pin is None:
        return False
    (specifier,) = pin.specifier
    return Version(specifier.version) in wish.specifier


def test_the_run_lock_meets_every_requirement_of_skycap_embedded_and_of_the_bootstrap() -> None:
    requirements = wanted(extras=["embedded"], groups=["bootstrap"])

    assert out_of_step(RUN_LOCK, requirements) == [], "renew the locks: ./skycap lock"


def test_the_dev_lock_meets_every_requirement_there_is() -> None:
    requirements = wanted(extras=["embedded", "otel", "uvloop"], groups=["bootstrap", "dev"])

    assert out_of_step(DEV_LOCK, requirements) == [], "renew the locks: ./skycap lock"


def test_a_requirement_that_is_absent_or_of_another_version_would_be_noticed() -> None:
    requirements = [Requirement("aiohttp>=99"), Requirement("not-in-the-lock"), Requirement("aiohttp")]

    assert out_of_step(RUN_LOCK, requirements) == ["aiohttp>=99", "not-in-the-lock"]


def test_the_dev_lock_adds_to_the_run_lock_and_changes_nothing_of_it() -> None:
    run, dev = pins_of(RUN_LOCK), pins_of(DEV_LOCK)

    assert {name: str(dev.get(name)) for name in run} == {name: str(pin) for name, pin in run.items()}


@pytest.mark.parametrize("lock", [RUN_LOCK, DEV_LOCK], ids=lambda lock: str(lock.name))
def test_a_lock_holds_pins_with_hashes_and_nothing_else(lock: Path) -> None:
    """No address of an index, no path, no option; and pip would refuse all of it for one pin without a hash."""
    assert ENTRY.sub("", text_of(lock)) == ""


@pytest.mark.parametrize("lock", [RUN_LOCK, DEV_LOCK], ids=lambda lock: str(lock.name))
def test_a_lock_serves_every_supported_python(lock: Path) -> None:
    """Debian 12 has Python 3.11.2, for which redis needs a package that newer ones do without."""
    marker = pins_of(lock)["async-timeout"].marker

    assert marker is not None
    assert marker.evaluate({"python_full_version": "3.11.2"})
    assert not marker.evaluate({"python_full_version": "3.13.0"})
