"""Suppressions: who must not be written to, since mails came back or were complained about, or since an admin says so.

Addresses are not kept, only their hashes; the ledger asks this list whenever a mail begins (``mail_begin_v2``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, cast

from skycap.context import Database

Reason = Literal["bounce", "complaint", "refused", "manual"]

KEPT = timedelta(days=30)
"""How long a bounce stops mails, and a refusal waits for a second one: mailboxes come back, and so do guests."""

_IS_LISTED = "is_effective AND (expires_at IS NULL OR expires_at > now())"

# One mail speaks once, however often its bounce is taken in; a second mail confirms the first. What is over counts no
# more. Whoever has complained, or was listed by an admin, stays so whatever comes back later.
_SPEAK = """
    INSERT INTO skycap.mail_suppressions AS old (
        recipient_hash, reason, detail, last_message_id, is_effective, expires_at
    )
    VALUES ($1, $2, $3, $4, $5, now() + $6::interval)
    ON CONFLICT (recipient_hash) DO UPDATE SET (
        reason, detail, last_message_id, is_effective, expires_at, count, created_at, updated_at
    ) = (
        SELECT
            CASE WHEN of_old.is_for_ever THEN old.reason ELSE excluded.reason END,
            CASE WHEN of_old.is_for_ever THEN old.detail ELSE excluded.detail END,
            excluded.last_message_id,
            excluded.is_effective OR (NOT of_old.is_over AND (old.is_effective OR NOT of_old.is_same)),
            CASE WHEN of_old.is_for_ever THEN NULL ELSE excluded.expires_at END,
            CASE WHEN of_old.is_over THEN 1 WHEN of_old.is_same THEN old.count ELSE old.count + 1 END,
            CASE WHEN of_old.is_over THEN now() ELSE old.created_at END,
            now()
        FROM (
            SELECT
                coalesce(old.expires_at <= now(), FALSE) AS is_over,
                old.is_effective AND old.expires_at IS NULL AS is_for_ever,
                old.last_message_id IS NOT DISTINCT FROM excluded.last_message_id AS is_same
        ) AS of_old
    )
    RETURNING is_effective
"""


@dataclass(frozen=True, kw_only=True)
class Suppression:
    """One entry. ``is_listed`` is False while a second mail has to confirm the first, and after ``expires_at``."""

    recipient_hash: str
    reason: Reason
    detail: str | None
    count: int
    is_listed: bool
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None


class Suppressions:
    """The rows of ``skycap.mail_suppressions``. Every method raises Unavailable when the database is away.

    ``detail`` says what came back, without addresses. What adds an entry returns whether the recipient is listed now.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def refused(self, recipient_hash: str, *, message_id: str, detail: str) -> bool:
        """The mail server knows no such mailbox (5.1.1 at RCPT): listed when a second mail has met the same."""
        return await self._speak(recipient_hash, "refused", message_id, detail, listed=False, kept=KEPT)

    async def doubted(self, recipient_hash: str, *, message_id: str, detail: str) -> bool:
        """Something came back that proves little alone: listed when a second mail speaks against the address."""
        return await self._speak(recipient_hash, "bounce", message_id, detail, listed=False, kept=KEPT)

    async def bounced(self, recipient_hash: str, *, message_id: str, detail: str) -> bool:
        """A mail came back for good: listed for 30 days."""
        return await self._speak(recipient_hash, "bounce", message_id, detail, listed=True, kept=KEPT)

    async def complained(self, recipient_hash: str, *, message_id: str, detail: str) -> bool:
        """Who calls our mail spam is not written to again."""
        return await self._speak(recipient_hash, "complaint", message_id, detail, listed=True, kept=None)

    async def add(self, recipient_hash: str, *, detail: str | None = None) -> bool:
        """An admin says so."""
        return await self._speak(recipient_hash, "manual", None, detail, listed=True, kept=None)

    async def remove(self, recipient_hash: str) -> Suppression | None:
        """Take it off the list; what it was, or None when it was not there."""
        return _suppression(
            await self._database.fetchrow(
                f"""
                DELETE FROM skycap.mail_suppressions WHERE recipient_hash = $1
                RETURNING *, {_IS_LISTED} AS is_listed
                """,  # noqa: S608 - a constant
                recipient_hash,
            )
        )

    async def find(self, recipient_hash: str) -> Suppression | None:
        """The entry, whether it is in force or not."""
        return _suppression(
            await self._database.fetchrow(
                f"SELECT *, {_IS_LISTED} AS is_listed FROM skycap.mail_suppressions WHERE recipient_hash = $1",  # noqa: S608 - a constant
                recipient_hash,
            )
        )

    async def newest(self, *, limit: int, reason: str | None = None, with_unlisted: bool = False) -> list[Suppression]:
        """Those in force, the last that anything was heard of first."""
        rows = await self._database.fetch(
            f"""
            SELECT * FROM (SELECT *, {_IS_LISTED} AS is_listed FROM skycap.mail_suppressions) AS list
            WHERE ($2::text IS NULL OR reason = $2) AND (is_listed OR $3)
            ORDER BY updated_at DESC LIMIT $1
            """,  # noqa: S608 - a constant
            *(limit, reason, with_unlisted),
        )
        return [found for row in rows if (found := _suppression(row)) is not None]

    async def _speak(
        self,
        recipient_hash: str,
        reason: Reason,
        message_id: str | None,
        detail: str | None,
        *,
        listed: bool,
        kept: timedelta | None,
    ) -> bool:
        return bool(await self._database.fetchval(_SPEAK, recipient_hash, reason, detail, message_id, listed, kept))


def _suppression(row: Mapping[str, Any] | None) -> Suppression | None:
    if row is None:
        return None
    return Suppression(
        recipient_hash=row["recipient_hash"],
        reason=cast("Reason", row["reason"]),
        detail=row["detail"],
        count=row["count"],
        is_listed=row["is_listed"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        expires_at=row["expires_at"],
    )
