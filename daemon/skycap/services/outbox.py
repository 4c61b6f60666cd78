"""Outbox: the jobs that backends enqueued in SQL, and the batches in which relays move them to Redis."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import asyncpg

from skycap.context import Database
from skycap.errors import ConfigurationError

CHANNEL = "skycap_outbox"
"""What skycap.enqueue_v1 notifies."""

STALE_AFTER = timedelta(seconds=2)
"""A batch that its relay has not finished by then is taken over: it takes milliseconds, unless the relay is dead."""

_MOST_BYTES = 8 * 1024 * 1024
"""Of the payloads of a batch, except for a first one that is larger: Redis does nothing else while it adds them."""

_TAKE = "SELECT skycap.outbox_take_v1($1, $2, $3, $4::text::jsonb, $5, $6, $7)"
_ROWS = "SELECT * FROM skycap.outbox_rows_v1($1)"
_DONE = "SELECT skycap.outbox_done_v1($1, $2, $3, $4)"
_PURGE = """
    WITH purged AS (
        DELETE FROM skycap.outbox WHERE id IN (
            SELECT id FROM skycap.outbox WHERE relayed_at < clock_timestamp() - $1::interval
            ORDER BY relayed_at LIMIT $2 FOR UPDATE SKIP LOCKED
        ) RETURNING id
    )
    SELECT count(*) FROM purged
"""
_STANDING = """
    SELECT
        (SELECT count(*) FROM skycap.outbox WHERE relayed_at IS NULL) AS waiting,
        (SELECT enqueued_at FROM skycap.outbox WHERE relayed_at IS NULL ORDER BY id LIMIT 1) AS oldest_at,
        (SELECT max(relayed_at) FROM skycap.outbox WHERE relayed_at IS NOT NULL) AS last_relayed_at,
        clock_timestamp() AS now
"""
_PROBLEMS = """
    SELECT job_id, kind, enqueued_at, problem FROM skycap.outbox
    WHERE relayed_at IS NOT NULL AND problem IS NOT NULL ORDER BY relayed_at DESC LIMIT $1
"""
_REPLAY = """
    WITH replayed AS (
        UPDATE skycap.outbox SET relayed_at = NULL, problem = NULL
        WHERE relayed_at IS NOT NULL AND relayed_at >= $1 RETURNING id
    ), rescanned AS (
        UPDATE skycap.outbox_batch SET scanned_to = 0
    )
    SELECT count(*) FROM replayed
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """One job as it was asked for; ``queue`` is where the relay that took it first decided to send it."""

    id: int
    job_id: str
    kind: str
    queue: str
    enqueued_at: datetime
    payload: str = field(repr=False)
    options: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxBatch:
    """Rows in order of their ids; whoever takes the same number gets the same rows, or none when it is done."""

    number: int
    rows: Sequence[OutboxRow]


@dataclass(frozen=True, kw_only=True)
class OutboxStanding:
    """How the outbox stands, by the database's clock."""

    waiting: int
    oldest_at: datetime | None
    last_relayed_at: datetime | None
    now: datetime


@dataclass(frozen=True, kw_only=True)
class OutboxProblem:
    """A job that went to the dead-letter queue at once, and why."""

    job_id: str
    kind: str
    enqueued_at: datetime
    problem: str


class Outbox:
    """Raises Unavailable, and ConfigurationError when the tables are missing. Nothing is locked between two calls."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(
        self, relay: str, *, most: int, queue_of: str, other_queue: str, full_queues: Sequence[str] = ()
    ) -> OutboxBatch | None:
        """The batch that is under way, if it is ``relay``'s or was left behind, or the next one; None: nothing to do.

        ``queue_of`` is a JSON object with the queue of each kind; other kinds go to ``other_queue``.
        """
        with _migrated():
            number = await self._database.fetchval(
                _TAKE, relay, most, _MOST_BYTES, queue_of, other_queue, list(full_queues), STALE_AFTER
            )
            if number is None:
                return None
            rows = await self._database.fetch(_ROWS, number)
        return OutboxBatch(number=number, rows=[OutboxRow(**row) for row in rows])

    async def done(self, number: int, relayed: Sequence[int], problems: Mapping[int, str]) -> bool:
        """Finish a batch, of which those ``relayed`` are in Redis; False when somebody else has finished it."""
        with _migrated():
            return bool(await self._database.fetchval(_DONE, number, relayed, list(problems), list(problems.values())))

    async def purge(self, keep: timedelta, *, most: int) -> int:
        """Delete rows that were relayed longer ago than ``keep``; how many."""
        with _migrated():
            return int(await self._database.fetchval(_PURGE, keep, most))

    async def standing(self) -> OutboxStanding:
        with _migrated():
            (row,) = await self._database.fetch(_STANDING)
        return OutboxStanding(**row)

    async def oldest_age(self) -> timedelta:
        """How long the oldest job has waited to be moved; zero when none does."""
        standing = await self.standing()
        return timedelta(0) if standing.oldest_at is None else max(timedelta(0), standing.now - standing.oldest_at)

    async def problems(self, *, limit: int) -> list[OutboxProblem]:
        """The newest."""
        with _migrated():
            return [OutboxProblem(**row) for row in await self._database.fetch(_PROBLEMS, limit)]

    async def replay(self, since: datetime) -> int:
        """Let what was relayed since then wait again, under the same job ids; how many."""
        with _migrated():
            return int(await self._database.fetchval(_REPLAY, since))


def grants_for(role: str) -> tuple[str, ...]:
    """The statements that let a backend's role enqueue, and nothing else."""
    quoted = '"' + role.replace('"', '""') + '"'
    return (
        f"GRANT USAGE ON SCHEMA skycap TO {quoted}",
        f"GRANT EXECUTE ON FUNCTION skycap.enqueue_v1, skycap.enqueue_many_v1 TO {quoted}",
    )


@contextmanager
def _migrated() -> Generator[None]:
    try:
        yield
    except (asyncpg.UndefinedFunctionError, asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
        raise ConfigurationError(
            f"the database lacks skycap's outbox ({error.args[0]}): run `skycap db migrate`"
        ) from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise ConfigurationError(
            f"the database role may not use skycap's outbox ({error.args[0]}): let daemons log in as the role that "
            "owns the schema skycap, or grant theirs the same rights"
        ) from error
