"""What others write into Redis behind skycap's back: it is set aside, all of it, and hinders no job."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from math import inf
from typing import Any

from skycap.engine.keys import QueueKeys
from skycap.engine.policy import QueuePolicy
from skycap.job import JobState
from skycap.outcome import DeadReason, Discarded
from skycap.payload import LARGEST_BYTES
from skycap.worker.consumer import Consumer
from tests.support.redis import redis_at
from tests.support.workers import LEASE, Bench, bench, eventually

ENTRIES, GOOD = 1000, 100
POLICY = QueuePolicy(keep_finished_count=ENTRIES)
GATE = "kind:take-note"

_FINE = {"v": 1, "id": "x", "kind": "take-note", "payload": {"text": "fine"}}
ENVELOPES = (
    *(b"", b"{", b"null", b"17", b"[]", b'"text"', b"{}", b"\x80\x04pickle", b"\xff\xfe", b"[" * 2000),
    *(
        json.dumps(_FINE | change).encode()
        for change in (
            {"v": 2},
            {"payload": {"text": {"no": "text"}}},
            {"payload": [1]},
            {"payload": None},
            {"kind": 7},
            {"priority": float("nan")},
            {"enqueuedAt": "yesterday"},
        )
    ),
)
_ENORMOUS = (
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 40_000 + b"1" + b"}" * 40_000,
    b"{" + b'"a":1,' * 2_500_000 + b'"b":1}',
    b'{"text":"' + b"x" * LARGEST_BYTES + b'"}',
    b"9" * 200_000,
)
"""Payloads that are deep, many or long enough to take a parser, or the event loop, down."""
_QUICK_SECONDS = 0.3
"""For all of them together, of processor time; reading the third alone would take longer."""

COUNTS = ("claim", "failures", "snoozes", "errors", "logs", "rank", "priority", "enqueued")
WORDS = ("state", "held", "parked", "unique", "worker", "kind", "progress", "result")
NO_NUMBERS = (b"many", b"", b"-1", b"1e400", b"nan", b"0x10", b"1.5", b"\xff", b"99999999999999999999")
PLACES = (*product(("ready", "later", "run", f"wait:{GATE}"), (0, -1e300, -inf, 1)), ("ready", 1e300), ("ready", inf))

Content = bytes | str | dict[str, bytes]
"""What is under a job's key: the fields of a hash, the name of another type, or "" for nothing."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    job_id: bytes
    content: Content
    index: str
    score: float


def _poison() -> Iterator[Content]:
    """What no worker can make a job of."""
    yield from ("", "string", "list", "set", "zset", "stream")
    yield from ({"envelope": envelope} for envelope in ENVELOPES)
    for name, value in product((*COUNTS, *WORDS), NO_NUMBERS):
        yield {"envelope": b"no envelope", "state": b"available", name: value}


def _jobs_with_odd_fields() -> Iterator[Content]:
    for name, value in product(("deadline", *COUNTS, *WORDS), NO_NUMBERS):
        yield {"envelope": json.dumps(_FINE).encode(), "kind": b"take-note", "state": b"available", name: value}


def _entries(contents: Iterable[Content], count: int, *names: bytes) -> list[Entry]:
    """So many of all combinations of contents and places, the same each time."""
    chosen = random.Random(0).sample(list(product(contents, PLACES)), count)  # noqa: S311 - no secret
    return [
        Entry(job_id=names[number % len(names)] % number, content=content, index=index, score=score)
        for number, (content, (index, score)) in enumerate(chosen)
    ]


async def test_a_thousand_foreign_entries_are_set_aside_and_every_job_among_them_is_done(redis_url: str) -> None:
    entries = _entries(_poison(), ENTRIES, b"%d", b"with space %d", b"%d\n", b"\xc3\xa9-%d", b"{%d}", b"%d:job:")
    async with bench(redis_url, queue_policy=POLICY) as b, redis_at(redis_url) as redis:
        await redis.hset("another:application", mapping={"its": "own"})
        good = [await b.put("good") for _ in range(GOOD // 2)]
        await _write(redis, b.queue.keys, entries)
        good += [await b.put("good", delay=timedelta(milliseconds=1)) for _ in range(GOOD // 2)]
        await _work_off(b)
        discarded = await b.queue.jobs(JobState.DISCARDED, limit=2 * ENTRIES)
        completed = await b.queue.jobs(JobState.COMPLETED, limit=2 * ENTRIES)
        assert Counter(job.reason for job in discarded) == {DeadReason.UNDECODABLE: ENTRIES}
        assert {job.id for job in discarded} == {entry.job_id.decode() for entry in entries}
        assert {job.id for job in completed} == set(good)
        assert b.ran == GOOD * ["good"]
        assert await redis.hgetall("another:application") == {b"its": b"own"}


async def test_jobs_with_odd_fields_are_done_or_set_aside(redis_url: str) -> None:
    entries = _entries(_jobs_with_odd_fields(), 300, b"%d")
    async with bench(redis_url, queue_policy=POLICY) as b, redis_at(redis_url) as redis:
        await _write(redis, b.queue.keys, entries)
        await _work_off(b)
        discarded = await b.queue.jobs(JobState.DISCARDED, limit=2 * ENTRIES)
        completed = await b.queue.jobs(JobState.COMPLETED, limit=2 * ENTRIES)
        assert {job.id for job in (*discarded, *completed)} == {entry.job_id.decode() for entry in entries}
        assert {job.reason for job in discarded} <= {DeadReason.UNDECODABLE, DeadReason.EXPIRED}
        assert len(completed) > len(discarded)


async def test_entries_whose_ids_are_no_text_are_set_aside(redis_url: str) -> None:
    entries = _entries(_poison(), 20, b"\xff%d", b"\xc3(%d")
    async with bench(redis_url, queue_policy=POLICY) as b, redis_at(redis_url) as redis:
        await _write(redis, b.queue.keys, entries)
        good = await b.put("good")
        await _work_off(b)
        assert (await b.finished(good)).state is JobState.COMPLETED
        discarded = await b.queue.jobs(JobState.DISCARDED)
        assert [job.reason for job in discarded] == len(entries) * [DeadReason.UNDECODABLE]


async def test_enormous_envelopes_are_set_aside_before_they_cost_anything(redis_url: str) -> None:
    async with bench(redis_url, queue_policy=POLICY) as b, redis_at(redis_url) as redis:
        contents = [{"envelope": b'{"v":1,"id":"x","kind":"take-note","payload":%b}' % each} for each in _ENORMOUS]
        entries = [Entry(job_id=b"%d" % n, content=each, index="ready", score=n) for n, each in enumerate(contents)]
        await _write(redis, b.queue.keys, entries)
        step = await b.queue.step([], slots=len(entries), worker="w", lease=LEASE, poison_after=3)
        began = time.process_time()
        outcomes = {claim.job_id: (await b.executor.run(claim)).outcome for claim in step.claims}
        took_seconds = time.process_time() - began
    problems = {job_id: outcome.error for job_id, outcome in outcomes.items() if isinstance(outcome, Discarded)}
    assert len(problems) == len(_ENORMOUS)
    assert "recursion limit exceeded" in problems["0"]
    assert "recursion limit exceeded" in problems["1"]
    assert "bytes are more than the 262,144 of the largest kind" in problems["2"]
    assert "bytes are more than the 262,144 of the largest kind" in problems["3"]
    assert "number out of range" in problems["4"]
    assert took_seconds < _QUICK_SECONDS


async def _work_off(b: Bench) -> None:
    """Run a worker until nothing waits or runs any more; whatever ends it is raised."""
    await b.queue.configure()
    consumer = Consumer(b.queue, b.executor.run, worker="w", concurrency=50, lease=LEASE, poison_after=3)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(consumer.run())
        await eventually(lambda: _is_over(b))
        consumer.drain()
        await running


async def _is_over(b: Bench) -> bool:
    counts = await b.queue.counts()
    return counts.available + counts.later + counts.running == 0


async def _write(redis: Any, keys: QueueKeys, entries: list[Entry]) -> None:
    async with redis.pipeline(transaction=True) as pipe:
        for entry in entries:
            key = f"{keys.prefix}job:".encode() + entry.job_id
            match entry.content:
                case dict() as fields:
                    pipe.hset(key, mapping=fields)
                case "string":
                    pipe.set(key, "text")
                case "list":
                    pipe.rpush(key, "text")
                case "set":
                    pipe.sadd(key, "text")
                case "zset":
                    pipe.zadd(key, {"text": 1})
                case "stream":
                    pipe.xadd(key, {"text": "text"})
                case _:
                    pass
            pipe.zadd(f"{keys.prefix}{entry.index}", {entry.job_id: entry.score})
            if entry.index.startswith("wait:"):
                pipe.zadd(keys.gates, {GATE: 0})
                pipe.hincrby(keys.meta, "parked", 1)
        await pipe.execute()
