"""The mail about a price: when it is sent, what it says of two prices, and what no payload can make of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from skycap import InvalidPayload, JobState
from skycap.envelope import Envelope
from skycap.outcome import Cancelled, Discarded
from skycap.registry import Registry
from skycap.services.message import RenderedMail
from skycap.testing import Mail, Performed, perform
from skycap_travel.price_alerts import EntityType, PriceAlertsSettings, SendPriceAlert, plugin, send_price_alert
from skycap_travel.rows import PRICE_ALERT_OF_USER
from tests.support.golden import assert_golden
from tests.support.mails import TEMPLATES, elements_of

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
UNSUBSCRIBE = "https://jobs.example.com/unsubscribe/q83vEjRWeJA"
LINKS = {
    "hotel_url": "https://www.example.com/hotels/{id}",
    "flight_url": "https://www.example.com/flights?offer={id}",
}
RECORD: dict[str, Any] = {
    "entity_type": "HOTEL",
    "entity_id": "ilica-koyu",
    "entity_name": "Ilıca Koyu Butik Otel",
    "target_price": Decimal("15000.000000000000000000000000000000"),
    "currency": "TRY",
    "status": "ACTIVE",
    "notification_methods": ["EMAIL"],
    "expires_at": datetime(2027, 1, 31, 12),  # noqa: DTZ001 - as the database returns it
    "email": "ayse@example.com",
    "guest_name": "Ayşe Yılmaz",
    "language": "tr",
    "is_user_active": True,
}


class Database:
    """Has one alert, or none."""

    def __init__(self, record: Mapping[str, Any] | None) -> None:
        self._record = record

    @property
    def fresh(self) -> Database:
        return self

    async def fetchrow(self, query: str, *args: object) -> Mapping[str, Any] | None:
        assert query == PRICE_ALERT_OF_USER
        assert args == ("alert-1", "user-1")
        return self._record


def payload(**fields: object) -> SendPriceAlert:
    given: dict[str, object] = {
        "alertId": "alert-1",
        "userId": "user-1",
        "entityType": "HOTEL",
        "entityId": "ilica-koyu",
        "oldPrice": 18450,
        "newPrice": "14999.10",
    }
    return SendPriceAlert.model_validate(given | fields)


async def alert(record: Mapping[str, Any] | None = RECORD, /, **fields: object) -> Performed:
    database: Any = Database(record)
    return await perform(
        send_price_alert,
        payload(**fields),
        settings=PriceAlertsSettings.model_validate(LINKS),
        db=database,
        now=NOW,
    )


def rendered(mail: Mail, *, locale: str = "en", unsubscribe_url: str | None = UNSUBSCRIBE) -> RenderedMail:
    variables = mail.variables | {"unsubscribe_url": unsubscribe_url}
    return TEMPLATES.render(mail.template, locale=locale, variables=variables)


async def written(record: Mapping[str, Any] = RECORD, /, **fields: object) -> RenderedMail:
    done = await alert(record, **fields)
    assert done.state is JobState.COMPLETED
    return rendered(done.mails[0])


GOLDEN: dict[str, tuple[dict[str, Any], dict[str, object]]] = {
    "hotel-target-reached": ({}, {}),
    "flight-dropped": (
        {
            "entity_type": "FLIGHT",
            "entity_name": "İzmir – London, June 11",
            "currency": "KWD",
            "target_price": Decimal(80),
            "expires_at": None,
            "guest_name": "يوسف العلي",
        },
        {"entityType": "FLIGHT", "oldPrice": "99.5", "newPrice": 87.125},
    ),
    "tour-reached-after-a-rise": (
        {"entity_type": "TOUR", "entity_name": " ", "currency": "JPY", "guest_name": None},
        {"entityType": "TOUR", "oldPrice": 9400, "newPrice": 9600},
    ),
}


@pytest.mark.parametrize("name", list(GOLDEN))
async def test_a_mail_looks_as_it_did_when_it_was_last_looked_at(name: str) -> None:
    columns, fields = GOLDEN[name]
    mail = await written(RECORD | columns, **fields)
    assert_golden(f"price_alerts/{name}.en.subject.txt", f"{mail.subject}\n")
    assert_golden(f"price_alerts/{name}.en.txt", mail.text)
    assert_golden(f"price_alerts/{name}.en.html", mail.html)


async def test_a_mail_means_one_price_of_one_alert_and_is_never_sent_twice() -> None:
    done = await alert()
    (mail,) = done.mails
    assert done.result == {"messageId": mail.message_id}
    assert (mail.to, mail.locale, mail.on_unknown) == ("ayse@example.com", "tr", "hold")
    assert mail.key == "price-alert:alert-1:14999.1"
    assert mail.max_age == timedelta(hours=2)
    assert mail.unsubscribe == {"alert": "alert-1", "user": "user-1"}


@pytest.mark.parametrize("price", [14999.1, "14999.1", "14999.100", "014999.10"])
async def test_one_price_has_one_key_however_it_is_written(price: object) -> None:
    assert (await alert(newPrice=price)).mails[0].key == "price-alert:alert-1:14999.1"


@pytest.mark.parametrize(
    ("price", "kept"),
    [
        (1234.1, "1234.1"),
        (1234.1 * 0.9, "1110.69"),
        (0.1 + 0.2, "0.3"),
        (5, "5"),
        (0, "0"),
        (1e15, "1000000000000000"),
        (1e-7, "0.0000001"),
        ("500.000000000000000000000000000000", "500.000000000000000000000000000000"),
        ("99999999999999999999999999999999999.5", "99999999999999999999999999999999999.5"),
    ],
)
def test_a_price_is_what_whoever_sent_it_meant(price: object, kept: str) -> None:
    on_the_wire = payload(newPrice=price).on_the_wire()
    assert on_the_wire["newPrice"] == kept
    assert SendPriceAlert.model_validate(json.loads(json.dumps(on_the_wire))) == payload(newPrice=price)


@pytest.mark.parametrize(
    "price",
    [
        *(float("nan"), float("inf"), -1, -0.01, 1e300, True, None, [], {}),
        *("NaN", "Infinity", "-1", "", " 5", "1,5", "1e3", "1_0", "٣", "5 TRY", "9" * 36, f"0.{'1' * 31}"),
    ],
)
def test_what_is_no_price_is_refused_when_it_is_enqueued(price: object) -> None:
    registry = Registry()
    registry.add(plugin, name="price-alerts", origin="test")
    fields = payload().on_the_wire() | {"newPrice": price}
    with pytest.raises(InvalidPayload) as refused:
        registry.checked_payload("send-price-alert", fields)
    assert refused.value.problems == [
        "newPrice: is no amount; write it like 1234.5, without sign, currency or separators"
    ]


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        ("1000", "875", "12.5% lower"),
        ("1000", "820", "18% lower"),
        ("1000", "874.5", "12.6% lower"),
        ("1000", "999.5", "0.1% lower"),
        ("1000", "999.6", None),
        ("1000", "0.01", "99.9% lower"),
        ("1000", "0", "100% lower"),
        ("1000", "1000", None),
        ("1000", "1200", None),
        ("0", "0", None),
        ("0", "10", None),
    ],
)
async def test_a_fall_is_told_in_percent_and_a_rise_never_is(old: str, new: str, shown: str | None) -> None:
    mail = await written(RECORD | {"target_price": Decimal(2000)}, oldPrice=old, newPrice=new)
    for part in (mail.text, mail.html):
        assert ("lower" in part) == bool(shown)
        assert ("dropped" in part) == (Decimal(new) < Decimal(old))
        assert shown is None or shown in part
    assert ("<s " in mail.html) == (Decimal(new) < Decimal(old)), "an old price that is struck out says it was higher"


async def test_the_target_is_said_to_be_reached_only_when_it_is() -> None:
    assert "Target reached" in (await written(newPrice="15000")).text
    above = await written(newPrice="15000.01")
    assert "Target reached" not in above.text
    assert "Your target is not reached yet." in above.text


async def test_a_rise_above_the_target_is_no_news() -> None:
    done = await alert(oldPrice=18450, newPrice=18450)
    assert isinstance(done.outcome, Cancelled)
    assert done.outcome.reason == (
        "price alert alert-1: the price has not fallen and is above the target, so there is nothing to tell"
    )


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"status": "DISABLED"}, "its status is DISABLED"),
        ({"status": "EXPIRED"}, "its status is EXPIRED"),
        ({"status": "MUTED"}, "its status is MUTED"),
        ({"expires_at": NOW.replace(tzinfo=None)}, "it expired at 2026-11-23 09:00 UTC"),
        ({"notification_methods": ["PUSH", "SMS"]}, "its guest does not want it by mail"),
        ({"notification_methods": None}, "its guest does not want it by mail"),
        ({"is_user_active": False}, "its guest's account is not active"),
    ],
)
async def test_a_guest_who_does_not_want_it_any_more_gets_no_mail(columns: dict[str, Any], reason: str) -> None:
    done = await alert(RECORD | columns)
    assert isinstance(done.outcome, Cancelled)
    assert done.outcome.reason == f"price alert alert-1: {reason}"
    assert done.mails == []


async def test_the_mail_is_sent_also_when_the_sweep_was_faster_and_has_set_it_triggered() -> None:
    assert (await alert(RECORD | {"status": "TRIGGERED"})).state is JobState.COMPLETED


async def test_an_alert_that_is_not_the_users_is_discarded() -> None:
    done = await alert(None)
    assert isinstance(done.outcome, Discarded)
    assert done.outcome.error == "price alert alert-1 does not exist or is not user user-1's"


@pytest.mark.parametrize("fields", [{"entityType": "TOUR"}, {"entityId": "another"}])
async def test_prices_of_something_else_are_not_put_into_its_mail(fields: dict[str, object]) -> None:
    done = await alert(RECORD, **fields)
    assert isinstance(done.outcome, Discarded)
    assert done.outcome.error.startswith("price alert alert-1 is not about ")


@pytest.mark.parametrize(
    ("kind", "entity_id", "link"),
    [
        ("HOTEL", "ilica-koyu", "https://www.example.com/hotels/ilica-koyu"),
        ("HOTEL", 'a/b?c="d', "https://www.example.com/hotels/a%2Fb%3Fc%3D%22d"),
        ("HOTEL", "..", None),
        ("FLIGHT", "TK&1", "https://www.example.com/flights?offer=TK%261"),
        ("TOUR", "42", None),
    ],
)
async def test_the_link_leads_to_the_entity_where_its_address_is_configured(
    kind: str, entity_id: str, link: str | None
) -> None:
    record = RECORD | {"entity_type": kind, "entity_id": entity_id}
    mail = await written(record, entityType=kind, entityId=entity_id)
    links = [element.attributes["href"] for element in elements_of(mail.html) if element.tag == "a"]
    expected = ["mailto:destek@example.com", "https://www.example.com", UNSUBSCRIBE]
    assert links == ([link, *expected] if link else expected)
    assert ("View the" in mail.text) == bool(link)
    assert link is None or link in mail.text


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://www.example.com/{id}",
            "https://www.example.com/",
            "https:///{id}",
            "javascript:{id}",
            "/hotels/{id}",
        ),
        *("https://www.example.com/{id}/{id}", "https://{id}.example.com/", "https://www.example.com/{id}/{name}"),
        *("https://www.example.com/a b/{id}", "https://www.example.com/ş/{id}"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused_at_start(url: str) -> None:
    with pytest.raises(ValidationError, match=re.escape("write an address like https://www.example.com/hotels/{id}")):
        PriceAlertsSettings(hotel_url=url)


async def test_a_guest_who_cannot_reach_the_daemon_is_told_to_write() -> None:
    done = await alert()
    mail = rendered(done.mails[0], unsubscribe_url=None)
    assert "To stop this price alert, write to destek@example.com." in mail.text
    assert "unsubscribe" not in mail.html


async def test_the_html_says_all_that_the_text_says() -> None:
    for columns, fields in GOLDEN.values():
        mail = await written(RECORD | columns, **fields)
        in_text = set(re.findall(r"\w+", re.sub(r"https://\S+", "", mail.text)))
        in_html = {word for element in elements_of(mail.html) for word in re.findall(r"\w+", "".join(element.text))}
        assert in_text - in_html == set()


CHARACTERS = "<>&\"'=/`{}%#\r\n\t\x00\x0b\x1b\x85\u2028\u202e\u2066\u2069İ😀"
TEXT = st.one_of(
    st.lists(
        st.sampled_from(["</td>", "<script>", "{{brand}}", "%(name)s", *CHARACTERS]) | st.characters(), max_size=12
    ).map("".join),
    st.sampled_from(["x" * 10_000, "\u202eevil", "a\r\nBcc: all@example.com", "\ud800"]),
)


@settings(max_examples=60)
@given(name=TEXT, guest=TEXT)
async def test_what_others_wrote_is_text_and_nothing_else(name: str, guest: str) -> None:
    mail = await written(RECORD | {"entity_name": name, "guest_name": guest})
    has_name = "Hotel: " in mail.text
    harmless = await written(
        RECORD | {"entity_name": "x" if has_name else "", "guest_name": None if "Hello," in mail.text else "x"}
    )
    assert [(each.tag, each.attributes) for each in elements_of(mail.html)] == [
        (each.tag, each.attributes) for each in elements_of(harmless.html)
    ]
    assert mail.text.count("\n") == harmless.text.count("\n")
    assert len(mail.subject.splitlines()) == 1
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", mail.subject)
    assert len(mail.html.encode()) < 80 * 1024


ANY_JSON = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.lists(TEXT, max_size=2)


@settings(max_examples=200)
@given(
    fields=st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("alertId", "userId", "entityId"), ANY_JSON),
            "entityType": ANY_JSON | st.sampled_from(list(EntityType)),
            **dict.fromkeys(("oldPrice", "newPrice"), ANY_JSON | st.decimals() | st.decimals().map(str)),
        },
    )
)
def test_a_payload_is_refused_or_travels_unchanged(fields: dict[str, object]) -> None:
    wrong: set[int | str]
    made: SendPriceAlert | None
    try:
        made = payload(**fields)
    except ValidationError as error:
        made, wrong = None, {problem["loc"][0] for problem in error.errors()}
    else:
        wrong = set()
    assert wrong <= set(fields)
    if made is None:
        return
    envelope = Envelope(id="1", kind="k", payload=made.on_the_wire(), queue="q", priority=1, enqueued_at=NOW)
    assert SendPriceAlert.model_validate(Envelope.from_json(envelope.to_json()).payload) == made
    assert made.new_price.is_finite()
    assert made.new_price >= 0
