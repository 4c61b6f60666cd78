"""The price sweep on a real PostgreSQL: every rule, every NULL, a plain model beside it, and two sweeps at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skycap import JobState
from skycap.outcome import Snoozed
from skycap.testing import perform
from skycap_travel.payloads import SendPriceAlert
from skycap_travel.price_alerts import PriceAlertsSettings, send_price_alert
from tests.support.price_alerts import NOW, THEN, Alert, Guest, Price, Prices, Verdict, judged, prices_at

FALLEN = Price(id="p1", price=Decimal(950))
REACHED = Price(id="p1", price=Decimal(900))
NOTHING = Verdict(status="ACTIVE")
TRIGGERED = Verdict(status="TRIGGERED", new_price=Decimal(900), is_mailed=True)


@pytest.fixture
async def prices(database_url: str) -> AsyncGenerator[Prices]:
    async with prices_at(database_url) as tables:
        yield tables


CASES: dict[str, tuple[Alert, list[Price], Verdict]] = {
    "the target is reached exactly": (Alert(), [REACHED], TRIGGERED),
    "the target is missed by the last decimal": (
        Alert(),
        [Price(id="p1", price=Decimal("900.000000000000000000000000000001"))],
        NOTHING,
    ),
    "without a percentage only the target counts": (Alert(percentage=None), [FALLEN], NOTHING),
    "it has fallen by the percentage exactly": (
        Alert(percentage=Decimal(5)),
        [FALLEN],
        Verdict(status="ACTIVE", new_price=Decimal(950), is_mailed=True),
    ),
    "it has fallen by a little less": (
        Alert(percentage=Decimal("5.000000000000000000000000000001")),
        [FALLEN],
        NOTHING,
    ),
    "a third is no rounded third": (
        Alert(current=Decimal(3), target=Decimal(1), percentage=Decimal("33.333333333333333333333333333333")),
        [Price(id="p1", price=Decimal(2))],
        Verdict(status="ACTIVE", new_price=Decimal(2), is_mailed=True),
    ),
    "no fall is no fall of 0 percent": (Alert(percentage=Decimal(0)), [Price(id="p1", price=Decimal(1000))], NOTHING),
    "it has risen": (Alert(percentage=Decimal(5)), [Price(id="p1", price=Decimal(1100))], NOTHING),
    "it has risen to the target": (
        Alert(current=Decimal(800)),
        [REACHED],
        TRIGGERED,
    ),
    "the last price was 0": (Alert(current=Decimal(0), percentage=Decimal(5)), [FALLEN], NOTHING),
    "the last price was 0 and the target is reached": (Alert(current=Decimal(0)), [REACHED], TRIGGERED),
    "it costs nothing any more": (
        Alert(),
        [Price(id="p1", price=Decimal(0))],
        Verdict(status="TRIGGERED", new_price=Decimal(0), is_mailed=True),
    ),
    "a price below 0 is none": (Alert(), [Price(id="p1", price=Decimal(-1))], NOTHING),
    "a price that is no number is none": (Alert(), [Price(id="p1", price=Decimal("NaN"))], NOTHING),
    "a last price that is no number is none": (Alert(current=Decimal("NaN")), [REACHED], NOTHING),
    "its entity has no history": (Alert(), [], NOTHING),
    "another entity's price is no price of this one": (Alert(), [replace(REACHED, entity=("HOTEL", "h2"))], NOTHING),
    "a flight of the same id is another entity": (Alert(), [replace(REACHED, entity=("FLIGHT", "h1"))], NOTHING),
    "another currency does not compare": (Alert(), [replace(REACHED, currency="EUR")], NOTHING),
    "a newer price in another currency hides nothing": (
        Alert(),
        [REACHED, Price(id="p2", price=Decimal(1), currency="EUR", at=THEN)],
        TRIGGERED,
    ),
    "the newest price counts": (
        Alert(),
        [replace(REACHED, at=THEN - timedelta(days=1)), Price(id="p0", price=Decimal(1000))],
        NOTHING,
    ),
    "of two prices at one time that with the greater id counts": (
        Alert(),
        [Price(id="b", price=Decimal(900)), Price(id="a", price=Decimal(1000)), Price(id="B", price=Decimal(2000))],
        TRIGGERED,
    ),
    "it expires right now": (Alert(expires_at=THEN), [REACHED], Verdict(status="EXPIRED")),
    "it expires in a moment": (Alert(expires_at=THEN + timedelta(milliseconds=1)), [REACHED], TRIGGERED),
    "it was notified six hours ago": (Alert(notified_at=THEN - timedelta(hours=6)), [REACHED], TRIGGERED),
    "it was notified a little later": (
        Alert(notified_at=THEN - timedelta(hours=6) + timedelta(milliseconds=1)),
        [REACHED],
        NOTHING,
    ),
    "it is triggered already": (Alert(status="TRIGGERED"), [REACHED], Verdict(status="TRIGGERED")),
    "it is disabled": (Alert(status="DISABLED", expires_at=THEN), [REACHED], Verdict(status="DISABLED")),
    "its guest is not active": (Alert(user_id="gone"), [REACHED], NOTHING),
    "its guest wants no mail": (Alert(methods=["PUSH", "SMS"]), [REACHED], replace(TRIGGERED, is_mailed=False)),
    "its guest wants a mail, too": (Alert(methods=["PUSH", None, "EMAIL"]), [REACHED], TRIGGERED),
    "how its guest is to be told is not known": (Alert(methods=None), [REACHED], replace(TRIGGERED, is_mailed=False)),
    "its guest wants nothing but a NULL": (Alert(methods=[None]), [REACHED], replace(TRIGGERED, is_mailed=False)),
    "it is about something that has no prices": (
        Alert(entity=("CRUISE", "c1")),
        [replace(REACHED, entity=("CRUISE", "c1"))],
        NOTHING,
    ),
    "its id fits in no payload": (
        Alert(entity=("HOTEL", "çeşme 1")),
        [replace(REACHED, entity=("HOTEL", "çeşme 1"))],
        replace(TRIGGERED, is_mailed=False),
    ),
}
GUESTS = (Guest(), Guest(id="gone", is_active=False))


async def test_the_rules(prices: Prices) -> None:
    found: dict[str, Verdict] = {}
    for case, (alert, history, _) in CASES.items():
        await prices.fill(guests=GUESTS, alerts=[alert], prices=history)
        assert (await prices.sweep()).state is JobState.COMPLETED, case
        found[case] = (await prices.verdicts())["a1"]
    assert found == {case: expected for case, (_, _, expected) in CASES.items()}


def test_the_model_of_the_random_cases_knows_the_rules() -> None:
    found = {case: judged(alert, GUESTS, history) for case, (alert, history, _) in CASES.items()}
    assert found == {case: expected for case, (_, _, expected) in CASES.items()}


async def test_what_a_claim_writes(prices: Prices) -> None:
    guest = Guest(language="de-AT")
    await prices.fill(guests=[guest], alerts=[Alert(percentage=Decimal(5))], prices=[FALLEN])
    done = await prices.sweep()
    assert done.result == {"expired": 0, "seen": 1, "notified": 1, "mailed": 1}
    assert done.progress == [1.0]
    alert = await prices.alert()
    assert (alert["currentPrice"], alert["notificationCount"], alert["state"]) == (Decimal(950), 1, "ACTIVE")
    assert alert["lastNotifiedAt"] == alert["updatedAt"] == THEN
    (note,) = await prices.notifications()
    assert (note["userId"], note["kind"], note["isRead"], note["createdAt"]) == ("u1", "PRICE_DROP", False, THEN)
    assert note["title"] == "Der Preis ist gefallen"
    assert note["message"] == "Ilıca Koyu kostet jetzt 950,00\xa0TRY statt 1.000,00\xa0TRY."
    assert note["data"] == {
        "alertId": "a1",
        "entityType": "HOTEL",
        "entityId": "h1",
        "oldPrice": 1000,
        "newPrice": 950,
        "savings": 50,
    }
    assert await prices.mails() == [
        {
            "alertId": "a1",
            "userId": "u1",
            "entityType": "HOTEL",
            "entityId": "h1",
            "oldPrice": "1000.000000000000000000000000000000",
            "newPrice": "950.000000000000000000000000000000",
        }
    ]


async def test_money_is_kept_to_its_last_digit(prices: Prices) -> None:
    exact = Decimal("12345678901234567890123456789012345.123456789012345678901234567891")
    await prices.fill(alerts=[Alert(target=exact, current=exact + 1)], prices=[Price(id="p1", price=exact)])
    await prices.sweep()
    text = await prices.connection.fetchval("SELECT data ->> 'newPrice' FROM notifications")
    assert Decimal(text) == (await prices.alert())["currentPrice"] == exact


async def test_the_mail_agrees_with_what_was_claimed(prices: Prices) -> None:
    alerts = [Alert(id="fallen", percentage=Decimal(5), target=Decimal(1)), Alert(id="reached", target=Decimal(950))]
    await prices.fill(alerts=alerts, prices=[FALLEN])
    await prices.sweep()
    for fields in await prices.mails():
        payload = SendPriceAlert.model_validate(fields)
        done = await perform(send_price_alert, payload, settings=PriceAlertsSettings(), db=prices.pool, now=NOW)
        assert done.state is JobState.COMPLETED
        assert [mail.to for mail in done.mails] == ["u1@example.com"]


async def test_a_second_sweep_tells_nothing_until_the_price_falls_again(prices: Prices) -> None:
    await prices.fill(alerts=[Alert(percentage=Decimal(5), target=Decimal(1))], prices=[FALLEN])
    await prices.sweep()
    assert (await prices.sweep(now=NOW + timedelta(hours=6))).result["notified"] == 0
    await prices.connection.execute(
        """
        INSERT INTO price_history (id, "entityType", "entityId", price, "createdAt")
        VALUES ('p2', 'HOTEL', 'h1', 900, $1)
        """,
        THEN + timedelta(hours=1),
    )
    assert (await prices.sweep(now=NOW + timedelta(hours=5))).result["notified"] == 0
    assert (await prices.sweep(now=NOW + timedelta(hours=6))).result["notified"] == 1
    assert (await prices.alert())["notificationCount"] == 2


async def test_every_alert_is_seen_once_whatever_the_page(prices: Prices) -> None:
    kinds = ("HOTEL", "TOUR")
    alerts = [Alert(id=f"a{n}", entity=(kinds[n % 2], f"e{n % 3}")) for n in range(12)]
    history = [Price(id=f"p{n}", price=Decimal(900), entity=("HOTEL", f"e{n}")) for n in range(3)]
    for page in (1, 2, 3, 7, 100):
        await prices.fill(alerts=alerts, prices=history)
        done = await prices.sweep(page=page)
        assert done.result == {"expired": 0, "seen": 12, "notified": 6, "mailed": 6}, page
        assert done.progress == sorted(done.progress)
        assert done.progress[-1] == 1.0


async def test_alerts_past_their_end_expire_in_batches(prices: Prices) -> None:
    past = [Alert(id=f"a{number}", expires_at=THEN - timedelta(minutes=number // 3)) for number in range(10)]
    done = await _swept(prices, [*past, Alert(id="open")], page=3)
    assert done["expired"] == 10
    assert {alert_id for alert_id, verdict in (await prices.verdicts()).items() if verdict.status == "ACTIVE"} == {
        "open"
    }


async def _swept(prices: Prices, alerts: list[Alert], *, page: int) -> dict[str, Any]:
    await prices.fill(alerts=alerts)
    result: dict[str, Any] = (await prices.sweep(page=page)).result
    return result


async def test_an_alert_that_somebody_changes_is_left_to_the_next_sweep(prices: Prices) -> None:
    await prices.fill(alerts=[Alert(), Alert(id="a2")], prices=[REACHED])
    async with prices.connection.transaction():
        await prices.connection.execute("UPDATE price_alerts SET status = 'DISABLED' WHERE id = 'a2'")
        assert (await prices.sweep()).result["notified"] == 1
    assert (await prices.sweep()).result["notified"] == 0
    assert (await prices.alert("a2"))["state"] == "DISABLED"


async def test_a_guest_who_is_being_deleted_is_not_waited_for(prices: Prices) -> None:
    await prices.fill(
        guests=[Guest(), Guest(id="u2")], alerts=[Alert(), Alert(id="a2", user_id="u2")], prices=[REACHED]
    )
    async with prices.connection.transaction():
        await prices.connection.execute("DELETE FROM users WHERE id = 'u2'")
        assert (await prices.sweep()).result["notified"] == 1
    assert await prices.connection.fetchval("SELECT count(*) FROM price_alerts") == 1


async def test_an_alert_whose_guest_is_gone_is_passed_over(prices: Prices) -> None:
    await prices.connection.execute('ALTER TABLE price_alerts DROP CONSTRAINT "price_alerts_userId_fkey"')
    await prices.fill(alerts=[Alert(user_id="deleted"), Alert(id="a2")], prices=[REACHED])
    assert (await prices.sweep()).result["notified"] == 1


async def test_two_sweeps_at_once_tell_each_drop_once(prices: Prices) -> None:
    alerts = [Alert(id=f"a{number}", entity=("HOTEL", f"h{number % 10}")) for number in range(300)]
    history = [replace(REACHED, id=f"p{number}", entity=("HOTEL", f"h{number}")) for number in range(10)]
    await prices.fill(alerts=alerts, prices=history)
    done = await asyncio.gather(*(prices.sweep(page=page) for page in (7, 10, 13)))
    assert all(each.state is JobState.COMPLETED for each in done)
    # What one of them had locked, another passed over; the next sweep finds nothing that all of them did.
    assert (await prices.sweep()).result["notified"] == 0
    assert sum(each.result["notified"] for each in done) == 300
    notes = [note["data"]["alertId"] for note in await prices.notifications()]
    mails = [mail["alertId"] for mail in await prices.mails()]
    assert sorted(notes) == sorted(mails) == sorted(alert.id for alert in alerts)
    counts = await prices.connection.fetch('SELECT DISTINCT "notificationCount" AS count FROM price_alerts')
    assert [row["count"] for row in counts] == [1]


async def test_a_sweep_that_loses_the_database_is_put_off_and_loses_no_drop(prices: Prices) -> None:
    await prices.fill(alerts=[Alert()], prices=[REACHED])
    await prices.connection.execute("""
        CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END';
        CREATE TRIGGER dies BEFORE INSERT ON notifications FOR EACH ROW EXECUTE FUNCTION die();
    """)
    done = await prices.sweep()
    assert done.state is JobState.SCHEDULED
    assert isinstance(done.outcome, Snoozed)
    await prices.connection.execute("DROP TRIGGER dies ON notifications")
    assert (await prices.sweep()).result["notified"] == 1


EXAMPLES = 50

AMOUNTS = st.one_of(
    st.decimals(0, 1000, places=2),
    st.decimals(0, 10, places=30),
    st.sampled_from([Decimal(0), Decimal(-1), Decimal("NaN"), Decimal(100), Decimal(95), Decimal("1e34")]),
)
TIMES = st.sampled_from([THEN - timedelta(hours=hours, milliseconds=ms) for hours in (0, 1, 6, 7) for ms in (0, 1, -1)])
ENTITIES = st.tuples(st.sampled_from(["HOTEL", "FLIGHT", "CRUISE"]), st.sampled_from(["e1", "e2"]))
CURRENCIES = st.sampled_from(["TRY", "EUR"])
ALERTS = st.builds(
    Alert,
    id=st.just(""),
    user_id=st.sampled_from(["u1", "u1", "gone"]),
    entity=ENTITIES,
    target=AMOUNTS,
    current=AMOUNTS,
    currency=CURRENCIES,
    status=st.sampled_from(["ACTIVE", "ACTIVE", "ACTIVE", "TRIGGERED", "DISABLED", "EXPIRED"]),
    methods=st.one_of(st.none(), st.lists(st.sampled_from(["EMAIL", "PUSH", None]), max_size=2)),
    percentage=st.one_of(st.none(), st.decimals(0, 100, places=3), AMOUNTS),
    expires_at=st.one_of(st.none(), TIMES, st.just(THEN + timedelta(days=1))),
    notified_at=st.one_of(st.none(), TIMES),
)
HISTORY = st.builds(Price, id=st.just(""), price=AMOUNTS, entity=ENTITIES, currency=CURRENCIES, at=TIMES)


def test_the_queries_do_what_the_rules_say_of_each_alert(database_url: str) -> None:
    with asyncio.Runner() as runner, _opened(runner, database_url) as tables:

        async def swept(alerts: list[Alert], history: list[Price], page: int) -> dict[str, Verdict]:
            await tables.fill(guests=GUESTS, alerts=alerts, prices=history)
            assert (await tables.sweep(page=page)).state is JobState.COMPLETED
            return await tables.verdicts()

        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(alerts=st.lists(ALERTS, max_size=20), history=st.lists(HISTORY, max_size=12), page=st.integers(1, 8))
        def compare(alerts: list[Alert], history: list[Price], page: int) -> None:
            alerts = [replace(alert, id=f"a{number:02}") for number, alert in enumerate(alerts)]
            history = [replace(price, id=f"p{number:02}") for number, price in enumerate(history)]
            found = runner.run(swept(alerts, history, page))
            assert found == {alert.id: judged(alert, GUESTS, history) for alert in alerts}

        compare()


@contextmanager
def _opened(runner: asyncio.Runner, database_url: str) -> Generator[Prices]:
    """``prices_at``, for a test that is not async: hypothesis calls no coroutines."""
    opening = prices_at(database_url)
    tables = runner.run(opening.__aenter__())
    try:
        yield tables
    finally:
        runner.run(opening.__aexit__(None, None, None))
