"""What skycap holds about a person: in its own tables, and in jobs that name them. Other tables are only read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, cast

from skycap.context import Database
from skycap.errors import MailRefused
from skycap.job import Job
from skycap.services.ledger import recipient_hash_of
from skycap.services.recipient import Recipient
from skycap.services.suppressions import Suppression, Suppressions

_MOST_ROWS = 100_000

# The backend's table is read where there is one, with these columns, that may be read.
_HAS_USERS = """
    SELECT count(*) = 2 FROM pg_attribute
    WHERE attrelid = to_regclass('users') AND attname IN ('id', 'email') AND NOT attisdropped
        AND has_column_privilege(attrelid, attnum, 'SELECT')
"""
_USERS = """
    SELECT id::text AS id, email::text AS email FROM users WHERE id::text = $1 OR lower(email::text) = lower($2)
"""

_MAILS = "SELECT * FROM skycap.mail_ledger WHERE recipient_hash = ANY($1::text[]) ORDER BY created_at LIMIT $2"
_BLANK_MAILS = """
    WITH blanked AS (
        UPDATE skycap.mail_ledger SET smtp_text = NULL, note = NULL, locale = NULL, verp_token = NULL
        WHERE recipient_hash = ANY($1::text[]) RETURNING 1
    )
    SELECT count(*) FROM blanked
"""

_OF_PERSON = """
    EXISTS (SELECT FROM jsonb_each_text(who) AS field WHERE field.value = $1 OR lower(field.value) = ANY($2::text[]))
"""
_LINKS = f"""
    SELECT plugin, who::text AS who, locale, created_at FROM skycap.unsubscribe_links
    WHERE {_OF_PERSON} ORDER BY created_at
"""  # noqa: S608 - a constant
_DELETE_LINKS = f"""
    WITH deleted AS (DELETE FROM skycap.unsubscribe_links WHERE {_OF_PERSON} RETURNING 1) SELECT count(*) FROM deleted
"""  # noqa: S608 - a constant


@dataclass(frozen=True)
class Person:
    """Whom it is about: the backend's id of the user, and the mail addresses that are known."""

    user_id: str | None
    addresses: tuple[str, ...]

    @property
    def recipient_hashes(self) -> list[str]:
        return [recipient_hash_of(address) for address in self.addresses]

    def is_named_in(self, job: Job) -> bool:
        """Whether the job's payload names them, or anything else that is kept with it."""
        labels = [*job.tags, job.unique_key or ""]
        words = [
            *(text for part in (job.payload, job.result) for text in _texts(part)),
            *labels,
            *(label for joined in labels for label in re.split(r"[:/|,;]", joined)),
        ]
        notes = [
            *(line.text for line in job.log),
            *(error.error for error in job.errors),
            job.reason or "",
            job.progress.note if job.progress else "",
        ]
        return (self.user_id is not None and self.user_id in words) or any(
            self._address.search(text) for text in (*words, *notes)
        )

    @cached_property
    def _address(self) -> re.Pattern[str]:
        """Any of the addresses in free text, but not as the end or the beginning of a longer one."""
        spellings = {spelling for address in self.addresses for spelling in _spellings(address)}
        if not spellings:
            return re.compile(r"(?!)")
        either = "|".join(map(re.escape, sorted(spellings)))
        return re.compile(rf"(?<![\w.+-])({either})(?![\w-]|\.\w)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Held:
    """The rows that are about one person."""

    mails: Sequence[Mapping[str, Any]]
    suppressions: Sequence[Suppression]
    unsubscribe_links: Sequence[Mapping[str, Any]]

    def as_document(self) -> dict[str, Any]:
        return {
            "mails": [{name: mail[name] for name in mail if name != "verp_token"} for mail in self.mails],
            "suppressions": [asdict(each) for each in self.suppressions],
            "unsubscribeLinks": [dict(link) for link in self.unsubscribe_links],
        }


class Privacy:
    """Every method raises Unavailable when the database cannot be reached."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def person(self, *, user_id: str | None, address: str | None) -> Person:
        """The person with what the backend's table ``users`` knows besides, where there is one."""
        found: Sequence[Mapping[str, Any]] = []
        if await self._database.fetchval(_HAS_USERS):
            found = await self._database.fetch(_USERS, user_id, address)
        known = [address, *(user["email"] for user in found if user_id in {None, user["id"]})]
        by_hash = {recipient_hash_of(each): each for each in (_normalised(each) for each in known if each)}
        return Person(user_id=user_id or next((user["id"] for user in found), None), addresses=tuple(by_hash.values()))

    async def held(self, person: Person) -> Held:
        listed = [await Suppressions(self._database).find(each) for each in person.recipient_hashes]
        return Held(
            mails=await self._database.fetch(_MAILS, person.recipient_hashes, _MOST_ROWS),
            suppressions=[each for each in listed if each is not None],
            unsubscribe_links=await self._database.fetch(_LINKS, *_of(person)),
        )

    async def blank_mails(self, person: Person) -> int:
        """Leave of each mail its hash and what became of it; how many there are."""
        return int(await self._database.fetchval(_BLANK_MAILS, person.recipient_hashes))

    async def delete_links(self, person: Person) -> int:
        return int(await self._database.fetchval(_DELETE_LINKS, *_of(person)))

    async def delete_suppressions(self, person: Person) -> int:
        removed = [await Suppressions(self._database).remove(each) for each in person.recipient_hashes]
        return sum(each is not None for each in removed)


def _of(person: Person) -> tuple[str | None, list[str]]:
    return person.user_id, [spelling.lower() for address in person.addresses for spelling in _spellings(address)]


def _normalised(address: str) -> str:
    """As mails are sent to it; what the backend holds may be no address, and then no mail was."""
    try:
        return Recipient.parse(address).address
    except MailRefused:
        return address


def _spellings(address: str) -> set[str]:
    try:
        return {address, Recipient.parse(address).ascii_address or address}
    except MailRefused:
        return {address}


def _texts(value: object) -> Iterator[str]:
    """Every text and number in JSON, the names of its fields too."""
    if isinstance(value, Mapping):
        for name, inner in cast("Mapping[object, object]", value).items():
            yield str(name)
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in cast("Sequence[object]", value):
            yield from _texts(inner)
    elif isinstance(value, str | int):
        yield str(value)
