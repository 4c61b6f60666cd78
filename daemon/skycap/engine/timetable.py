"""Timetable: gives each who comes a time of its own, evenly spread for the whole fleet; who comes back finds it kept.

A limit that says no more than "not now" makes everybody come back again and again. Here each one is told once when
its turn is, and comes back once.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skycap.engine.link import Link


class Timetable:
    """Turns ``every`` so often, for each line of its own (a recipient domain)."""

    def __init__(self, link: Link, *, every: timedelta) -> None:
        self._link = link
        self._every_ms = every / timedelta(milliseconds=1)

    async def wait(self, line: str, who: str) -> timedelta:
        """How long until the turn of ``who``: zero if it is now, which uses it up.

        A turn that was missed by more than one place is given anew, so that those who are late do not all come at once.
        Raises Unavailable.
        """
        wait_ms = await self._link.call("timetable", f"skycap:{{timetable:{line}}}:", who, self._every_ms)
        return timedelta(milliseconds=int(wait_ms))
