"""Periods: whole days of one zone, and the moments between which they lie."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from skycap_travel.payloads.reports import NamedPeriod
from skycap_travel.rows import stored

_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Period:
    """From the first to the last day, both included."""

    first_day: date
    last_day: date

    @classmethod
    def named(cls, name: NamedPeriod, today: date) -> Period:
        """The last whole one before ``today``."""
        match name:
            case NamedPeriod.YESTERDAY:
                begin, end = today - _DAY, today
            case NamedPeriod.LAST_WEEK:
                end = today - today.weekday() * _DAY
                begin = end - 7 * _DAY
            case NamedPeriod.LAST_MONTH:
                end = today.replace(day=1)
                begin = (end - _DAY).replace(day=1)
            case NamedPeriod.LAST_QUARTER:
                end = date(today.year, (today.month - 1) // 3 * 3 + 1, 1)
                last = end - _DAY
                begin = date(last.year, last.month - 2, 1)
            case NamedPeriod.LAST_YEAR:
                end = date(today.year, 1, 1)
                begin = date(today.year - 1, 1, 1)
        return cls(first_day=begin, last_day=end - _DAY)

    def bounds(self, zone: ZoneInfo) -> tuple[datetime, datetime]:
        """The first moment, and the first one after it, as columns without a zone have them: in UTC."""
        return _begin_of(self.first_day, zone), _begin_of(self.last_day + _DAY, zone)


def _begin_of(day: date, zone: ZoneInfo) -> datetime:
    return stored(datetime.combine(day, time(), tzinfo=zone))
