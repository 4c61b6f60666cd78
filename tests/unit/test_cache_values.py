"""What values of the cache become in Redis, and what they may be when they come back."""

from __future__ import annotations

import zlib
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import Field

from skycap.services.cache_outage import Outage
from skycap.services.cache_values import Shape, Unfit, document_of, packed, unpacked


@pytest.mark.parametrize(
    ("value", "model"),
    [
        ("ü", str),
        ([1, 2.5, None, True], None),
        ({"price": Decimal("129.50")}, dict[str, Decimal]),
        (float("inf"), float),
        (3, Annotated[int, Field(gt=2)]),
    ],
)
@pytest.mark.parametrize("limit", [0, 10_000])
def test_a_value_comes_back_as_its_model(value: Any, model: Any, limit: int) -> None:
    stored = packed(document_of(value), compress_over_bytes=limit)
    plain, compressed = (stored.content, None) if stored.field == "json" else (None, stored.content)
    assert Shape(model).read(unpacked(json=plain, compressed=compressed)) == value


def test_what_compression_makes_no_smaller_stays_plain() -> None:
    assert packed(b'"abc"', compress_over_bytes=0).field == "json"
    assert packed(b'"' + b"a" * 2000 + b'"', compress_over_bytes=1024).field == "zlib"


@pytest.mark.parametrize(
    "compressed",
    [b"", b"no zlib", zlib.compress(b"[]")[:-3], zlib.compress(b"0" * (64 * 1024 * 1024 + 1))],
    ids=["empty", "foreign", "cut off", "too large unpacked"],
)
def test_what_is_no_compressed_value_of_ours_is_a_miss(compressed: bytes) -> None:
    with pytest.raises(Unfit):
        unpacked(json=None, compressed=compressed)


@pytest.mark.parametrize("model", [None, int])
def test_what_is_no_json_is_a_miss(model: Any) -> None:
    with pytest.raises(Unfit):
        Shape(model).read(b"{")


def test_why_a_value_does_not_fit_is_said_without_the_value() -> None:
    with pytest.raises(Unfit, match=r"^price: Input should be a valid integer") as caught:
        Shape(dict[str, int]).read(b'{"price": "ada@example.com"}')
    assert "ada@example.com" not in str(caught.value)


def test_in_an_outage_one_caller_at_a_time_is_let_through() -> None:
    outage = Outage(pause=timedelta(0), patience=timedelta(minutes=1))
    assert [outage.lets_through(), outage.lets_through()] == [True, True]
    outage.began("away")
    assert [outage.lets_through(), outage.lets_through()] == [True, False]
    outage.ended()
    assert outage.lets_through()
