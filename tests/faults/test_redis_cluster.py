"""A cluster: each queue on the node that owns its slot, wherever that is at the moment."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from skycap import AsyncClient, Payload, QueueFull
from skycap.engine.link import Link
from skycap.engine.policy import QueuePolicy
from skycap.engine.queue import Queue
from skycap.errors import Unavailable
from tests.support.redis import redis_at
from tests.support.redis_servers import Sharded, cluster

QUEUES = {"reports": 0, "email": 1, "sms": 2, "push": 0}
"""Each with the node that owns its slot in ``cluster``."""


class Report(Payload, kind="write-report", queue="reports"):
    """Of a queue on the first node."""


class Letter(Payload, kind="write-letter", queue="email"):
    """Of a queue on the second."""


def _key(queue: str, name: str = "") -> str:
    return f"skycap:{{{queue}}}:{name}"


async def test_queues_of_different_slots_work_side_by_side(tmp_path: Path) -> None:
    async with cluster(tmp_path) as sharded:
        link = Link.to(sharded.url)
        for queue in QUEUES:
            assert await link.call("beat", _key(queue), 1000, "nobody", 1) == [b"lost"]
        waiting = [
            asyncio.create_task(link.blocking("BLPOP", _key(queue, "wake"), 5, timeout=timedelta(seconds=5)))
            for queue in QUEUES
        ]
        results = await asyncio.gather(
            *(link.pipeline([("SET", _key(queue, "a"), queue), ("GET", _key(queue, "a"))]) for queue in QUEUES),
        )
        assert results == [[b"OK", queue.encode()] for queue in QUEUES]
        for queue in QUEUES:
            await link.command("LPUSH", _key(queue, "wake"), 1)
        assert await asyncio.gather(*waiting) == [[_key(queue, "wake").encode(), b"1"] for queue in QUEUES]
        assert await link.command("PING") == b"PONG"
        await link.close()
        with pytest.raises(Unavailable, match="the link is closed"):
            await link.command("PING")
        await _is_cancelled_at_whatever_point_it_is(sharded)
        for queue, number in QUEUES.items():
            async with redis_at(sharded.nodes[number].url) as node:
                assert await node.get(_key(queue, "a")) == queue.encode()


async def test_many_jobs_for_queues_of_different_slots_are_all_stored_or_none(tmp_path: Path) -> None:
    async with cluster(tmp_path) as sharded, AsyncClient(sharded.url) as client:
        email = Queue("email", client.queue("email").link, policy=QueuePolicy(max_waiting=1))
        await email.configure()
        added = await client.enqueue_many([Report(), Letter(), Report()])
        assert [each.duplicate for each in added] == [False, False, False]
        with pytest.raises(QueueFull, match="email"):
            await client.enqueue_many([Report(), Letter()])
        assert [(await client.queue(name).counts()).available for name in ("reports", "email")] == [2, 1]


async def _is_cancelled_at_whatever_point_it_is(sharded: Sharded) -> None:
    for turns in range(40):
        link = Link.to(sharded.url)
        task = asyncio.create_task(link.command("GET", _key("email")))
        for _ in range(turns):
            await asyncio.sleep(0)
        was_done = task.done()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or was_done
        assert await link.command("GET", _key("email")) is None
        await link.close()


async def test_a_slot_that_moves_is_followed_and_a_node_that_dies_takes_only_its_own_along(tmp_path: Path) -> None:
    async with cluster(tmp_path) as sharded:
        link = Link.to(sharded.url)
        key = _key("email", "a")
        assert await link.command("INCR", key) == 1
        source, target = sharded.nodes[1], sharded.nodes[2]
        async with redis_at(source.url) as giver, redis_at(target.url) as taker:
            slot = key_slot(b"email", REDIS_CLUSTER_HASH_SLOTS)
            giver_id, taker_id = [await client.execute_command("CLUSTER", "MYID") for client in (giver, taker)]
            await taker.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", giver_id)
            await giver.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", taker_id)
            # The scripts would find one half of the queue on either node.
            with pytest.raises(Unavailable, match="the slot of this queue is moving"):
                await link.call("beat", _key("email"), 1000, "nobody", 1)
            await giver.execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 1000)
            for client in (taker, giver):
                await client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", taker_id)
        assert await link.pipeline([("INCR", key), ("INCR", key)]) == [2, 3]
        assert await link.call("beat", _key("email"), 1000, "nobody", 1) == [b"lost"]
        assert await link.blocking("BLPOP", _key("email", "x"), 0.01, timeout=timedelta(seconds=0.01)) is None
        await target.kill()
        for _ in range(3):
            assert await link.command("GET", _key("reports")) is None
            for queue in ("email", "sms"):
                with pytest.raises(Unavailable):
                    await link.command("GET", _key(queue))
        await link.close()
