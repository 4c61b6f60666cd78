"""``skycap plugins``: what an admin sees of them, and how an author begins one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from skycap import AsyncClient, JobState
from tests.support.commands import command
from tests.support.daemons import CLEAN, Site, skycap
from tests.support.workers import eventually


@pytest.fixture
def site(redis_url: str, tmp_path: Path, plugins_folder: Path) -> Site:
    return Site(folder=tmp_path, redis_url=redis_url, plugins_dir=plugins_folder)


async def test_a_new_plugin_is_enqueued_and_performed(site: Site, plugins_folder: Path, redis_url: str) -> None:
    begun = await command("plugins", "new", "loyalty-points", "--into", plugins_folder, "--json")
    file = plugins_folder / "loyalty_points.py"
    assert (begun.code, begun.json["plugin"], begun.json["files"]) == (0, "loyalty-points", [str(file)])
    assert len(file.read_text().splitlines()) <= 20
    site.load_plugins = ("loyalty-points",)
    async with site.daemon(), AsyncClient(redis_url) as client:
        words = (begun.json["kind"], "--payload", '{"who": "Ada"}', "--config", site.config, "--json")
        job_id = (await command("enqueue", *words)).json["jobId"]

        async def done() -> bool:
            job = await client.queue("default").get(job_id)
            return job is not None and (job.state, job.result) == (JobState.COMPLETED, "Hello, Ada!")

        await eventually(done)


def test_a_new_package_has_a_test_that_passes_and_its_entry_point(tmp_path: Path) -> None:
    begun = asyncio.run(command("plugins", "new", "loyalty", "--package", "--into", tmp_path))
    assert begun.code == 0
    assert f"pip install {tmp_path}/loyalty" in begun.out
    project = tomllib.loads((tmp_path / "loyalty" / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["skycap"] == {"loyalty": "loyalty_plugin:plugin"}
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path / "loyalty",
        env=CLEAN,
        capture_output=True,
        text=True,
        check=False,
    )
    assert tested.returncode == 0, tested.stdout
    assert "1 passed" in tested.stdout
    listed = subprocess.run(
        [sys.executable, "-c", "import loyalty_plugin; print(loyalty_plugin.plugin.name)"],
        cwd=tmp_path / "loyalty" / "src",
        env=CLEAN,
        capture_output=True,
        text=True,
        check=True,
    )
    assert listed.stdout == "loyalty\n"


@pytest.mark.parametrize("options", [(), ("--package",)])
async def test_nothing_is_overwritten(tmp_path: Path, options: tuple[str, ...]) -> None:
    assert (await command("plugins", "new", "loyalty", *options, "--into", tmp_path)).code == 0
    before = _texts(tmp_path)
    again = await command("plugins", "new", "loyalty", *options, "--into", tmp_path)
    assert (again.code, "is there already, and is not overwritten" in again.err) == (64, True)
    assert _texts(tmp_path) == before


@pytest.mark.parametrize("name", ["Loyalty", "1st", "-x", "a--b", "a/b", "", "x" * 51])
async def test_what_cannot_be_a_name_is_refused(tmp_path: Path, name: str) -> None:
    done = await command("plugins", "new", "--into", tmp_path, "--", name)
    assert (done.code, _texts(tmp_path)) == (64, {})
    assert "cannot be a plugin's name" in done.err


async def test_the_list_says_which_are_broken_or_left_out_and_why(site: Site, plugins_folder: Path) -> None:
    (plugins_folder / "broken.py").write_text("import nowhere_to_be_found")
    site.extra["queues.default"] = {}
    config = site.config
    config.write_text('disabled_plugins = ["upkeep"]\n' + config.read_text())
    found = {each["name"]: each for each in (await skycap("plugins", "list", "--config", config, "--json")).json}
    assert (found["bookings"]["state"], found["bookings"]["error"]) == ("loaded", None)
    assert found["bookings"]["kinds"] == ["send-booking-confirmation"]
    assert found["bookings"]["version"]
    assert (found["broken"]["state"], "nowhere_to_be_found" in found["broken"]["error"]) == ("broken", True)
    assert (found["upkeep"]["state"], found["upkeep"]["error"]) == ("left out", "disabled_plugins names it")
    table = (await skycap("plugins", "list", "--config", config)).out
    assert "disabled_plugins names it" in table


def _texts(folder: Path) -> dict[Path, str]:
    return {file: file.read_text() for file in folder.rglob("*.*") if file.is_file()}
