"""Suppressions, unsubscribe links and the secret, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

import pytest

from skycap.errors import ConfigurationError
from skycap.services.database import DatabasePool
from skycap.services.ledger import recipient_hash_of
from skycap.services.migrations import migrate
from skycap.services.secrets import keyed, mail_secret
from skycap.services.suppressions import KEPT, Suppression, Suppressions
from skycap.services.unsubscribe_links import find, is_ours, remember, token_of

ADA = recipient_hash_of("ada@example.com")
BEN = recipient_hash_of("ben@example.com")
SECRET = b"known to nobody"
WHO = {"user": "u-1", "alert": "a-ş"}


@pytest.fixture
async def database(database_url: str) -> AsyncGenerator[DatabasePool]:
    pool = DatabasePool(dsn=database_url, prepare=migrate)
    yield pool
    await pool.close()


@pytest.fixture
def suppressions(database: DatabasePool) -> Suppressions:
    return Suppressions(database)


async def entry(suppressions: Suppressions, recipient_hash: str = ADA) -> Suppression:
    found = await suppressions.find(recipient_hash)
    assert found is not None
    return found


async def let_pass(database: DatabasePool, duration: timedelta) -> None:
    await database.execute(
        """
        UPDATE skycap.mail_suppressions
        SET created_at = created_at - $1::interval, expires_at = expires_at - $1::interval
        """,
        duration,
    )


async def test_one_refusal_is_no_proof_and_that_of_a_second_mail_is(suppressions: Suppressions) -> None:
    assert not await suppressions.refused(ADA, message_id="<1@x>", detail="5.1.1 no such user")
    assert not await suppressions.refused(ADA, message_id="<1@x>", detail="5.1.1 the same mail, sent again")
    assert not (await entry(suppressions)).is_listed
    assert await suppressions.refused(ADA, message_id="<2@x>", detail="5.1.1 no such user")
    found = await entry(suppressions)
    assert (found.is_listed, found.reason, found.count) == (True, "refused", 2)
    assert found.expires_at is not None
    assert await suppressions.find(BEN) is None


async def test_two_refusals_a_month_apart_confirm_nothing(suppressions: Suppressions, database: DatabasePool) -> None:
    await suppressions.refused(ADA, message_id="<1@x>", detail="")
    await let_pass(database, KEPT)
    assert not await suppressions.refused(ADA, message_id="<2@x>", detail="")
    found = await entry(suppressions)
    assert found.count == 1
    assert datetime.now(UTC) - found.created_at < timedelta(minutes=1)


async def test_what_proves_little_alone_is_confirmed_by_a_refusal(suppressions: Suppressions) -> None:
    assert not await suppressions.doubted(ADA, message_id="<1@x>", detail="Unrouteable address")
    assert not await suppressions.refused(ADA, message_id="<1@x>", detail="")
    assert await suppressions.refused(ADA, message_id="<2@x>", detail="")


async def test_a_bounce_lists_at_once_and_for_thirty_days(suppressions: Suppressions, database: DatabasePool) -> None:
    assert await suppressions.bounced(ADA, message_id="<1@x>", detail="failed 5.1.1")
    assert await suppressions.bounced(ADA, message_id="<1@x>", detail="failed 5.1.1")
    found = await entry(suppressions)
    assert (found.count, found.is_listed) == (1, True)
    assert found.expires_at is not None
    assert abs(found.expires_at - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=1)
    await let_pass(database, KEPT)
    assert not (await entry(suppressions)).is_listed
    assert await suppressions.newest(limit=9) == []
    assert [each.recipient_hash for each in await suppressions.newest(limit=9, with_unlisted=True)] == [ADA]
    assert await suppressions.bounced(ADA, message_id="<2@x>", detail="failed 5.1.1")
    assert (await entry(suppressions)).count == 1


async def test_a_complaint_is_for_ever_whatever_comes_after_it(suppressions: Suppressions) -> None:
    await suppressions.bounced(ADA, message_id="<1@x>", detail="failed 5.1.1")
    await suppressions.complained(ADA, message_id="<1@x>", detail="complaint: abuse")
    await suppressions.bounced(ADA, message_id="<2@x>", detail="failed 5.1.1")
    await suppressions.add(ADA)
    found = await entry(suppressions)
    assert (found.reason, found.detail, found.expires_at) == ("complaint", "complaint: abuse", None)


async def test_an_admins_word_holds_over_a_refusal(suppressions: Suppressions) -> None:
    await suppressions.refused(ADA, message_id="<1@x>", detail="5.1.1")
    assert await suppressions.add(ADA, detail="asked by telephone")
    assert await suppressions.refused(ADA, message_id="<2@x>", detail="5.1.1")
    found = await entry(suppressions)
    assert (found.reason, found.detail, found.expires_at, found.is_listed) == (
        "manual",
        "asked by telephone",
        None,
        True,
    )


async def test_who_is_taken_off_starts_with_nothing_against_them(suppressions: Suppressions) -> None:
    await suppressions.bounced(ADA, message_id="<1@x>", detail="failed 5.1.1")
    removed = await suppressions.remove(ADA)
    assert removed is not None
    assert removed.reason == "bounce"
    assert await suppressions.remove(ADA) is None
    assert not await suppressions.refused(ADA, message_id="<2@x>", detail="")


async def test_the_list_can_be_narrowed_down(suppressions: Suppressions) -> None:
    await suppressions.add(ADA)
    await suppressions.bounced(BEN, message_id="<1@x>", detail="")
    assert {each.recipient_hash for each in await suppressions.newest(limit=9)} == {ADA, BEN}
    assert [each.recipient_hash for each in await suppressions.newest(limit=9, reason="manual")] == [ADA]
    assert len(await suppressions.newest(limit=1)) == 1


async def test_the_secret_is_made_once_and_is_long(database: DatabasePool, database_url: str) -> None:
    secret = await mail_secret(database)
    assert len(secret) == 64
    again = DatabasePool(dsn=database_url, prepare=migrate)
    assert await mail_secret(again) == secret
    await again.close()
    await database.execute("DELETE FROM skycap.secrets")
    with pytest.raises(ConfigurationError, match=r"skycap\.secrets has no row 'mail'"):
        await mail_secret(database)


def test_where_a_part_ends_is_signed_too() -> None:
    assert keyed(SECRET, "p", b"ab", b"c") != keyed(SECRET, "p", b"a", b"bc")
    assert keyed(SECRET, "p", b"a") != keyed(SECRET, "q", b"a")


def test_a_link_is_the_same_in_every_mail_and_nobody_elses() -> None:
    token = token_of(SECRET, "travel", WHO)
    assert token == token_of(SECRET, "travel", dict(reversed(WHO.items())))
    others = [
        token_of(b"another", "travel", WHO),
        token_of(SECRET, "other", WHO),
        token_of(SECRET, "travel", {**WHO, "user": "u-2"}),
        token_of(SECRET, "travel", {"user": "u-1"}),
    ]
    assert len({token, *others}) == 5
    assert "u-1" not in token


def test_a_token_is_known_without_a_database() -> None:
    token = token_of(SECRET, "travel", WHO)
    assert is_ours(SECRET, token)
    assert not is_ours(b"another", token)
    for at in (0, 21, 42):
        # The last character has two bits that say nothing; these are none of them.
        other = "A" if token[at] != "A" else "w"
        assert not is_ours(SECRET, f"{token[:at]}{other}{token[at + 1 :]}")
    for wrong in (
        "",
        token[:-1],
        token + "A",
        "ş" * 43,
        "=" * 43,
        f"{token[:-1]}\n",
        "/" * 43,
        f"{token[:20]}+{token[21:]}",
    ):
        assert not is_ours(SECRET, wrong)


async def test_a_link_leads_to_what_it_stops(database: DatabasePool) -> None:
    token = token_of(SECRET, "travel", WHO)
    assert await find(database, token) is None
    await asyncio.gather(*(remember(database, token, "travel", WHO, "tr") for _ in range(3)))
    found = await find(database, token)
    assert found is not None
    assert (found.plugin, found.who, found.locale) == ("travel", WHO, "tr")
    assert await find(database, token_of(SECRET, "other", WHO)) is None
