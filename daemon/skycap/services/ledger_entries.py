"""LedgerEntries: the mail ledger as an admin sees and settles it, and as a bounce finds its mail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from skycap.context import Database
from skycap.services.ledger import STALE_AFTER

# What no run of a job is about to settle: unknown, in the dot for longer than any server is waited for, or given up.
_NEEDS_AN_ADMIN = """
    state = 'unknown'
    OR (state = 'dot' AND updated_at < now() - $6::interval)
    OR (state = 'failed' AND updated_at > now() - INTERVAL '1 day')
"""
_LIST = f"""
    SELECT * FROM skycap.mail_ledger
    WHERE CASE WHEN $1 THEN {_NEEDS_AN_ADMIN} ELSE TRUE END
        AND ($2::text IS NULL OR state = $2)
        AND ($3::text IS NULL OR recipient_hash = $3)
        AND ($4::text IS NULL OR strpos(key, $4) > 0 OR message_id = $4)
        AND ($5::timestamptz IS NULL OR updated_at >= $5)
    ORDER BY updated_at DESC LIMIT $7
"""  # noqa: S608 - a constant

# Each from the partial index that the ledger has for it, however many mails there are.
_COUNTS = """
    SELECT 'dot' AS state, count(*) AS count FROM skycap.mail_ledger WHERE state = 'dot'
    UNION ALL SELECT 'unknown', count(*) FROM skycap.mail_ledger WHERE state = 'unknown'
    UNION ALL SELECT 'failed', count(*) FROM skycap.mail_ledger WHERE state = 'failed'
"""

_FIND = """
    SELECT * FROM skycap.mail_ledger WHERE key = $1 OR message_id IN ($1, '<' || $1 || '>')
    ORDER BY key = $1 DESC LIMIT 1
"""

# Only as long as the row is as it was read: a run may have moved it meanwhile.
_SETTLE = """
    UPDATE skycap.mail_ledger
    SET state = $4, note = $5, updated_at = now(),
        trying_since = CASE $4 WHEN 'deferred' THEN now() ELSE trying_since END
    WHERE key = $1 AND state = $2 AND updated_at = $3
    RETURNING *
"""

_BOUNCED = """
    UPDATE skycap.mail_ledger
    SET bounced_at = coalesce(bounced_at, now()), bounce_status = coalesce($3, bounce_status), note = $2
    WHERE key = $1
"""
_COMPLAINED = "UPDATE skycap.mail_ledger SET complained_at = coalesce(complained_at, now()), note = $2 WHERE key = $1"
_NOTED = "UPDATE skycap.mail_ledger SET note = $2 WHERE key = $1"


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """One mail. It knows its recipient by a hash only."""

    key: str
    message_id: str
    kind: str
    job_id: str
    recipient_hash: str
    template: str
    locale: str | None
    state: str
    sends: int
    generation: int
    smtp_code: int | None
    smtp_text: str | None
    bounced_at: datetime | None
    bounce_status: str | None
    complained_at: datetime | None
    note: str | None
    created_at: datetime
    updated_at: datetime

    def is_stale(self, now: datetime) -> bool:
        """Whether no run is at it any more, though its state says so."""
        return now - self.updated_at > STALE_AFTER


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which entries; None: whichever. ``key`` is part of a key, or a whole Message-ID."""

    state: str | None = None
    recipient_hash: str | None = None
    key: str | None = None
    since: datetime | None = None

    @property
    def is_anything(self) -> bool:
        return self == Wanted()


class LedgerEntries:
    """Every method raises Unavailable when the database cannot be reached."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def newest(self, wanted: Wanted, *, limit: int) -> list[LedgerEntry]:
        """The last that moved first. Of a ``wanted`` that says nothing: those that need an admin."""
        rows = await self._database.fetch(
            _LIST,
            *(wanted.is_anything, wanted.state, wanted.recipient_hash, wanted.key, wanted.since, STALE_AFTER, limit),
        )
        return [_entry(row) for row in rows]

    async def in_doubt(self) -> int:
        """How many an admin must decide about."""
        return int(await self._database.fetchval("SELECT count(*) FROM skycap.mail_ledger WHERE state = 'unknown'"))

    async def counts(self) -> dict[str, int]:
        """How many are in the dot, in doubt or failed. Of the other states there is no index, and no cheap count."""
        rows = await self._database.fetch(_COUNTS)
        return {row["state"]: row["count"] for row in rows}

    async def find(self, key: str) -> LedgerEntry | None:
        """By its key, or by its Message-ID with or without the brackets."""
        return _entry_or_none(await self._database.fetchrow(_FIND, key))

    async def of_return_address(self, token: str) -> LedgerEntry | None:
        """The mail whose bounces come to the address with this token."""
        return _entry_or_none(
            await self._database.fetchrow("SELECT * FROM skycap.mail_ledger WHERE verp_token = $1", token)
        )

    async def of_message_ids(self, message_ids: Sequence[str]) -> LedgerEntry | None:
        """The first of these that the ledger knows."""
        return _entry_or_none(
            await self._database.fetchrow(
                """
                SELECT * FROM skycap.mail_ledger WHERE message_id = ANY($1::text[])
                ORDER BY array_position($1::text[], message_id) LIMIT 1
                """,
                list(message_ids),
            )
        )

    async def settle(self, entry: LedgerEntry, state: str, *, note: str) -> LedgerEntry | None:
        """Put it into ``state``; None when it has moved since it was read."""
        return _entry_or_none(
            await self._database.fetchrow(_SETTLE, entry.key, entry.state, entry.updated_at, state, note)
        )

    async def bounced(self, entry: LedgerEntry, *, status: str | None, note: str) -> None:
        await self._database.execute(_BOUNCED, entry.key, note, status)

    async def complained(self, entry: LedgerEntry, *, note: str) -> None:
        await self._database.execute(_COMPLAINED, entry.key, note)

    async def noted(self, entry: LedgerEntry, note: str) -> None:
        await self._database.execute(_NOTED, entry.key, note)


def _entry_or_none(row: Mapping[str, Any] | None) -> LedgerEntry | None:
    return None if row is None else _entry(row)


def _entry(row: Mapping[str, Any]) -> LedgerEntry:
    return LedgerEntry(**{name: row[name] for name in LedgerEntry.__dataclass_fields__})
