"""Amounts, dates and counts in the languages of the mails."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from babel import Locale

from skycap.services.formats import Formats

ENGLISH = Formats(Locale("en"))
TURKISH = Formats(Locale("tr"))
ARABIC = Formats(Locale("ar"))

EVENING = datetime(2026, 12, 24, 22, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("amount", "currency", "english", "turkish"),
    [
        ("12500.000000000000000000000000000000", "TRY", "TRY 12,500.00", "₺12.500,00"),
        ("840.5", "EUR", "€840.50", "€840,50"),
        ("45000.4", "JPY", "¥45,000", "¥45.000"),
        ("12.3456", "KWD", "KWD 12.346", "KWD 12,346"),
        ("-3", "KWD", "-KWD 3.000", "-KWD 3,000"),
        ("0.1", "USD", "$0.10", "$0,10"),
        ("1", "PTS", "PTS 1.00", "PTS 1,00"),
        ("10000000000000000.01", "TRY", "TRY 10,000,000,000,000,000.01", "₺10.000.000.000.000.000,01"),
    ],
)
def test_an_amount_has_the_digits_of_its_currency(amount: str, currency: str, english: str, turkish: str) -> None:
    written = [formats.money(Decimal(amount), currency).replace("\u00a0", " ") for formats in (ENGLISH, TURKISH)]
    assert written == [english, turkish]


@pytest.mark.parametrize("amount", [12.5, 12, "12", None, True])
def test_an_amount_is_a_decimal_and_nothing_else(amount: object) -> None:
    with pytest.raises(TypeError, match=f"money takes a Decimal, not {type(amount).__name__}"):
        ENGLISH.money(amount, "TRY")


@pytest.mark.parametrize("amount", ["NaN", "Infinity"])
def test_an_amount_that_is_no_number_is_refused(amount: str) -> None:
    with pytest.raises(ValueError, match="money takes an amount"):
        ENGLISH.money(Decimal(amount), "TRY")


def test_an_amount_needs_a_currency() -> None:
    with pytest.raises(TypeError, match="money takes a currency code, not NoneType"):
        ENGLISH.money(Decimal(1), None)


def test_a_date_is_written_out() -> None:
    assert ENGLISH.date(date(2026, 12, 24)) == "Thursday, December 24, 2026"
    assert TURKISH.date(date(2026, 12, 24)) == "24 Aralık 2026 Perşembe"
    assert TURKISH.date(date(2026, 12, 24), "long") == "24 Aralık 2026"


def test_a_moment_is_dated_where_it_happens() -> None:
    assert TURKISH.date(EVENING, "long", zone="Europe/Istanbul") == "25 Aralık 2026"
    assert TURKISH.date(EVENING, "long", zone="Europe/London") == "24 Aralık 2026"


def test_a_naive_moment_is_utc() -> None:
    assert TURKISH.time(EVENING.replace(tzinfo=None), zone="Europe/Istanbul") == "01:30"
    assert TURKISH.date(EVENING.replace(tzinfo=None), "long", zone="Europe/Istanbul") == "25 Aralık 2026"


def test_a_moment_names_its_clock() -> None:
    assert TURKISH.datetime_(EVENING, zone="Europe/Istanbul") == "25 Aralık 2026 Cuma 01:30 (İstanbul, GMT+03:00)"
    english = ENGLISH.datetime_(EVENING, "long", zone="Europe/London").replace("\u202f", " ")
    assert english == "December 24, 2026, 10:30 PM (London, GMT+00:00)"


def test_a_moment_without_a_zone_names_the_one_it_has() -> None:
    assert TURKISH.datetime_(EVENING.replace(tzinfo=None)).endswith("22:30 (GMT+00:00)")
    assert TURKISH.datetime_(EVENING.astimezone(timezone(timedelta(hours=5)))).endswith("03:30 (GMT+05:00)")


@pytest.mark.parametrize("filter_", [ENGLISH.date, ENGLISH.time, ENGLISH.datetime_])
def test_a_text_is_no_date(filter_: object) -> None:
    assert callable(filter_)
    with pytest.raises(TypeError, match="not str"):
        filter_("2026-12-24")


def test_a_zone_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(LookupError, match="Mars"):
        ENGLISH.time(EVENING, zone="Mars/Olympus")


def test_numbers_and_nights_are_the_languages_own() -> None:
    assert (ENGLISH.number(12345), TURKISH.number(12345)) == ("12,345", "12.345")
    assert (ENGLISH.nights(1), ENGLISH.nights(3), TURKISH.nights(3)) == ("1 night", "3 nights", "3 gece")
    assert (ARABIC.nights(2), ARABIC.nights(3)) == ("ليلتان", "3 ليالٍ")


@pytest.mark.parametrize("count", [True, 2.0, "2", None])
def test_a_count_is_a_whole_number(count: object) -> None:
    with pytest.raises(TypeError, match="nights takes a whole number"):
        ENGLISH.nights(count)
    with pytest.raises(TypeError, match="number takes an int or a Decimal"):
        ENGLISH.number(count)


def test_a_country_has_a_name_in_each_language() -> None:
    assert [formats.country("TR") for formats in (ENGLISH, TURKISH, ARABIC)] == ["Türkiye", "Türkiye", "تركيا"]
    assert [formats.country("Turkey") for formats in (ENGLISH, TURKISH)] == ["Türkiye", "Türkiye"]
    assert ENGLISH.country("Atlantis") == "Atlantis"


def test_a_value_is_kept_from_words_that_run_the_other_way() -> None:
    assert ARABIC.isolated("+90 232 000") == "\u2068+90 232 000\u2069"
    assert ENGLISH.isolated("+90 232 000") == "+90 232 000"


def test_a_minus_stays_at_its_number_from_right_to_left() -> None:
    assert ARABIC.money(Decimal("-350.5"), "TRY") == "\u200f\u200e-350.50\u200f\u00a0TRY"


def test_no_line_ends_within_a_time() -> None:
    assert ARABIC.time(EVENING, zone="Europe/Istanbul") == "1:30\u00a0ص"
