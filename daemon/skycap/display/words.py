"""Words: numbers, durations and moments as people read them at a glance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

UNKNOWN = "unknown"
NOTHING = "-"

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_KIBI = 1024
_SMALL_RATE = 10


def count(number: int | None) -> str:
    """``1,204``."""
    return UNKNOWN if number is None else f"{number:,}"


def plural(number: int, noun: str) -> str:
    """``1 job``, ``12 jobs``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(length: timedelta) -> str:
    """Its two largest units: ``40 s``, ``12 min``, ``2 h 5 min``, ``3 d 4 h``."""
    seconds = max(0, round(length.total_seconds()))
    if seconds < _MINUTE:
        return f"{seconds} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE} min"
    if seconds < _DAY:
        return _two(seconds // _HOUR, "h", seconds % _HOUR // _MINUTE, "min")
    return _two(seconds // _DAY, "d", seconds % _DAY // _HOUR, "h")


def brief(length: timedelta) -> str:
    """As ``duration``, for narrow columns: ``40s``, ``12m``, ``2h5m``, ``3d4h``."""
    return duration(length).replace("min", "m").replace(" ", "")


def milliseconds(length: timedelta) -> str:
    """``3 ms``."""
    return f"{round(length.total_seconds() * 1000)} ms"


def moment(at: datetime, *, now: datetime) -> str:
    """``22:14``, and the day besides if it is another one; in UTC, which the page says once."""
    at, now = at.astimezone(UTC), now.astimezone(UTC)
    if at.date() == now.date():
        return f"{at:%H:%M}"
    return f"{at:%d %b %H:%M}" if at.year == now.year else f"{at:%d %b %Y %H:%M}"


def away(at: datetime, *, now: datetime) -> str:
    """``12 min ago``, ``in 5 h``."""
    return f"{duration(now - at)} ago" if at <= now else f"in {duration(at - now)}"


def since(at: datetime, *, now: datetime) -> str:
    """``since 22:14 (12 min)``."""
    return f"since {moment(at, now=now)} ({duration(now - at)})"


def rate(per_minute: float) -> str:
    """``0``, ``0.4``, ``12``, ``1,204``."""
    return f"{per_minute:.1f}" if 0 < per_minute < _SMALL_RATE else f"{per_minute:,.0f}"


def percent(fraction: float) -> str:
    """``0 %``, ``4.2 %``, ``100 %``; never a hundred or nothing where there is a little of the other."""
    if fraction in {0, 1}:
        return f"{fraction:.0%}".replace("%", " %")
    return f"{min(max(100 * fraction, 0.1), 99.9):.1f} %"


def size(number: int) -> str:
    """``712 B``, ``84 MiB``, ``1.2 GiB``."""
    value, unit = float(number), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < _KIBI:
            break
        value, unit = value / _KIBI, larger
    return f"{value:.1f} {unit}" if unit in {"GiB", "TiB"} else f"{value:.0f} {unit}"


def _two(first: int, large: str, second: int, small: str) -> str:
    return f"{first} {large} {second} {small}" if second else f"{first} {large}"
