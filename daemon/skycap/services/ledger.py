"""MailLedger: what became of each mail, in PostgreSQL, so that a mail is sent once whatever crashes in between.

    intent → sending → dot → sent | deferred | failed | unknown         (suppressed: not while its recipient is listed)

Every move is a commit of its own. ``dot`` is committed just before the last bytes leave: only a row found in ``dot``
may or may not have been delivered. ``deferred`` and ``failed`` are definite, the mail server has not taken the mail.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from skycap.context import Database, OnUnknown
from skycap.errors import Unavailable

MOST_SENDS = 3
"""So many copies may be out when a mail with the policy resend is held after all: one of them has arrived by then."""

STALE_AFTER = timedelta(minutes=10)
"""Another job's mail that has not moved for so long was left behind by a crash."""

_MESSAGE_ID_LENGTH = 32

_BEGIN = """
    SELECT verdict, first_message_id, first_intent, tried_since, suppressed_for, suppressed_since
    FROM skycap.mail_begin_v2($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
"""

# Idempotent, since an answer can be lost: who asks again finds the row where it is to be.
_MOVE = """
    UPDATE skycap.mail_ledger
    SET state = $4, smtp_code = $6, smtp_text = $7, updated_at = now(),
        sends = sends + CASE
            WHEN $4 = 'dot' THEN 1
            WHEN $4 IN ('deferred', 'failed') AND state = 'dot' THEN -1
            ELSE 0
        END
    WHERE key = $1 AND job_id = $2 AND claim = $3 AND state = ANY($5::text[])
    RETURNING TRUE
"""


class LedgerLost(Unavailable):
    """Another run, or an admin, has taken the row meanwhile: this run must not send."""

    def __init__(self, message_id: str) -> None:
        super().__init__("mail", f"{message_id} is in the hands of another run by now")


@dataclass(frozen=True, kw_only=True)
class Intent:
    """One mail that one run of a job means to send; ``key`` is what the mail means, ``claim`` numbers the run."""

    key: str
    message_id: str
    kind: str
    job_id: str
    claim: int
    recipient_hash: str
    template: str
    locale: str | None = None
    verp_token: str | None = None
    """What the mail's return address is recognised by (verp_token_of); None when bounces go elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Proceed:
    """Send it, with this Message-ID and Date: those of the first intent, so that a second copy is recognised as one.

    ``trying_since`` is the ``date``, unless the mail was given up meanwhile and is tried anew: it says how long the
    mail server has been putting it off.
    """

    message_id: str
    date: datetime
    trying_since: datetime


@dataclass(frozen=True, kw_only=True)
class AlreadySent:
    """It was sent before."""

    message_id: str


@dataclass(frozen=True, kw_only=True)
class Held:
    """It may have been sent before; an admin decides."""

    message_id: str


@dataclass(frozen=True, kw_only=True)
class Suppressed:
    """The recipient is on the suppression list: ``reason`` is bounce, complaint, refused or manual."""

    message_id: str
    reason: str
    since: datetime


class MailLedger:
    """The rows of ``skycap.mail_ledger``. Every method raises Unavailable when the database cannot be reached."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(
        self,
        intent: Intent,
        *,
        on_unknown: OnUnknown,
        stale_after: timedelta = STALE_AFTER,
        repeat_after: timedelta | None = None,
    ) -> Proceed | AlreadySent | Held | Suppressed:
        """Ask for the row, in one round trip. After ``repeat_after``, what another job has ended is a new mail.

        Raises Unavailable while another job is at the same mail, unless it has not moved for ``stale_after``; and
        LedgerLost in a run whose job was claimed again.
        """
        row = await self._database.fetchrow(
            _BEGIN,
            *(intent.key, intent.message_id, intent.kind, intent.job_id, intent.claim, intent.recipient_hash),
            *(intent.template, intent.locale, on_unknown == "hold", MOST_SENDS, stale_after),
            *(repeat_after, intent.verp_token),
        )
        if row is None:
            raise Unavailable("mail", "the ledger gave no answer")
        verdict, message_id = row["verdict"], row["first_message_id"]
        if verdict == "proceed":
            return Proceed(message_id=message_id, date=row["first_intent"], trying_since=row["tried_since"])
        if verdict == "sent":
            return AlreadySent(message_id=message_id)
        if verdict == "held":
            return Held(message_id=message_id)
        if verdict == "suppressed":
            return Suppressed(message_id=message_id, reason=row["suppressed_for"], since=row["suppressed_since"])
        if verdict == "lost":
            raise LedgerLost(message_id)
        raise Unavailable("mail", "another job is sending the same mail")

    async def dot(self, intent: Intent) -> None:
        """The last bytes are about to leave."""
        await self._move(intent, "dot", since=("sending",))

    async def sent(self, intent: Intent, *, code: int, text: str) -> None:
        await self._move(intent, "sent", since=("dot", "sent"), code=code, text=text)

    async def deferred(self, intent: Intent, *, code: int | None, text: str) -> None:
        await self._move(intent, "deferred", since=("sending", "dot", "deferred"), code=code, text=text)

    async def failed(self, intent: Intent, *, code: int | None, text: str) -> None:
        await self._move(intent, "failed", since=("sending", "dot", "failed"), code=code, text=text)

    async def unknown(self, intent: Intent, *, text: str) -> None:
        await self._move(intent, "unknown", since=("dot", "unknown"), text=text)

    async def _move(
        self, intent: Intent, state: str, *, since: tuple[str, ...], code: int | None = None, text: str | None = None
    ) -> None:
        """Raises LedgerLost unless the row is still this run's."""
        moved = await self._database.fetchval(
            _MOVE, intent.key, intent.job_id, intent.claim, state, list(since), code, text
        )
        if not moved:
            raise LedgerLost(intent.message_id)


def message_id_of(key: str, *, kind: str, domain: str) -> str:
    """The Message-ID of the mail that means ``key``: the same whenever and by whomever it is made."""
    digest = base64.b32encode(hashlib.sha256(key.encode()).digest()).decode().lower()
    return f"<{kind}.{digest[:_MESSAGE_ID_LENGTH]}@{domain}>"


def recipient_hash_of(address: str) -> str:
    """What the ledger keeps of an address: enough to find all mails to one who asks, not to read whose they are."""
    return hashlib.sha256(address.strip().lower().encode()).hexdigest()
