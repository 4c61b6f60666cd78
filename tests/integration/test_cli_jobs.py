"""Jobs and dead letters, enqueued, found and put to another time from the command line."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from skycap import AsyncClient, Payload, Unique
from skycap.engine.queue import Claim, Queue, Settlement
from skycap.job import Job, JobState
from skycap.outcome import Cancelled, Completed, DeadReason, Discarded, Retry
from tests.support.commands import command
from tests.support.daemons import Finished, Site, skycap

EXAMPLES = Path(__file__).resolve().parents[2] / "plugins" / "examples"
PAYLOAD = ("--payload", '{"name": "Ada"}')


class Greeting(Payload, kind="say-hello"):
    name: str = "Ada"


class Farewell(Payload, kind="say-goodbye"):
    """No plugin knows it."""


@pytest.fixture
def site(redis_url: str, tmp_path: Path) -> Site:
    return Site(folder=tmp_path, redis_url=redis_url, plugins_dir=EXAMPLES)


@pytest.fixture
async def client(redis_url: str) -> AsyncGenerator[AsyncClient]:
    async with AsyncClient(redis_url) as client:
        yield client


async def run(site: Site, *arguments: str) -> Finished:
    return await command(*arguments, "--config", site.config)


async def claimed(queue: Queue, *, slots: int = 1000) -> Sequence[Claim]:
    return await settle(queue, [], slots=slots)


async def settle(queue: Queue, settlements: Sequence[Settlement], *, slots: int = 0) -> Sequence[Claim]:
    step = await queue.step(settlements, slots=slots, worker="here", lease=timedelta(seconds=30), poison_after=3)
    assert list(step.rejected) == []
    return step.claims


async def bury(queue: Queue, reason: DeadReason = DeadReason.PERMANENT) -> None:
    """Give up every job that waits."""
    claims = await claimed(queue)
    await settle(queue, [Settlement(claim=claim, outcome=Discarded(reason=reason, error="no")) for claim in claims])


async def stored(queue: Queue, job_id: str) -> Job:
    job = await queue.get(job_id)
    assert job is not None
    return job


def ids(done: Finished) -> list[str]:
    assert done.code == 0, done.err
    return [job["id"] for job in done.json]


async def test_a_job_is_enqueued_with_all_that_can_be_said_of_it(site: Site, client: AsyncClient) -> None:
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    done = await run(
        site,
        *("enqueue", "say-hello", *PAYLOAD, "--at", at.isoformat(), "--deadline", "2h", "--priority", "3"),
        *("--unique", "ada", "--unique-for", "1h", "--tag", "vip", "--tag", "press", "--json"),
    )
    assert (done.code, done.json["state"]) == (0, "scheduled"), done.err
    job = await stored(client.queue("default"), done.json["jobId"])
    assert (job.due_at, job.priority, job.unique_key, job.tags) == (at, 3, "say-hello:ada", ("vip", "press"))
    assert job.deadline is not None
    assert timedelta(0) <= datetime.now(UTC) + timedelta(hours=2) - job.deadline < timedelta(minutes=1)


async def test_a_unique_key_keeps_or_replaces_the_job_that_has_it(site: Site, client: AsyncClient) -> None:
    enqueue = ("enqueue", "say-hello", "--delay", "10m", "--unique", "ada", "--json")
    first = (await run(site, *enqueue, *PAYLOAD)).json
    kept = (await run(site, *enqueue, "--payload", '{"name": "Bo"}')).json
    assert (kept["jobId"], kept["duplicate"]) == (first["jobId"], True)
    shown = await run(site, "jobs", "show", first["jobId"], "--json")
    assert shown.json["payload"] == {"name": "Ada"}
    await run(site, *enqueue, "--payload", '{"name": "Bo"}', "--on-conflict", "replace")
    shown = await run(site, "jobs", "show", first["jobId"], "--json")
    assert (shown.json["payload"], shown.json["uniqueKey"]) == ({"name": "Bo"}, "say-hello:ada")


async def test_waiting_for_a_job_gives_its_result_or_exit_1(site: Site) -> None:
    async with site.daemon():
        done = await skycap("enqueue", "say-hello", *PAYLOAD, "--wait", "20", "--config", site.config, "--json")
        assert (done.code, done.json["state"], done.json["result"]) == (0, "completed", "Hello, Ada!")
    late = await run(site, "enqueue", "say-hello", *PAYLOAD, "--wait", "0.1", "--json")
    assert (late.code, late.json["state"]) == (1, "available")


async def test_waiting_for_a_job_that_failed_says_why(site: Site, client: AsyncClient) -> None:
    await client.enqueue(Greeting(), job_id="greet")
    await bury(client.queue("default"))
    done = await run(site, "enqueue", "say-hello", *PAYLOAD, "--id", "greet", "--wait", "20", "--json")
    assert (done.code, done.json["state"], done.json["reason"]) == (1, "discarded", "permanent")
    assert done.json["error"] == "no"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--priority", "0"), "priority 0 is outside 1 (first) to 1000"),
        (("--delay", "4015d"), "4015d is over the limit of ten years; is the unit right?"),
        (("--delay", "11y"), "'11y' is no duration; give seconds such as 90, or 90s, 15m, 2h or 7d"),
        (("--at", "2050-01-01T00:00Z"), "over the limit of ten years"),
        (("--at", "2026-11-24T08:00"), "2026-11-24T08:00 has no time zone; add one"),
        (("--at", "2026-11-24T08:00Z", "--delay", "1"), "give either a delay or a time (at), not both"),
        (("--deadline", "never"), "'never' is no time; write it as 2026-11-24T08:00+03:00"),
        (("--unique", ""), "--unique: Unique: give either by=(fields…) or key='…', not both and not empty"),
        (("--unique", "ada", "--unique-for", "0"), "holds for no time"),
        (("--unique-for", "1h"), "--unique-for and --on-conflict are for --unique KEY; give that, too"),
        (("--on-conflict", "replace"), "--unique-for and --on-conflict are for --unique KEY"),
        (("--unique", "ada", "--on-conflict", "ignore"), "'ignore' is not one of 'keep', 'replace', 'debounce'"),
        (("--wait", "long"), "'long' is no duration"),
    ],
)
async def test_what_cannot_be_enqueued_is_said_and_nothing_is_stored(
    site: Site, client: AsyncClient, options: tuple[str, ...], problem: str
) -> None:
    done = await run(site, "enqueue", "say-hello", *PAYLOAD, *options)
    assert (done.code, done.out) == (64, "")
    assert problem in done.err
    counts = await client.queue("default").counts()
    assert (counts.available, counts.later) == (0, 0)


async def test_jobs_are_listed_by_kind_and_tag_however_many_others_there_are(site: Site, client: AsyncClient) -> None:
    await client.enqueue_many([Greeting() for _ in range(250)])
    await client.enqueue(Farewell(), job_id="bye", tags=["vip"])
    await client.enqueue(Greeting(), job_id="late", tags=["vip"], delay=timedelta(hours=1))
    listed = ("jobs", "list", "--json")
    assert ids(await run(site, *listed, "--kind", "say-goodbye")) == ["bye"]
    assert sorted(ids(await run(site, *listed, "--tag", "vip"))) == ["bye", "late"]
    assert ids(await run(site, *listed, "--tag", "vip", "--kind", "say-hello")) == ["late"]
    assert ids(await run(site, *listed, "--tag", "VIP")) == []
    assert len(ids(await run(site, *listed, "--kind", "say-hello", "--state", "available", "--limit", "7"))) == 7


async def test_a_state_is_found_behind_others_in_the_same_index(site: Site, client: AsyncClient) -> None:
    queue = client.queue("default")
    await client.enqueue(Greeting(), job_id="failed")
    (claim,) = await claimed(queue)
    await settle(queue, [Settlement(claim=claim, outcome=Retry(delay=timedelta(hours=2), error="no"))])
    await client.enqueue_many([Greeting() for _ in range(150)], delay=timedelta(hours=1))
    assert ids(await run(site, "jobs", "list", "--state", "retryable", "--json")) == ["failed"]
    await client.enqueue_many([Greeting(), Greeting()])
    first, second = await claimed(queue)
    await settle(
        queue,
        [Settlement(claim=first, outcome=Completed()), Settlement(claim=second, outcome=Cancelled(reason="enough"))],
    )
    done = await run(site, "jobs", "list", "--state", "cancelled", "--limit", "1", "--json")
    assert ids(done) == [second.job_id]


async def test_a_running_job_is_shown_with_its_worker_its_progress_and_its_log(site: Site, client: AsyncClient) -> None:
    queue = client.queue("default")
    await client.enqueue(
        Greeting(), job_id="greet", tags=["vip"], unique=Unique(key="ada"), deadline=timedelta(hours=1), priority=2
    )
    (claim,) = await claimed(queue)
    await queue.report(claim, "progress", '{"fraction": 0.5, "note": "half", "at": 1790000000000}')
    await queue.report(claim, "log", "knocked at the door")
    shown = (await run(site, "jobs", "show", "greet", "--json")).json
    assert (shown["worker"], shown["priority"], shown["tags"]) == ("here", 2, ["vip"])
    assert shown["progress"]["fraction"] == 0.5
    assert [line["text"] for line in shown["log"]] == ["knocked at the door"]
    assert shown["deadline"] is not None
    text = (await run(site, "jobs", "show", "greet")).out
    fields = dict(line.split(maxsplit=1) for line in text.partition("\n\n")[0].splitlines())
    assert (fields["progress"], fields["tags"], fields["uniqueKey"]) == ("50% half", "vip", "say-hello:ada")
    assert fields["payload"] == '{"name": "Ada"}'
    assert "result" not in fields
    assert text.splitlines()[-1].endswith("  knocked at the door")


async def test_a_job_that_waits_at_a_limit_says_at_which(site: Site, client: AsyncClient) -> None:
    queue = client.queue("default")
    await queue.shut("kind:say-hello")
    await client.enqueue(Greeting(), job_id="greet")
    assert list(await claimed(queue)) == []
    shown = await run(site, "jobs", "show", "greet", "--json")
    assert (shown.json["state"], shown.json["waitsAt"]) == ("available", "kind:say-hello")


async def test_a_waiting_job_is_put_to_another_time_and_run_now(site: Site, client: AsyncClient) -> None:
    await client.enqueue(Greeting(), job_id="greet")
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    done = await run(site, "jobs", "reschedule", "greet", "--at", at.isoformat(), "--json")
    assert (done.code, done.json["state"], done.json["dueAt"]) == (0, "scheduled", f"{at:%Y-%m-%dT%H:%M:%S}.000Z")
    done = await run(site, "jobs", "reschedule", "greet", "--in", "2h", "--json")
    assert datetime.fromisoformat(done.json["dueAt"]) < at
    done = await run(site, "jobs", "run", "greet", "--json")
    assert (done.code, done.json) == (0, {"id": "greet", "state": "available"})


async def test_a_running_job_has_no_time_to_be_changed(site: Site, client: AsyncClient) -> None:
    await client.enqueue(Greeting(), job_id="greet")
    await claimed(client.queue("default"))
    for arguments in (("run", "greet"), ("reschedule", "greet", "--in", "2h")):
        done = await run(site, "jobs", *arguments)
        assert done.code == 1
        assert "greet is running; only a job that waits or was discarded has a time to be changed" in done.err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("reschedule", "greet"), "give either --in 2h or --at 2026-11-24T08:00+03:00"),
        (("reschedule", "greet", "--in", "1", "--at", "2026-11-24T08:00Z"), "give either --in 2h or --at"),
        (("reschedule", "greet", "--in", "4015d"), "4015d is over the limit of ten years"),
        (("reschedule", "greet", "--at", "2050-01-01T00:00Z"), "over the limit of ten years; is the unit right?"),
        (("run", "nonsense"), "no queue has a job nonsense"),
    ],
)
async def test_a_job_is_not_put_to_a_time_that_cannot_be_meant(
    site: Site, client: AsyncClient, arguments: tuple[str, ...], problem: str
) -> None:
    await client.enqueue(Greeting(), job_id="greet")
    done = await run(site, "jobs", *arguments)
    assert (done.code, done.out) == (64, "")
    assert problem in done.err
    job = await stored(client.queue("default"), "greet")
    assert job.state is JobState.AVAILABLE


async def test_dead_letters_are_listed_by_reason_kind_and_tag(site: Site, client: AsyncClient) -> None:
    queue = client.queue("default")
    await client.enqueue(Greeting(), job_id="vip", tags=["vip"])
    await bury(queue, DeadReason.POISON)
    await client.enqueue(Farewell(), job_id="bye")
    await bury(queue)
    listed = ("dead", "list", "--json")
    assert ids(await run(site, *listed, "--reason", "poison")) == ["vip"]
    assert ids(await run(site, *listed, "--kind", "say-goodbye")) == ["bye"]
    assert ids(await run(site, *listed, "--tag", "vip")) == ["vip"]
    assert ids(await run(site, *listed, "--queue", "email")) == []
    assert (await run(site, *listed, "--reason", "posion")).code == 64


async def test_all_dead_letters_that_fit_are_redriven_at_a_rate_the_oldest_first(
    site: Site, client: AsyncClient
) -> None:
    queue = client.queue("default")
    for number in range(3):
        await client.enqueue(Greeting(), job_id=f"greet-{number}")
        await bury(queue)
    await client.enqueue(Farewell(), job_id="bye")
    await bury(queue)
    before = datetime.now(UTC)
    done = await run(site, "dead", "redrive", "--all", "--kind", "say-hello", "--rate", "1/1h")
    assert (done.code, done.out) == (0, "3 redriven\n")
    first, *later = [await stored(queue, f"greet-{number}") for number in range(3)]
    assert first.state is JobState.AVAILABLE
    hours = [(job.due_at - before) / timedelta(hours=1) for job in later if job.due_at]
    assert [round(hour, 2) for hour in hours] == [1, 2]
    assert ids(await run(site, "dead", "list", "--json")) == ["bye"]


async def test_every_page_of_dead_letters_is_redriven_and_deleted(site: Site, client: AsyncClient) -> None:
    queue = client.queue("default")
    await client.enqueue_many([*(Greeting() for _ in range(230)), Farewell()])
    await bury(queue)
    assert (await run(site, "dead", "redrive", "--all", "--kind", "say-hello")).out == "230 redriven\n"
    counts = await queue.counts()
    assert (counts.available, counts.discarded) == (230, 1)
    await bury(queue)
    assert (await run(site, "dead", "discard", "--all", "--queue", "default")).out == "231 deleted\n"
    assert (await queue.counts()).discarded == 0


async def test_one_dead_letter_is_redriven_with_another_payload_that_was_checked(
    site: Site, client: AsyncClient
) -> None:
    queue = client.queue("default")
    await client.enqueue(Greeting(), job_id="greet", tags=["vip"], priority=2)
    await bury(queue)
    wrong = await run(site, "dead", "redrive", "greet", "--payload", '{"nme": "Bo"}')
    assert wrong.code == 64
    assert "say-hello: name: is missing; give a value" in wrong.err
    assert (await queue.counts()).discarded == 1
    done = await run(site, "dead", "redrive", "greet", "--payload", '{"name": "Bo"}')
    assert (done.code, done.out) == (0, "1 redriven\n")
    job = await stored(queue, "greet")
    assert (dict(job.payload), job.tags, job.priority, job.state) == ({"name": "Bo"}, ("vip",), 2, JobState.AVAILABLE)


async def test_what_is_no_dead_letter_is_named_and_the_others_are_redriven(site: Site, client: AsyncClient) -> None:
    await client.enqueue(Greeting(), job_id="dead")
    await bury(client.queue("default"))
    await client.enqueue(Greeting(), job_id="alive")
    done = await run(site, "dead", "redrive", "unknown", "dead", "alive")
    assert (done.code, done.out) == (1, "1 redriven\n")
    assert done.err == "unknown is not in a dead-letter queue\nalive is not in a dead-letter queue\n"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("redrive",), "name the jobs, or give --all"),
        (("discard",), "name the jobs, or give --all"),
        (("discard", "--kind", "say-hello"), "name the jobs, or give --all"),
        (("redrive", "dead", "--all"), "name the jobs, or give --all"),
        (("redrive", "dead", "--kind", "say-hello"), "--queue, --kind, --tag and --reason are for --all"),
        (("redrive", "--all", "--payload", "{}"), "--payload is for one job; name it"),
        (("redrive", "dead", "other", "--payload", "{}"), "--payload is for one job; name it"),
        (("redrive", "dead", "--payload", "{"), "--payload: not JSON"),
        (("redrive", "--all", "--rate", "ten"), "'ten' is no rate; give so many in a time, such as 20/1s"),
        (("discard", "--all", "--queue", "nowhere"), "there is no queue 'nowhere'; configured: "),
    ],
)
async def test_dead_letters_stay_where_it_is_not_clear_which_are_meant(
    site: Site, client: AsyncClient, arguments: tuple[str, ...], problem: str
) -> None:
    await client.enqueue(Greeting(), job_id="dead")
    await bury(client.queue("default"))
    done = await run(site, "dead", *arguments)
    assert (done.code, done.out) == (64, "")
    assert problem in done.err
    assert (await client.queue("default").counts()).discarded == 1


async def test_a_rate_at_which_the_last_dead_letter_would_wait_for_decades_is_refused(
    site: Site, client: AsyncClient
) -> None:
    await client.enqueue_many([Greeting() for _ in range(150)])
    await bury(client.queue("default"))
    done = await run(site, "dead", "redrive", "--all", "--rate", "1/30d")
    assert done.code == 64
    assert "the last one's time at this rate is 4,500 days ahead, over the limit of ten years" in done.err
    assert (await client.queue("default").counts()).discarded == 150
