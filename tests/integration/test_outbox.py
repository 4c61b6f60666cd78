"""The outbox on a real PostgreSQL and Valkey: a job exists if and only if its transaction committed, and once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from skycap.context import Database
from skycap.engine.link import Link
from skycap.job import JobState
from skycap.maintenance.outbox import OutboxRelay
from skycap.registry import Registry
from skycap.services.database import DatabasePool
from skycap.services.notifications import Notifications
from skycap.services.outbox import CHANNEL, Outbox, OutboxBatch, grants_for
from tests.support.outbox import Place, place
from tests.support.pgbouncer import pgbouncer
from tests.support.redis_servers import proxy
from tests.support.workers import eventually


@pytest.fixture
async def site(redis_url: str, database_url: str) -> AsyncGenerator[Place]:
    async with place(redis_url, database_url) as site:
        yield site


@asynccontextmanager
async def running(*relays: OutboxRelay) -> AsyncGenerator[None]:
    tasks = [asyncio.create_task(relay.run()) for relay in relays]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_job_exists_if_and_only_if_its_transaction_commits(site: Place) -> None:
    with suppress(ZeroDivisionError):
        async with site.backend.transaction():
            await site.enqueue(payload='{"text": "undone"}')
            raise ZeroDivisionError
    async with site.backend.transaction():
        job_id = await site.enqueue(payload='{"text": "done"}')
        await site.relay_all()
    assert await site.texts() == []
    await site.relay_all()
    (job,) = await site.jobs()
    assert (job.id, job.kind, job.queue, job.payload) == (job_id, "send-note", "email", {"text": "done"})


async def test_what_a_job_is_asked_for_with_arrives(site: Place) -> None:
    before = datetime.now(UTC)
    await site.enqueue(payload='{"text": "later"}', delay=timedelta(hours=1), priority=3, tags=["a", "b"])
    at = before + timedelta(days=2)
    await site.enqueue(payload='{"text": "then"}', at=at, deadline=at + timedelta(hours=1))
    await site.enqueue(payload='{"text": "unique"}', unique_key="k", unique_within=timedelta(hours=1))
    await site.relay_all()
    (unique,) = await site.jobs()
    assert unique.unique_key == "send-note:k"
    later, then = await site.jobs(state=JobState.SCHEDULED)
    assert (later.priority, later.tags) == (3, ("a", "b"))
    assert later.due_at is not None
    assert abs(later.due_at - before - timedelta(hours=1)) < timedelta(seconds=5)
    assert then.due_at is not None
    assert abs(then.due_at - at) < timedelta(milliseconds=2)
    assert then.deadline is not None
    assert abs(then.deadline - at - timedelta(hours=1)) < timedelta(milliseconds=2)


async def test_a_delay_counts_from_the_enqueue_however_late_the_relay_comes(site: Place) -> None:
    await site.enqueue(delay=timedelta(milliseconds=1))
    await site.relay_all()
    assert len(await site.jobs()) == 1


async def test_the_same_job_id_is_one_job(site: Place) -> None:
    query = "SELECT id, duplicate FROM skycap.enqueue_v1('send-note', job_id => 'note-1')"
    assert tuple(await site.backend.fetchrow(query) or ()) == ("note-1", False)
    assert tuple(await site.backend.fetchrow(query) or ()) == ("note-1", True)
    await site.relay_all()
    assert tuple(await site.backend.fetchrow(query) or ()) == ("note-1", True)
    await site.relay_all()
    assert [job.id for job in await site.jobs()] == ["note-1"]


async def test_many_are_enqueued_in_one_call_all_or_none(site: Place) -> None:
    requests = (
        '[{"kind": "send-note", "id": "a"}, {"kind": "sweep", "delaySeconds": 60}, {"kind": "send-note", "id": "a"}]'
    )
    rows = await site.backend.fetch("SELECT id, duplicate FROM skycap.enqueue_many_v1($1)", requests)
    assert [row["duplicate"] for row in rows] == [False, False, True]
    await site.relay_all()
    assert [job.id for job in await site.jobs()] == ["a"]
    assert [job.id for job in await site.jobs("slow", JobState.SCHEDULED)] == [rows[1]["id"]]
    with pytest.raises(asyncpg.InvalidParameterValueError, match=r"jobs\[1\]: kind 'NO' is no name"):
        await site.backend.fetch("SELECT skycap.enqueue_many_v1($1)", '[{"kind": "send-note"}, {"kind": "NO"}]')
    assert (await site.outbox.standing()).waiting == 0


@pytest.mark.parametrize(
    ("call", "problem", "hint"),
    [
        ("'Send'", "kind 'Send' is no name of a kind", "lower-case"),
        ("NULL", "kind NULL is no name of a kind", "lower-case"),
        ("'a', '[]'", "payload is no JSON object", "fields"),
        ("'a', delay => '-1 s'", "delay is out of range", "0 seconds"),
        ("'a', delay => '11 years'", "delay is out of range", "ten years"),
        ("'a', delay => '1 s', at => now()", "a delay and a time", "one of them"),
        ("'a', at => 'infinity'", "at is no time", "2026"),
        ("'a', deadline => now() + interval '11 years'", "deadline is more than ten years ahead", "unit"),
        ("'a', priority => 0", "priority is out of range", "1000"),
        ("'a', on_conflict => 'drop'", "on_conflict is none of its words", "debounce"),
        ("'a', unique_key => 'k', unique_by => '{b}'", "a unique key and the fields", "one of them"),
        ("'a', tags => '{\"\"}'", "tags do not fit", "20"),
        ("'a', labels => '{\"a\": 1}'", "labels do not fit", "20"),
        ("'a', job_id => 'a b'", "job_id is no id", "letters"),
        ("'a', jsonb_build_object('x', repeat('x', 21000000))", "over 20 MiB", "elsewhere"),
    ],
)
async def test_what_cannot_be_is_refused_at_once_with_the_way_out(
    site: Place, call: str, problem: str, hint: str
) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError) as refused:
        await site.backend.fetch(f"SELECT skycap.enqueue_v1({call})")
    assert problem in str(refused.value)
    assert hint in str(refused.value.hint)


async def test_jobs_keep_their_order_so_that_the_last_one_replaces_the_others(site: Place) -> None:
    for number in range(20):
        await site.enqueue(payload=f'{{"text": "{number}"}}', unique_key="k", on_conflict="replace")
    await site.relay_all(site.relay(batch=3))
    assert await site.texts() == ["19"]


async def test_what_commits_after_a_higher_id_is_not_overlooked(site: Place, database_url: str) -> None:
    other = await asyncpg.connect(database_url)
    transaction = site.backend.transaction()
    await transaction.start()
    await site.enqueue(payload='{"text": "early"}')
    await other.execute("SELECT skycap.enqueue_v1('send-note', '{\"text\": \"late\"}')")
    await other.close()
    relay = site.relay()
    await site.relay_all(relay)
    assert await site.texts() == ["late"]
    await transaction.commit()
    await site.relay_all(relay)
    assert await site.texts() == ["late", "early"]


async def test_what_does_not_fit_becomes_a_dead_letter_and_stops_nobody(site: Place) -> None:
    wrong = [
        await site.enqueue(payload='{"text": {}}'),
        await site.enqueue(payload='{"texd": ""}'),
        await site.enqueue(payload=f'{{"text": "{"x" * 300_000}"}}'),
        await site.enqueue(payload='{"text": ' + '{"a":' * 300 + "1" + "}" * 301),
        await site.enqueue(payload='{"text": "break"}'),
    ]
    await site.enqueue(payload='{"text": "fits"}')
    await site.relay_all()
    assert await site.texts() == ["fits"]
    dead = {job.id: job for job in await site.jobs(state=JobState.DISCARDED)}
    assert set(dead) == set(wrong)
    assert {job.reason for job in dead.values()} == {"undecodable"}
    assert "did you mean 'text'" in dead[wrong[1]].errors[0].error
    assert dead[wrong[1]].payload == {"texd": ""}
    assert "store large data elsewhere" in dead[wrong[2]].errors[0].error
    assert dead[wrong[2]].payload == {}
    problems = {problem.job_id: problem.problem for problem in await site.outbox.problems(limit=10)}
    assert problems == {job.id: job.errors[0].error for job in dead.values()}


async def test_a_kind_or_a_version_of_the_future_waits_for_a_newer_worker(site: Place) -> None:
    unknown = await site.enqueue("fly-to-mars", '{"seat": 1}', unique_by=["seat"])
    newer = await site.enqueue(payload='{"text": "", "colour": "red"}', version=3)
    older = await site.enqueue(payload='{"text": ""}', version=1)
    await site.relay_all()
    assert [(job.id, job.kind, job.payload) for job in await site.jobs("default")] == [
        (unknown, "fly-to-mars", {"seat": 1})
    ]
    assert [job.id for job in await site.jobs()] == [newer, older]


async def test_a_full_queue_keeps_its_jobs_waiting_and_no_other_queues(site: Place) -> None:
    await site.bound("email", 3)
    for number in range(5):
        await site.enqueue(payload=f'{{"text": "{number}"}}')
    await site.enqueue("sweep")
    relay = site.relay()
    await site.relay_all(relay)
    assert await site.texts() == ["0", "1", "2"]
    assert len(await site.jobs("slow")) == 1
    assert (await site.outbox.standing()).waiting == 2
    await site.enqueue("sweep", '{"what": "more"}')
    await site.relay_all(relay)
    assert len(await site.jobs("slow")) == 2
    await site.bound("email", 100)
    await site.relay_all(site.relay("relay-2"))
    assert await site.texts() == ["0", "1", "2", "3", "4"]


async def test_many_relays_move_each_row_once(site: Place) -> None:
    await site.backend.execute(
        "SELECT skycap.enqueue_v1('send-note', jsonb_build_object('text', n::text)) FROM generate_series(1, 2000) AS n"
    )
    relays = [site.relay(f"relay-{number}", batch=50) for number in range(3)]
    async with running(*relays):
        await eventually(lambda: relayed(site))
    assert await site.texts() == [str(number) for number in range(1, 2001)]


async def _finish_and_forget(site: Place) -> None:
    """As when all jobs have run and their retention is over: Redis knows none of their ids any more."""
    for name in ("email", "slow", "default"):
        for job in await site.jobs(name):
            await site.queue(name).cancel(job.id)
            await site.link.command("DEL", site.queue(name).keys.job(job.id))
        await site.link.command("DEL", site.queue(name).keys.done)


async def test_a_batch_whose_end_was_lost_is_not_added_again_although_redis_has_forgotten_its_jobs(
    site: Place,
) -> None:
    await site.enqueue()
    await site.enqueue("sweep")
    relay = site.relay()
    batch = await site.outbox.take("relay-1", most=500, queue_of='{"send-note": "email"}', other_queue="slow")
    assert batch is not None
    await relay.relay_batch()
    assert len(await site.jobs()) == 1
    await _finish_and_forget(site)
    # As if the relay had died before it could say that the batch is done.
    await site.backend.execute("UPDATE skycap.outbox SET relayed_at = NULL")
    await site.backend.execute(
        "UPDATE skycap.outbox_batch SET row_ids = $1, queues = $2",
        [row.id for row in batch.rows],
        [row.queue for row in batch.rows],
    )
    assert await relay.relay_batch()
    assert (await site.outbox.standing()).waiting == 0
    assert await site.jobs() == []
    assert await site.jobs("slow") == []
    assert not await site.outbox.done(batch.number, [], {})


class HeldOutbox(Outbox):
    """Holds up a relay between taking a batch and sending it, as SIGSTOP does."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.has_taken, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def take(self, relay: str, **options: Any) -> OutboxBatch | None:
        batch = await super().take(relay, **options)
        self.has_taken.set()
        await self.may_go_on.wait()
        return batch


@asynccontextmanager
async def zombie_with_a_batch(site: Place) -> AsyncGenerator[None]:
    """A relay that has taken a batch, and does at the end of the block what it was about to do."""
    outbox = HeldOutbox(site.database.stateless)
    relaying = asyncio.create_task(site.relay("zombie", outbox=outbox).relay_batch())
    await outbox.has_taken.wait()
    yield
    outbox.may_go_on.set()
    await relaying


async def _age(site: Place) -> None:
    """As if two seconds had passed since the batch was taken."""
    await site.backend.execute("UPDATE skycap.outbox_batch SET taken_at = taken_at - interval '3 s'")


async def test_a_relay_that_comes_late_changes_nothing(site: Place) -> None:
    await site.enqueue(payload='{"text": "once"}')
    async with zombie_with_a_batch(site):
        assert not await site.relay().relay_batch()
        await _age(site)
        assert await site.relay().relay_batch()
        assert await site.texts() == ["once"]
        await _finish_and_forget(site)
        await site.enqueue(payload='{"text": "next"}')
        await site.relay_all()
        assert await site.texts() == ["next"]
    assert await site.texts() == ["next"]
    assert (await site.outbox.standing()).waiting == 0


async def test_a_relay_that_comes_late_to_a_queue_that_was_full_adds_nothing(site: Place) -> None:
    await site.bound("email", 1)
    for text in "ab":
        await site.enqueue(payload=f'{{"text": "{text}"}}')
    async with zombie_with_a_batch(site):
        await _age(site)
        await site.relay().relay_batch()
        assert await site.texts() == ["a"]
        await _finish_and_forget(site)
    assert await site.texts() == []
    await site.relay_all(site.relay("relay-2"))
    assert await site.texts() == ["b"]


async def test_a_relay_that_comes_late_to_a_queue_that_had_no_room_at_all_adds_nothing(site: Place) -> None:
    await site.bound("email", 1)
    await site.enqueue(payload='{"text": "fills it"}')
    await site.relay_all()
    await site.enqueue(payload='{"text": "waits"}')
    async with zombie_with_a_batch(site):
        await _age(site)
        await site.relay().relay_batch()
        await _finish_and_forget(site)
    assert await site.texts() == []
    await site.relay_all(site.relay("relay-2"))
    assert await site.texts() == ["waits"]


class DeafOutbox(Outbox):
    """Never hears that a batch is done, as when its relay dies just before."""

    async def done(self, number: int, relayed: Sequence[int], problems: Mapping[int, str]) -> bool:
        del number, relayed, problems
        return False


async def test_what_found_no_room_is_not_lost_when_the_relay_dies_before_it_could_say_so(site: Place) -> None:
    await site.bound("email", 1)
    for text in "ab":
        await site.enqueue(payload=f'{{"text": "{text}"}}')
    await site.relay(outbox=DeafOutbox(site.database.stateless)).relay_batch()
    await _age(site)
    await site.relay_all(site.relay("relay-2"))
    assert await site.texts() == ["a"]
    await site.bound("email", 10)
    await site.relay_all(site.relay("relay-3"))
    assert await site.texts() == ["a", "b"]


async def test_what_a_relay_with_other_plugins_began_goes_to_the_same_queues(site: Place) -> None:
    await site.enqueue(payload='{"text": "once"}')
    async with zombie_with_a_batch(site):
        await _age(site)
        old = site.relay(plugins=Registry())
        await site.relay_all(old)
        assert await site.texts() == ["once"]
    assert await site.jobs("default") == []


async def test_a_database_that_was_made_anew_is_believed(site: Place) -> None:
    await site.enqueue(payload='{"text": "before"}')
    await site.relay_all()
    await site.backend.execute("UPDATE skycap.outbox_batch SET number = 0")
    await site.enqueue(payload='{"text": "after"}')
    await site.relay_all()
    assert await site.texts() == ["before", "after"]


async def test_a_notification_wakes_the_relay(site: Place, database_url: str) -> None:
    relay = site.relay(poll=timedelta(hours=1), doorbell=Notifications(database_url, CHANNEL))

    async def listens() -> bool:
        query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
        return bool(await site.backend.fetchval(query))

    async with running(relay):
        await eventually(listens)
        await site.enqueue(payload='{"text": "called"}')

        async def arrived() -> bool:
            return await site.texts() == ["called"]

        await eventually(arrived)


async def test_without_notifications_the_relay_looks_by_itself(site: Place) -> None:
    async with running(site.relay()):
        await site.backend.execute("SET skycap.notify = off")
        await site.enqueue(payload='{"text": "found"}')

        async def arrived() -> bool:
            return await site.texts() == ["found"]

        await eventually(arrived)


async def test_rows_are_kept_for_a_while_and_then_deleted(site: Place) -> None:
    for _ in range(3):
        await site.enqueue()
    await site.relay_all(site.relay(batch=2))
    await site.backend.execute("UPDATE skycap.outbox SET relayed_at = relayed_at - interval '8 days' WHERE id < 3")
    await site.enqueue()
    assert await site.outbox.purge(timedelta(days=7), most=1) == 1
    assert await site.outbox.purge(timedelta(days=7), most=10) == 1
    assert await site.outbox.purge(timedelta(days=7), most=10) == 0
    assert await site.backend.fetchval("SELECT count(*) FROM skycap.outbox") == 2


async def test_what_redis_lost_can_be_relayed_again(site: Place) -> None:
    await site.enqueue(payload='{"text": "lost"}')
    await site.relay_all()
    await site.link.command("FLUSHALL")
    assert await site.outbox.replay(datetime.now(UTC) - timedelta(minutes=1)) == 1
    await site.relay_all()
    assert await site.texts() == ["lost"]


async def test_a_backends_role_can_enqueue_and_nothing_else(site: Place, database_url: str) -> None:
    await site.backend.execute("CREATE ROLE backend LOGIN")
    for statement in grants_for("backend"):
        await site.backend.execute(statement)
    backend = await asyncpg.connect(database_url.replace("skycap@", "backend@"))
    try:
        await backend.execute("SELECT skycap.enqueue_v1('send-note', '{\"text\": \"mine\"}')")
        await backend.execute('SELECT skycap.enqueue_many_v1(\'[{"kind": "send-note"}]\')')
        tables = await backend.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'skycap'")
        for (table,) in tables:
            for statement in (
                "SELECT * FROM skycap.{}",
                "DELETE FROM skycap.{}",
                "INSERT INTO skycap.{} DEFAULT VALUES",
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await backend.execute(statement.format(table))
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await backend.execute("SELECT skycap.outbox_put_v1('send-note', '{}', '{}', NULL, '')")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await backend.execute("SELECT skycap.outbox_take_v1('me', 1, 1, '{}', 'default', '{}', '1 s')")
    finally:
        await backend.close()
        await site.backend.execute("DROP OWNED BY backend; DROP ROLE backend")
    await site.relay_all()
    assert await site.texts() == ["mine", ""]


async def test_it_works_through_a_transaction_pooler(site: Place, database_url: str) -> None:
    async with pgbouncer(database_url) as pooled:
        backend = await asyncpg.connect(pooled, statement_cache_size=0)
        for number in range(3):
            await backend.execute("SELECT skycap.enqueue_v1('send-note', $1)", f'{{"text": "{number}"}}')
        await backend.close()
        database = DatabasePool(dsn=pooled, statement_cache_size=0)
        async with running(*(site.relay(f"relay-{n}", outbox=Outbox(database.stateless), batch=1) for n in range(2))):
            await eventually(lambda: relayed(site))
        await database.close()
    assert await site.texts() == ["0", "1", "2"]


async def test_the_relay_waits_for_redis_and_goes_on(site: Place, redis_url: str) -> None:
    async with proxy(redis_url) as way:
        link = Link.to(way.url)
        async with running(site.relay(link=link)):
            await site.enqueue(payload='{"text": "before"}')
            await eventually(lambda: relayed(site))
            way.go_silent()
            await site.enqueue(payload='{"text": "meanwhile"}')
            await eventually(lambda: under_way(site))
            way.cut()
            way.speak()
            await eventually(lambda: relayed(site))
        await link.close()
    assert await site.texts() == ["before", "meanwhile"]


async def relayed(site: Place) -> bool:
    return (await site.outbox.standing()).waiting == 0


async def under_way(site: Place) -> bool:
    return bool(await site.backend.fetchval("SELECT row_ids <> '{}' FROM skycap.outbox_batch"))
