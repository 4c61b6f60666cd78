"""ReturnedMails: what a bounce or a complaint changes, in the ledger and on the suppression list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from skycap.context import Database
from skycap.services.bounces import Bounce
from skycap.services.ledger_entries import LedgerEntries, LedgerEntry
from skycap.services.suppressions import Suppressions

Effect = Literal["noted", "counted", "suppressed", "no mail of ours"]


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What became of it: ``counted`` speaks against the address, but only a second mail's bounce would suppress it."""

    effect: Effect
    message_id: str | None


class ReturnedMails:
    """Takes bounces in; the same one again changes nothing. Raises Unavailable when the database is away.

    With ``trusts_message_ids``, a mail that is only named by its Message-ID counts as much as one that came back to
    its own return address. Message-IDs can be guessed by who knows how mails are named; return addresses cannot.
    """

    def __init__(self, database: Database, *, trusts_message_ids: bool) -> None:
        self._entries = LedgerEntries(database)
        self._suppressions = Suppressions(database)
        self._trusts_message_ids = trusts_message_ids

    async def take_in(self, bounce: Bounce) -> Taken:
        entry = await self._returned(bounce)
        is_sure = entry is not None
        if entry is None:
            entry = await self._entries.of_message_ids(bounce.message_ids) if bounce.message_ids else None
            is_sure = self._trusts_message_ids
        if entry is None:
            return Taken(effect="no mail of ours", message_id=None)
        await self._write_down(entry, bounce)
        return Taken(effect=await self._judge(entry, bounce, is_sure=is_sure), message_id=entry.message_id)

    async def _returned(self, bounce: Bounce) -> LedgerEntry | None:
        """The mail to whose return address it came."""
        for token in bounce.tokens:
            if (entry := await self._entries.of_return_address(token)) is not None:
                return entry
        return None

    async def _write_down(self, entry: LedgerEntry, bounce: Bounce) -> None:
        if bounce.what == "complaint":
            await self._entries.complained(entry, note=bounce.detail)
        elif bounce.what == "failed":
            await self._entries.bounced(entry, status=bounce.status, note=bounce.detail)
        else:
            await self._entries.noted(entry, bounce.detail)

    async def _judge(self, entry: LedgerEntry, bounce: Bounce, *, is_sure: bool) -> Effect:
        if bounce.what != "complaint" and bounce.blames_address is False:
            return "noted"
        if not is_sure or (bounce.what == "failed" and bounce.blames_address is None):
            judge = self._suppressions.doubted
        elif bounce.what == "complaint":
            judge = self._suppressions.complained
        else:
            judge = self._suppressions.bounced
        is_listed = await judge(entry.recipient_hash, message_id=entry.message_id, detail=bounce.detail)
        return "suppressed" if is_listed else "counted"
