"""``skycap schedules`` and the tables of schedules, as an admin uses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.daemons import Site, skycap

CHORES = """
from skycap import Context, Payload, Plugin

plugin = Plugin("chores")


class Chore(Payload, kind="do-chore", queue="scheduled"):
    room: str = "hall"


@plugin.job()
async def do_chore(ctx: Context, payload: Chore) -> str:
    return payload.room


plugin.schedule("30 2 * * *", Chore(), zone="Europe/Berlin", name="sweep")
"""


@pytest.fixture
def site(redis_url: str, tmp_path: Path, plugins_folder: Path) -> Site:
    (plugins_folder / "chores.py").write_text(CHORES)
    return Site(folder=tmp_path, redis_url=redis_url, plugins_dir=plugins_folder, load_plugins=("chores",))


async def told(site: Site, *arguments: str) -> Any:
    done = await skycap("schedules", *arguments, "--config", site.config, "--json")
    assert done.code == 0, done.err
    return done.json


async def test_a_schedule_is_paused_resumed_run_and_ticked_by_hand(site: Site) -> None:
    (before,) = await told(site, "list")
    assert {key: before[key] for key in ("schedule", "when", "zone", "standing", "last", "outcome", "overlap")} == {
        "schedule": "sweep",
        "when": "30 2 * * *",
        "zone": "Europe/Berlin",
        "standing": "on",
        "last": None,
        "outcome": None,
        "overlap": "skip",
    }
    assert before["next"].endswith(":30:00.000Z")
    assert await told(site, "pause", "sweep", "--for", "10m") == {
        "schedule": "sweep",
        "standing": "paused",
        "forSeconds": 600.0,
    }
    assert (await told(site, "run", "sweep", "--tick"))["became"] == "paused"
    assert await told(site, "resume", "sweep") == {"schedule": "sweep", "standing": "on"}
    assert (await told(site, "run", "sweep", "--tick"))["became"] == "known"
    job_id = (await told(site, "run", "sweep"))["jobId"]
    (after,) = await told(site, "list")
    assert (after["outcome"], after["lastRunJobId"], after["lastRunState"]) == ("skipped: paused", job_id, "available")
    shown = await skycap("schedules", "list", "--config", site.config)
    assert shown.out.splitlines()[0].split() == (
        "schedule when zone kind plugin last outcome next standing".split()  # noqa: SIM905 - as it is printed
    )
    said = await skycap("schedules", "run", "sweep", "--tick", "--config", site.config)
    assert said.out.startswith("sweep: the tick of ")
    assert said.out.endswith(" UTC was decided before\n")


async def test_an_admin_changes_a_plugins_schedule_key_by_key_and_adds_others(site: Site) -> None:
    site.extra["schedules.sweep"] = {"zone": "Europe/Istanbul", "enabled": False}
    site.extra["schedules.dust"] = {"kind": "do-chore", "every_seconds": 900, "jitter_seconds": 60}
    site.extra["schedules.once"] = {"kind": "do-chore", "at": "2036-12-24T08:00", "zone": "Europe/Istanbul"}
    sweep, dust, once = await told(site, "list")
    assert (sweep["crontab"], sweep["zone"], sweep["standing"]) == ("30 2 * * *", "Europe/Istanbul", "off")
    assert (dust["when"], dust["jitterSeconds"], dust["plugin"]) == ("every 900 s", 60, None)
    assert once["next"] == "2036-12-24T05:00:00.000Z"


async def test_a_schedule_can_be_said_in_the_environment(site: Site) -> None:
    environ = {"SKYCAP_SCHEDULES_SWEEP_CRONTAB": "0 5 * * *", "SKYCAP_SCHEDULES_SWEEP_PAYLOAD": '{"room": "attic"}'}
    done = await skycap("schedules", "list", "--config", site.config, "--json", environ=environ)
    assert [each["crontab"] for each in done.json] == ["0 5 * * *"]


@pytest.mark.parametrize(
    ("name", "table", "problem"),
    [
        ("sweep", {"crontab": "61 2 * * *"}, "schedule sweep of plugin chores: '61 2 * * *': "),
        ("sweep", {"zone": "Mars/Olympus"}, "schedule sweep of plugin chores: there is no time zone 'Mars/Olympus'"),
        ("swepe", {"enabled": False}, "schedules.swepe: no plugin has a schedule of this name; did you mean sweep?"),
        ("dust", {"kind": "do-chore"}, "schedules.dust: says when by nothing; give one of crontab, every and at"),
        ("dust", {"kind": "do-chores", "every_seconds": 60}, "schedules.dust.kind: no plugin handles 'do-chores'"),
        ("sweep.payload", {"rom": 1}, "schedules.sweep.payload: do-chore: rom: no field"),
        ("sweep", {"crontab": "0 2 * * *", "every_seconds": 60}, "schedules.sweep: says when in 2 ways; give one of"),
        ("sweep", {"every_seconds": 0.5}, "schedules.sweep.every_seconds: 0.5 is not at least 1; give a number from 1"),
        ("sweep", {"at": "tomorrow"}, 'schedules.sweep.at: "tomorrow" is no time; write it as 2026-12-24T08:00+03:00'),
        ("sweep", {"overlap": "queue"}, 'schedules.sweep.overlap: "queue" is none of the choices; give skip or allow'),
        ("sweep", {"catch_up": "all"}, 'give overlap = "allow"'),
    ],
)
async def test_a_table_that_makes_no_sense_is_a_mistake_in_the_configuration(
    site: Site, name: str, table: dict[str, Any], problem: str
) -> None:
    site.extra[f"schedules.{name}"] = table
    done = await skycap("schedules", "list", "--config", site.config)
    assert (done.code, done.out) == (78, "")
    assert problem in done.err
    assert len(done.err.splitlines()) == 1


async def test_a_daemon_does_not_start_with_a_zone_that_does_not_exist(site: Site) -> None:
    site.extra["schedules.sweep"] = {"zone": "Mars/Olympus"}
    done = await skycap("run", "--config", site.config)
    assert done.code == 78
    assert "there is no time zone 'Mars/Olympus'" in done.err + done.out


async def test_a_schedule_that_there_is_not_is_a_usage_error(site: Site) -> None:
    for verb in ("run", "pause", "resume"):
        done = await skycap("schedules", verb, "sweeping", "--config", site.config)
        assert (done.code, done.out) == (64, "")
        assert "there is no schedule 'sweeping'; known: sweep" in done.err
