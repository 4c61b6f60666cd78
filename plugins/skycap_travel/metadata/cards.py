"""Cards: what a receipt may say about a payment card, which is its brand and its last four digits, and no more."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from skycap_travel.metadata.free_form import first

_LAST_FOUR: Final = (
    *("cardLast4", "last4", "cardLastFour", "lastFour", "last4Digits", "cardLast4Digits", "lastFourDigits"),
    *("card.last4", "card.lastFour", "card.last4Digits", "payment.last4", "payment.cardLast4", "payment.card.last4"),
    *(
        "paymentMethod.card.last4",
        "paymentMethodDetails.card.last4",
        "paymentDetails.last4",
        "paymentDetails.cardLast4",
    ),
    *("maskedCard", "maskedPan", "cardMask", "card.masked", "payment.maskedCard", "paymentDetails.maskedCard"),
    *("cardNumber", "card.number", "payment.cardNumber", "paymentDetails.cardNumber", "card"),
)
_BRAND: Final = (
    *("cardBrand", "cardType", "cardScheme", "brand", "card.brand", "card.type", "card.network", "card.scheme"),
    *("payment.brand", "payment.cardBrand", "payment.card.brand", "paymentMethod.card.brand"),
    *("paymentMethodDetails.card.brand", "paymentDetails.brand", "paymentDetails.cardBrand"),
)
_BRANDS: Final[Mapping[str, str]] = {
    "visa": "Visa",
    "mastercard": "Mastercard",
    "mc": "Mastercard",
    "amex": "American Express",
    "american express": "American Express",
    "troy": "Troy",
    "maestro": "Maestro",
    "discover": "Discover",
    "diners": "Diners Club",
    "diners club": "Diners Club",
    "jcb": "JCB",
    "unionpay": "UnionPay",
    "mir": "Mir",
}

# At most the first eight digits, then a mask, then the last four: **** 4242, 424242******4242, XXXX-4242.
_MASKED = re.compile(r"(?:\d[\d -]{0,9})?[ -]*[*•·#xX.…]+[*•·#xX.… -]*(\d{4})", re.ASCII)
_FOUR = re.compile(r"\d{4}", re.ASCII)
_DIGITS = re.compile(r"(?<!\d)\d(?:[\W_]{0,3}\d){11,}")
_LENGTHS = range(12, 20)
_LONGEST_RUN: Final = 40
"""Digits that are searched for a card number. More of them are nothing that anybody reads, and hidden unseen."""
# ISO/IEC 7812: the first digits of the schemes that are in use; other numbers are no cards, whatever their checksum.
_ISSUERS = re.compile("[3-6]|2[2-7]|9792", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Card:
    """At least one of both; ``brand`` is a known one's own spelling, ``last_four`` four digits."""

    brand: str | None
    last_four: str | None

    def __str__(self) -> str:
        return " ".join(filter(None, (self.brand, self.last_four and f"•••• {self.last_four}")))


def card_of(meta_data: Mapping[str, object]) -> Card | None:
    """The card in ``meta_data``. A number in full is cut to its last four digits, or left out if it is none."""
    brand = first(meta_data, _BRAND, _brand)
    last_four = first(meta_data, _LAST_FOUR, _last_four)
    return Card(brand=brand, last_four=last_four) if brand or last_four else None


def without_card_numbers(text: str) -> str:
    """``text`` with •••• for whatever may be a card number, in digits of any script; rather one too many."""
    return _DIGITS.sub(lambda found: "••••" if _hides_one(found[0]) else found[0], text)


def is_card_number(digits: str) -> bool:
    """12 to 19 ASCII digits of a known kind of issuer, with Luhn's checksum."""
    if len(digits) not in _LENGTHS or not _ISSUERS.match(digits):
        return False
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(doubled) + sum(int(digit) for digit in digits[-1::-2])) % 10 == 0


def _brand(value: object) -> str | None:
    return _BRANDS.get(" ".join(value.replace("_", " ").split()).lower()) if isinstance(value, str) else None


def _last_four(value: object) -> str | None:
    # A number has lost its leading zeros: 42 may have been 0042, or nothing of the kind.
    text = str(value).strip() if isinstance(value, str | int) else ""
    if len(text) > _LONGEST_RUN:
        return None
    if _FOUR.fullmatch(text):
        return text
    if masked := _MASKED.fullmatch(text):
        return masked[1]
    digits = re.sub("[ -]", "", text)
    return digits[-4:] if digits.isascii() and digits.isdigit() and is_card_number(digits) else None


def _hides_one(run: str) -> bool:
    """Whether a card number stands in ``run``, which may be longer: an expiry date may follow, or a second number."""
    digits = "".join(str(int(character)) for character in run if character.isdecimal())
    return len(digits) > _LONGEST_RUN or any(
        is_card_number(digits[start : start + length])
        for length in _LENGTHS
        for start in range(len(digits) - length + 1)
    )
