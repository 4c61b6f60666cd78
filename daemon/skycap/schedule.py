"""Schedule: a payload that is enqueued again and again, at the times of a crontab."""

from __future__ import annotations

from dataclasses import dataclass

from skycap.payload import Payload


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """``name`` is unique among all plugins; ``crontab`` has five fields, read in the IANA time zone ``zone``.

    Each tick is enqueued once by the whole fleet. Ticks that were missed while no daemon ran become one, at start.
    In a zone with summer time a tick between 01:00 and 03:00 may be skipped or come twice a year: prefer UTC there.
    """

    name: str
    crontab: str
    zone: str
    payload: Payload
    plugin: str
