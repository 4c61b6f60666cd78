"""A user of Redis who may enqueue, and nothing else that Redis can keep apart from it."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import NoPermissionError

from skycap import AsyncClient
from skycap.engine.link import Link
from skycap.engine.queue import NewJob, Queue
from skycap.engine.schedule_book import ScheduleBook
from skycap.engine.script import script
from skycap.errors import Unavailable
from skycap.job import JobState
from skycap.payload import Payload
from skycap.unique import OnConflict, Unique
from tests.support.redis import redis_at
from tests.support.redis_servers import RedisServer, redis_server
from tests.support.redis_users import RULE_OF_DAEMONS, RULE_OF_PRODUCERS
from tests.support.workers import LEASE, Note

SECRET = "s3cret"


class Memo(Payload, kind="take-memo", queue="memos"):
    """A job of another queue."""

    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A producer's client, its plain connection, the daemon's queue, and the admin's connection."""

    client: AsyncClient
    plain: Any
    daemon: Queue
    admin: Any
    server: RedisServer


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncGenerator[Shop]:
    async with _shop(tmp_path) as made:
        await made.daemon.configure()
        yield made


@asynccontextmanager
async def _shop(tmp_path: Path) -> AsyncGenerator[Shop]:
    async with redis_server(tmp_path / "redis") as server, redis_at(server.url) as admin:
        rule = re.findall(r"\([^)]*\)|\S+", RULE_OF_PRODUCERS)
        await admin.execute_command("ACL", "SETUSER", "shop", "on", f">{SECRET}", *rule)
        url = server.url.replace("://", f"://shop:{SECRET}@")
        link = Link.to(server.url)
        async with AsyncClient(url) as client, redis_at(url) as plain:
            yield Shop(client=client, plain=plain, daemon=Queue("tests", link), admin=admin, server=server)
        await link.close()


async def test_a_producer_enqueues_in_every_way(shop: Shop) -> None:
    enqueue = shop.client.enqueue
    await enqueue(Note(text="a"), job_id="a")
    assert (await enqueue(Note(text="a"), job_id="a")).duplicate
    await enqueue(Note(text="b"), delay=timedelta(hours=1), tags=["tour 7"], priority=1)
    await enqueue(Note(text="c"), deadline=timedelta(hours=1))
    added = await shop.client.enqueue_many([Note(text="d"), Memo(text="e"), Note(text="f")])
    assert [each.state for each in added] == 3 * [JobState.AVAILABLE]
    counts = await shop.daemon.counts()
    assert (counts.available, counts.later) == (4, 1)
    assert await shop.admin.acl_log() == []


@pytest.mark.parametrize("on_conflict", ["keep", "replace", "debounce"])
@pytest.mark.parametrize("within", [None, timedelta(hours=1)])
@pytest.mark.parametrize("is_parked", [False, True])
async def test_a_producers_unique_jobs_stand_for_each_other(
    shop: Shop, on_conflict: OnConflict, within: timedelta | None, is_parked: bool
) -> None:
    unique = Unique(key="k", within=within, on_conflict=on_conflict)
    first = await shop.client.enqueue(Note(text="first"), unique=unique)
    if is_parked:
        await shop.daemon.shut("kind:take-note")
        assert (await _step(shop.daemon)) == 0
    again = await shop.client.enqueue(Note(text="again"), unique=unique)
    assert (again.job_id, again.duplicate) == (first.job_id, True)
    job = await shop.daemon.get(first.job_id)
    assert job is not None
    assert job.payload["text"] == ("first" if on_conflict == "keep" else "again")
    assert await shop.admin.acl_log() == []


FORBIDDEN: dict[str, Callable[[Queue, str], Awaitable[Any]]] = {
    "pause": lambda queue, _: queue.pause("no"),
    "resume": lambda queue, _: queue.resume(),
    "shut": lambda queue, _: queue.shut("kind:take-note"),
    "set a limit": lambda queue, _: queue.set({"max_waiting": "1"}),
    "configure": lambda queue, _: queue.configure(),
    "remove": lambda queue, job_id: queue.remove(job_id),
    "forget": lambda queue, job_id: queue.forget(job_id),
    "claim": lambda queue, _: _step(queue),
    "tick": lambda queue, _: ScheduleBook(queue).run("sweep", AsyncClient("redis://x").envelope(Note())),
    "scheduling": lambda queue, _: ScheduleBook(queue).pause("sweep"),
    "count": lambda queue, _: queue.counts(),
    "get": lambda queue, job_id: queue.get(job_id),
    "list": lambda queue, _: queue.jobs(JobState.AVAILABLE),
    "steal the doorbell": lambda queue, _: queue.doorbell(timedelta(milliseconds=1)),
}


@pytest.mark.parametrize("what", FORBIDDEN)
async def test_a_producer_can_do_nothing_else_with_a_queue(shop: Shop, what: str) -> None:
    """Not even by the daemon's own scripts, which Redis has loaded: each command in them needs its right, too."""
    job_id = (await shop.client.enqueue(Note(text="x"))).job_id
    await _load_all_scripts(shop)
    before = await _everything(shop.admin)
    with pytest.raises(Unavailable, match=r"permission|can't"):
        await FORBIDDEN[what](shop.client.queue("tests"), job_id)
    assert await _everything(shop.admin) == before


@pytest.mark.parametrize(
    "words",
    [
        *("SCAN 0", "KEYS *", "RANDOMKEY", "FLUSHALL", "FLUSHDB", "SMEMBERS skycap:queues", "CONFIG GET *", "ACL LIST"),
        *("MONITOR", "CLIENT LIST", "INFO", "SUBSCRIBE x", "SCRIPT LOAD return", "SCRIPT FLUSH", "FUNCTION LIST"),
        *("EVAL return 0", "GET another:application", "SET another:application x", "HGET another:application its"),
        *("ZRANGE skycap:{tests}:ready 0 -1", "XRANGE skycap:{tests}:events - +", "HGETALL skycap:{tests}:job:known"),
        *("DEL skycap:{tests}:job:known", "EXPIRE skycap:{tests}:job:known 1", "DUMP skycap:{tests}:job:known"),
        *("HSET skycap:{tests}:meta paused 1", "HGETALL skycap:{tests}:meta", "ZADD skycap:{tests}:dead 1 known"),
        *("ZADD skycap:{tests}:run 1 known", "SET skycap:{tests}:job:known x", "HGET skycap:{tests}:cron sweep"),
    ],
)
async def test_a_producer_can_neither_look_around_nor_delete(shop: Shop, words: str) -> None:
    await shop.client.enqueue(Note(text="x"), job_id="known")
    before = await _everything(shop.admin)
    with pytest.raises(NoPermissionError):
        await shop.plain.execute_command(*words.split(" "))
    assert await _everything(shop.admin) == before


async def test_what_redis_cannot_keep_from_a_producer(shop: Shop) -> None:
    """Of a job whose id it knows, each of its fields; and a queue's counters. Signatures are against the rest."""
    await _load_all_scripts(shop)
    await shop.client.enqueue(Note(text="x"), job_id="known")
    assert b'"text":"x"' in await shop.plain.hget("skycap:{tests}:job:known", "envelope")
    assert await shop.plain.hset("skycap:{tests}:job:known", "envelope", "{}") == 0
    assert await shop.client.queue("tests").retry("known") is JobState.AVAILABLE
    assert await shop.plain.zrem("skycap:{tests}:ready", "known") == 1
    assert await shop.plain.hincrby("skycap:{tests}:meta", "paused", 1) == 1


async def test_before_any_daemon_a_producer_is_told_what_it_waits_for(tmp_path: Path) -> None:
    async with _shop(tmp_path) as shop:
        reason = "add: this user may not load it, and no daemon of this version has yet"
        with pytest.raises(Unavailable, match=f"^redis: {reason}"):
            await shop.client.enqueue(Note(text="x"))
        await shop.daemon.configure()
        await shop.client.enqueue(Note(text="x"))


async def test_after_an_upgrade_that_changed_only_how_jobs_are_added_producers_can_enqueue(tmp_path: Path) -> None:
    async with _shop(tmp_path) as shop:
        await _load_all_scripts(shop)  # by the daemon before
        await shop.daemon.configure()
        await shop.client.enqueue(Note(text="x"))


async def test_a_redis_that_has_lost_the_scripts_gets_them_from_the_next_turn_of_a_worker(shop: Shop) -> None:
    await shop.client.enqueue(Note(text="x"))
    await shop.admin.script_flush()
    with pytest.raises(Unavailable):
        await shop.client.enqueue(Note(text="y"))
    await _step(shop.daemon)
    await shop.client.enqueue_many([Note(text="y"), Memo(text="z")])


@pytest.mark.parametrize("may_load", [True, False])
async def test_a_daemon_serves_its_queues_whether_or_not_it_may_load_scripts(tmp_path: Path, may_load: bool) -> None:
    async with _shop(tmp_path) as shop:
        rights = RULE_OF_DAEMONS if may_load else RULE_OF_DAEMONS.replace("+script|load ", "")
        await shop.admin.execute_command("ACL", "SETUSER", "skycap", "on", f">{SECRET}", *rights.split())
        link = Link.to(shop.server.url.replace("://", f"://skycap:{SECRET}@"))
        queue = Queue("tests", link)
        await queue.configure()
        await queue.add([NewJob(envelope=shop.client.envelope(Note(text="x")))])
        assert await _step(queue) == 1
        # Many jobs need a script that no daemon has run yet; one loads it when it may.
        many = shop.client.enqueue_many([Note(text="y"), Memo(text="z")])
        if may_load:
            assert len(await many) == 2
        else:
            with pytest.raises(Unavailable, match="add_all: this user may not load it"):
                await many
        await link.close()


async def _step(queue: Queue) -> int:
    """Claim one job; how many there were."""
    return len((await queue.step([], slots=1, worker="w", lease=LEASE, poison_after=3)).claims)


async def _load_all_scripts(shop: Shop) -> None:
    """Those that daemons use."""
    for name in ("step", "admin", "beat", "report", "tick", "scheduling"):
        await shop.admin.script_load(script(name).text)


async def _everything(admin: Any) -> dict[bytes, bytes]:
    """All keys with what they hold."""
    return {key: await admin.dump(key) for key in await admin.keys("*")}
