"""Durations, moments, rates and bounds: as people type them, and as commands show them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Generic, TypeVar

import click

from skycap.engine.policy import Rate

_T = TypeVar("_T")

_UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
_DURATION = re.compile(r"(\d{1,18}(?:\.\d{1,9})?(?:e\d{1,2})?)(ms|[smhd])?", re.ASCII)
_RATE = re.compile(r"(\d{1,9})/(.+)", re.ASCII)


class NoBound(Enum):
    """What ``none`` stands for where there may be a bound; None is an option that was not given."""

    NONE = "none"


class Typed(click.ParamType[_T], Generic[_T]):
    """A parameter that ``read`` makes of its text; the ValueError of one that it cannot is shown as it is."""

    def __init__(self, name: str, read: Callable[[str], _T]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> _T:
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def duration_of(text: str) -> timedelta:
    """``90``, ``1.5``, ``90s``, ``15m``, ``2h``, ``7d``; ten years at most, since more is a mistake in the unit."""
    from skycap.admission import LONGEST_DELAY

    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no duration; give seconds such as 90, or 90s, 15m, 2h or 7d")
    number, unit = float(found[1]), _UNITS[found[2] or "s"]
    if number > LONGEST_DELAY / unit:
        raise ValueError(f"{text} is over the limit of ten years; is the unit right?")
    return number * unit


def moment_of(text: str) -> datetime:
    """A time with its zone, as ``2026-11-24T08:00+03:00`` or with Z."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no time; write it as 2026-11-24T08:00+03:00") from error
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone; add one, as in {text}+03:00 or {text}Z")
    return moment


def time_of(text: str) -> timedelta | datetime:
    """A duration from now, or a moment."""
    return duration_of(text) if _DURATION.fullmatch(text) else moment_of(text)


def rate_of(text: str) -> Rate:
    """``20/1s``: so many in any such time, within what the configuration file takes."""
    found = _RATE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no rate; give so many in a time, such as 20/1s or 1000/1h")
    number, per = int(found[1]), duration_of(found[2])
    return Rate(max=checked("rate_max", number), per=timedelta(seconds=checked("rate_seconds", per.total_seconds())))


def count_of(setting: str) -> Callable[[str], int]:
    """Reads what the configuration file takes as this setting of a queue."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", text):
            raise ValueError(f"{text!r} is no whole number; give one {_range(setting)}")
        return checked(setting, int(text))

    return read


def time_kept_of(setting: str) -> Callable[[str], timedelta]:
    """As ``count_of``, for a setting in seconds."""
    return lambda text: timedelta(seconds=checked(setting, duration_of(text).total_seconds()))


def or_none(read: Callable[[str], _T]) -> Callable[[str], _T | NoBound]:
    return lambda text: NoBound.NONE if text == NoBound.NONE.value else read(text)


def checked(setting: str, value: _T) -> _T:
    """The value, if the configuration file would take it as this setting of a queue; raises ValueError."""
    from pydantic import ValidationError

    from skycap.settings import QueueSettings

    try:
        QueueSettings.model_validate({setting: value})
    except ValidationError as error:
        raise ValueError(f"{value} does not fit {setting}; give a number {_range(setting)}") from error
    return value


def _range(setting: str) -> str:
    from skycap.settings import QueueSettings
    from skycap.settings.tree import range_of

    return range_of(QueueSettings.model_fields[setting])


def duration_text(duration: timedelta) -> str:
    """As one would type it: ``15m``, ``90s``."""
    name, unit = next(
        ((name, unit) for name, unit in _UNITS.items() if duration and not duration % unit), ("s", _UNITS["s"])
    )
    return f"{duration / unit:g}{name}"


def rate_text(rate: Rate) -> str:
    return f"{rate.max}/{duration_text(rate.per)}"


DURATION = Typed("duration", duration_of)
MOMENT = Typed("time", moment_of)
TIME = Typed("time", time_of)
RATE = Typed("rate", rate_of)
