"""Addresses in payloads: what is certainly valid is not asked about, and the library would have said the same."""

from __future__ import annotations

import pytest
from email_validator import validate_email
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from skycap_travel.addresses import MailAddress, is_usual


class Guest(BaseModel):
    address: MailAddress


words = st.text("abcXYZ019.-_+", min_size=1, max_size=70)
domains = st.lists(st.text("abcz09-", min_size=1, max_size=66), min_size=1, max_size=4).map(".".join)
endings = st.sampled_from(["com", "co", "travel", "test", "local", "localhost", "arpa", "onion", "invalid", "c", "x1"])


@given(words, domains, endings)
def test_the_library_agrees_with_every_usual_address(local: str, domain: str, ending: str) -> None:
    address = f"{local}@{domain}.{ending}"
    if is_usual(address):
        assert validate_email(address, check_deliverability=False).normalized == address


@pytest.mark.parametrize("address", ["ada@example.com", "Ada.Love-lace+x@mail.co-op.example.travel", "a_b@x.co"])
def test_usual_ones_stay_as_they_are(address: str) -> None:
    assert is_usual(address)
    assert Guest(address=address).address == address


@pytest.mark.parametrize(
    ("address", "normal"),
    [("Ada@EXAMPLE.com", "Ada@example.com"), ("ada@bücher.example.com", "ada@bücher.example.com")],
)
def test_others_are_made_normal_by_the_library(address: str, normal: str) -> None:
    assert not is_usual(address)
    assert Guest(address=address).address == normal


@pytest.mark.parametrize(
    "address",
    ["ada", "ada@", "@x.com", "ada@localhost", "ada@host.local", "a..b@x.com", "ada@x.com\n", 7],
)
def test_others_are_refused(address: object) -> None:
    with pytest.raises(ValidationError):
        Guest.model_validate({"address": address})


def test_one_that_is_longer_than_smtp_carries_is_refused() -> None:
    domain = ".".join(["a" * 60] * 4)
    with pytest.raises(ValidationError, match="too long"):
        Guest(address=f"ada.lovelace.of@{domain}.com")


def test_its_schema_says_that_it_is_an_address() -> None:
    schema = Guest.model_json_schema()["properties"]["address"]
    assert schema == {"type": "string", "format": "email", "maxLength": 254, "title": "Address"}
