"""Queues, limits and kinds, changed from the command line while they run."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from skycap import AsyncClient, Payload
from skycap.client import BaseClient
from skycap.engine.link import Link
from skycap.engine.queue import NewJob, Queue, Step
from skycap.installation import load_plugins, queues
from skycap.settings import load_settings
from tests.support.commands import command
from tests.support.daemons import Finished, Site

EXAMPLES = Path(__file__).resolve().parents[2] / "plugins" / "examples"

LIMITS: dict[str, dict[str, Any]] = {
    "limits.receivers": {"key": "userEmail|domain", "rate_max": 100, "rate_seconds": 60.0},
    "limits.crm": {"concurrency": 3, "rate_max": 10},
    "limits.idle": {"concurrency": 1},
    "queues.default": {"limits": ["crm", "receivers"]},
    "queues.processing": {"limits": ["crm"]},
}

RENAMED = """
from skycap import Context, Payload, Plugin

plugin = Plugin("renamed")


class GoodDay(Payload, kind="say-good-day", aliases=("say-hello",)):
    name: str


@plugin.job()
async def say_good_day(ctx: Context, payload: GoodDay) -> None:
    ctx.log.info("good day")
"""


class Greeting(Payload, kind="say-hello"):
    name: str = "Ada"
    user_email: str = "ada@example.com"


@pytest.fixture
def site(redis_url: str, tmp_path: Path) -> Site:
    return Site(folder=tmp_path, redis_url=redis_url, plugins_dir=EXAMPLES, extra=LIMITS)


@pytest.fixture
async def link(redis_url: str) -> AsyncGenerator[Link]:
    link = Link.to(redis_url)
    yield link
    await link.close()


async def run(site: Site, *arguments: str) -> Finished:
    return await command(*arguments, "--config", site.config)


async def configured(site: Site, link: Link) -> dict[str, Queue]:
    """The queues with their policies in Redis, as a daemon that starts leaves them."""
    settings = load_settings(site.config)
    found = {queue.name: queue for queue in queues(link, settings, load_plugins(settings))}
    for queue in found.values():
        await queue.configure()
    return found


async def claim(queue: Queue, *, slots: int = 10) -> Step:
    lease = timedelta(seconds=30)
    return await queue.step([], slots=slots, worker="here", lease=lease, poison_after=3)


async def add(queue: Queue, *payloads: Greeting) -> None:
    await queue.add([NewJob(envelope=BaseClient().envelope(payload)) for payload in payloads])


async def listed(site: Site, name: str) -> dict[str, Any]:
    done = await run(site, "queues", "list", "--json")
    (found,) = [queue for queue in done.json if queue["queue"] == name]
    return dict(found)


async def test_a_queue_is_changed_for_all_workers_and_reset(site: Site, link: Link) -> None:
    queue = (await configured(site, link))["email"]
    done = await run(site, "queues", "set", "email", "--fleet-concurrency", "1", "--rate", "20/1s", "--order", "lifo")
    assert (done.code, done.out) == (0, "email: fleet-concurrency 1; rate 20/1s; order lifo\n")
    await add(queue, Greeting(), Greeting())
    assert len((await claim(queue)).claims) == 1
    assert (await listed(site, "email"))["changed"] == {"fleet-concurrency": "1", "rate": "20/1s", "order": "lifo"}
    assert (await run(site, "queues", "reset", "email", "rate")).out == "email: fleet-concurrency 1; order lifo\n"
    assert (await run(site, "queues", "reset", "email")).out == "email: as configured\n"
    assert len((await claim(queue)).claims) == 1


async def test_what_was_set_holds_over_a_daemon_that_starts(site: Site, link: Link) -> None:
    await run(site, "queues", "set", "default", "--max-waiting", "1", "--keep-finished", "2h", "--keep-discarded", "7d")
    queue = (await configured(site, link))["default"]
    assert (await queue.parts_set()) == {"max_waiting": "1", "keep_finished": "7200000", "keep_discarded": "604800000"}
    enqueue = ("enqueue", "say-hello", "--payload", '{"name": "Ada"}')
    assert (await run(site, *enqueue)).code == 0
    full = await run(site, *enqueue)
    assert (full.code, full.out) == (75, "")
    assert full.err == "queue default is full; nothing was stored, try again later"


async def test_none_takes_a_configured_bound_away(site: Site, link: Link) -> None:
    site.extra = {"queues.email": {"rate_max": 1, "rate_seconds": 60.0}}
    queue = (await configured(site, link))["email"]
    await add(queue, *(Greeting() for _ in range(5)))
    assert len((await claim(queue)).claims) == 1
    done = await run(site, "queues", "set", "email", "--rate", "none", "--json")
    assert done.json == {"queue": "email", "changed": {"rate": "none"}}
    assert len((await claim(queue)).claims) == 4


async def test_the_table_of_queues_says_what_was_changed_and_held(site: Site, link: Link) -> None:
    await configured(site, link)
    await run(site, "queues", "set", "email", "--keep-finished-count", "7")
    await run(site, "kinds", "pause", "say-hello")
    lines = (await run(site, "queues", "list")).out.splitlines()
    assert lines[0].split() == [
        *("queue", "available", "at", "limits", "later", "running", "discarded", "paused", "changed")
    ]
    assert next(line for line in lines if line.startswith("email ")).endswith("  keep-finished-count 7")
    assert next(line for line in lines if line.startswith("default ")).endswith("  kind:say-hello held")
    assert next(line for line in lines if line.startswith("processing ")).split()[-2:] == ["no", "-"]


async def test_a_kind_is_paused_alone_and_resumed(site: Site, link: Link) -> None:
    queue = (await configured(site, link))["default"]
    paused = await run(site, "kinds", "pause", "say-hello", "--for", "10m")
    assert (paused.code, paused.out.startswith("say-hello is paused until 20")) == (0, True)
    await add(queue, Greeting())
    assert list((await claim(queue)).claims) == []
    assert (await listed(site, "default"))["waitingAtLimits"] == 1
    assert (await run(site, "kinds", "resume", "say-hello")).out == "say-hello is not paused\n"
    assert len((await claim(queue)).claims) == 1


async def test_a_kind_is_paused_under_its_former_names_too(site: Site, link: Link, plugins_folder: Path) -> None:
    (plugins_folder / "renamed.py").write_text(RENAMED)
    site.plugins_dir = plugins_folder
    queue = (await configured(site, link))["default"]
    await run(site, "kinds", "pause", "say-good-day")
    await add(queue, Greeting())
    assert list((await claim(queue)).claims) == []
    await run(site, "kinds", "resume", "say-hello")
    assert await queue.gates_shut() == {}


async def test_kinds_are_listed_with_and_without_a_verb(site: Site) -> None:
    plain, spelt = await run(site, "kinds"), await run(site, "kinds", "list")
    assert plain.code == 0
    assert "say-hello" in plain.out
    assert spelt.out == plain.out
    assert "pause" in (await command("kinds", "--help")).out


async def test_limits_are_listed_with_the_queues_that_use_them(site: Site) -> None:
    found = {limit["limit"]: limit for limit in (await run(site, "limits", "list", "--json")).json}
    assert set(found) == {"crm", "receivers"}
    assert found["crm"]["queues"] == ["default", "processing"]
    assert (found["crm"]["rate"], found["crm"]["concurrency"], found["crm"]["changed"]) == ("10/1s", 3, False)
    assert (found["receivers"]["key"], found["receivers"]["rate"]) == ("userEmail|domain", "100/1m")


async def test_a_limit_that_queues_share_is_changed_in_all_of_them(site: Site, link: Link) -> None:
    found = await configured(site, link)
    done = await run(site, "limits", "set", "crm", "--concurrency", "1")
    assert (done.code, done.out) == (0, "crm: 10/1s, 1 at a time\n")
    for name in ("default", "processing"):
        await add(found[name], Greeting(), Greeting())
    assert [len((await claim(found[name])).claims) for name in ("default", "processing")] == [1, 0]
    assert "limit crm" in (await listed(site, "processing"))["changed"]
    row = next(line for line in (await run(site, "limits", "list")).out.splitlines() if line.startswith("crm "))
    assert row.split() == ["crm", "-", "10/1s", "1", "default,", "processing", "yes", "-"]
    assert (await run(site, "limits", "reset", "crm")).out == "crm: 10/1s, 3 at a time\n"
    assert len((await claim(found["default"])).claims) == 1


async def test_a_figure_that_is_not_given_stays_as_it_was_set(site: Site) -> None:
    await run(site, "limits", "set", "crm", "--rate", "5/1s")
    assert (await run(site, "limits", "set", "crm", "--concurrency", "2")).out == "crm: 5/1s, 2 at a time\n"
    assert (await run(site, "limits", "set", "crm", "--rate", "none")).out == "crm: 2 at a time\n"
    assert (await run(site, "limits", "set", "crm", "--concurrency", "none")).out == "crm: none\n"


async def test_a_limit_is_reset_also_when_it_was_not_shared_yet_as_it_was_set(site: Site, link: Link) -> None:
    queue = (await configured(site, link))["default"]
    await queue.set({"limit:crm": '{"concurrency": 1}'})
    await run(site, "limits", "reset", "crm")
    assert await queue.parts_set() == {}


async def test_one_value_of_a_limit_is_held_and_released(site: Site, link: Link) -> None:
    queue = (await configured(site, link))["default"]
    held = await run(site, "limits", "hold", "receivers:Ada@Example.COM", "--for", "5m")
    assert held.out.startswith("receivers:example.com is held until 20")
    await add(queue, Greeting(), Greeting(user_email="bo@example.org"))
    assert len((await claim(queue)).claims) == 1
    found = {limit["limit"]: limit for limit in (await run(site, "limits", "list", "--json")).json}
    assert [each["value"] for each in found["receivers"]["held"]] == ["example.com"]
    assert (await run(site, "limits", "release", "receivers:example.com")).out == "receivers:example.com is not held\n"
    assert len((await claim(queue)).claims) == 1


async def test_a_shared_limit_is_held_as_a_whole_in_every_queue(site: Site, link: Link) -> None:
    found = await configured(site, link)
    assert (await run(site, "limits", "hold", "crm")).out == "crm is held\n"
    for name in ("default", "processing"):
        await add(found[name], Greeting())
        assert list((await claim(found[name])).claims) == [], name
    row = next(line for line in (await run(site, "limits", "list")).out.splitlines() if line.startswith("crm "))
    assert row.split()[-1] == "all"
    await run(site, "limits", "release", "crm")
    assert [len((await claim(found[name])).claims) for name in ("default", "processing")] == [1, 1]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("queues", "set", "email"), "say what to change, such as --rate 20/1s"),
        (("queues", "set", "email", "--rate", "ten"), "'ten' is no rate; give so many in a time, such as 20/1s"),
        (("queues", "set", "email", "--fleet-concurrency", "0"), "give a number from 1 to 100000"),
        (("queues", "set", "email", "--keep-finished", "11y"), "'11y' is no duration"),
        (("queues", "set", "nowhere", "--order", "lifo"), "there is no queue 'nowhere'; configured: default, email"),
        (("queues", "reset", "email", "speed"), "'speed' cannot be changed while running; known: fleet-concurrency"),
        (("limits", "set", "crn", "--concurrency", "2"), "there is no limit 'crn'; configured: receivers, crm, idle"),
        (("limits", "set", "idle", "--concurrency", "2"), "no queue and no kind has idle in its limits"),
        (("limits", "set", "crm"), "say what to change: --rate 5/1s, --concurrency 2 or both"),
        (("limits", "set", "crm", "--concurrency", "0"), "give a number from 1 to 100000"),
        (
            ("limits", "hold", "receivers:"),
            "receivers counts by userEmail; say which value, as in receivers:VALUE, or leave out the colon",
        ),
        (("limits", "hold", "crm:example.com"), "crm counts all jobs as one; leave out :example.com"),
        (("limits", "hold", "crm", "--for", "4015d"), "4015d is over the limit of ten years; is the unit right?"),
        (("kinds", "pause", "say-helo"), "no plugin handles 'say-helo'; known: "),
        (("kinds", "nonsense"), "No such command 'nonsense'"),
    ],
)
async def test_what_cannot_be_changed_is_a_usage_error(site: Site, arguments: tuple[str, ...], problem: str) -> None:
    done = await run(site, *arguments)
    assert (done.code, done.out) == (64, "")
    assert problem in done.err
    async with AsyncClient(site.redis_url) as client:
        for name in ("email", "default"):
            queue = client.queue(name)
            assert (await queue.parts_set(), await queue.gates_shut()) == ({}, {}), name
