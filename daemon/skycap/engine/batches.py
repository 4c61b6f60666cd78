"""Numbered batches: adding jobs exactly once, whoever sends them how often, although Redis soon forgets jobs."""

from __future__ import annotations

from collections.abc import Iterable

from skycap.engine.queue import NewJob, Queue, arguments_of


def encoded(job: NewJob) -> list[str | bytes | int]:
    """The job as a part of a batch. Raises PayloadTooLarge."""
    return arguments_of((job,))


async def add_batch(queue: Queue, number: int, jobs: Iterable[list[str | bytes | int]]) -> int:
    """How many of the jobs, from the first, are in the queue; less than all when it is full. Raises Unavailable.

    Sent again, be it by somebody else, it adds nothing and says the same: numbers only go up, and the same one must
    always come with the same jobs. The rest of a batch that found no room is to be sent with a higher number.
    """
    arguments = [argument for job in jobs for argument in job]
    return int(await queue.link.call("batch", queue.keys.prefix, number, *arguments))
