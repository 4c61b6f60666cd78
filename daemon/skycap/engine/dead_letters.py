"""Dead letters, the newest of a queue: which kind was discarded when and why, and nothing of what it was about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from skycap.engine.queue import Queue
from skycap.engine.stored import moment, text


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """``reason`` is a word of ours (see DeadReason); what the handler said may name people, and is left where it is."""

    queue: str
    kind: str
    reason: str
    at: datetime


async def newest_dead(queue: Queue, most: int) -> list[DeadLetter]:
    """Newest first. Raises Unavailable."""
    ids = await queue.link.command("ZREVRANGE", queue.keys.dead, 0, most - 1)
    prefix = queue.keys.job("").encode()
    rows = await queue.link.pipeline([("HMGET", prefix + job_id, "kind", "reason", "finished") for job_id in ids])
    return [
        DeadLetter(queue=queue.name, kind=text(kind or b"?"), reason=text(reason or b"?"), at=moment(finished))
        for kind, reason, finished in rows
        if finished is not None
    ]
