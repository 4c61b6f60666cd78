"""Ids for rows that skycap adds to the backend's tables: text that sorts by time, as the backend's own."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_TIME_DIGITS, _RANDOM_DIGITS = 8, 16


def new_row_id(now: datetime) -> str:
    """A ``c``, the milliseconds of ``now`` and 82 random bits, in base 36: the shape of a cuid."""
    milliseconds = (now - _EPOCH) // timedelta(milliseconds=1)
    return "c" + _base36(milliseconds, _TIME_DIGITS) + _base36(secrets.randbits(82), _RANDOM_DIGITS)


def _base36(number: int, length: int) -> str:
    digits = ""
    for _ in range(length):
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits
