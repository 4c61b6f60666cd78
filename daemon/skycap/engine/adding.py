"""Adding jobs to several queues in one round trip, all or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from skycap.engine.queue import NewJob, Queue, arguments_of
from skycap.job import Enqueued


async def add_all(jobs: Mapping[Queue, Sequence[NewJob]]) -> dict[str, list[Enqueued]]:
    """What became of the jobs, by queue. Raises QueueFull and KeyReused, nothing having been stored, and Unavailable.

    In a cluster no script reaches several queues: each is asked first, and if one filled up in between, the jobs of
    those before it are stored. Sending all of them again, with the same ids, then stores each once.
    """
    if len(jobs) < 2:  # noqa: PLR2004 - one queue is the usual case
        return {queue.name: await queue.add(its) for queue, its in jobs.items()}
    if next(iter(jobs)).link.spans_queues:
        return await _add_in_one(jobs)
    for queue, its in jobs.items():
        await queue.check_room(its)
    return {queue.name: await queue.add(its) for queue, its in jobs.items()}


async def _add_in_one(jobs: Mapping[Queue, Sequence[NewJob]]) -> dict[str, list[Enqueued]]:
    queues = list(jobs)
    arguments: list[str | bytes | int] = []
    for queue in queues:
        of_queue = arguments_of(jobs[queue])
        arguments += (len(of_queue) + 1, "", *of_queue)
    refusing, *replies = await queues[0].link.call_over("add_all", [queue.keys.prefix for queue in queues], *arguments)
    if refusing:
        queues[int(refusing) - 1].added(replies[0])
    return {queue.name: queue.added(reply) for queue, reply in zip(queues, replies, strict=True)}
