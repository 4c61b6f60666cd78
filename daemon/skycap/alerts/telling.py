"""Teller: has a notice delivered by every way at once, and says which ways did it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import timedelta

import structlog

from skycap.alerts.notice import Notice
from skycap.alerts.ways import Way
from skycap.context import Log
from skycap.errors import SkycapError

_log: Log = structlog.get_logger("skycap.alerts")


class Teller:
    """Tells by ``ways``, none of which may take longer than ``patience``."""

    def __init__(self, ways: Sequence[Way], *, patience: timedelta) -> None:
        self._ways = ways
        self._patience = patience

    def log(self, notice: Notice) -> None:
        """The way that is always there: one line, whatever becomes of the others."""
        if notice.event == "recovered":
            _log.info("alarm", **notice.fields())
        elif notice.severity == "critical":
            _log.error("alarm", **notice.fields())
        else:
            _log.warning("alarm", **notice.fields())

    async def tell(
        self, notice: Notice, *, claim: int, delivered: AbstractSet[str] = frozenset()
    ) -> dict[str, str | None]:
        """By each way that is not among ``delivered``: None when it arrived, else what is wrong."""
        ways = [way for way in self._ways if way.name not in delivered]
        problems = await asyncio.gather(*(self._deliver(way, notice, claim) for way in ways))
        return {way.name: problem for way, problem in zip(ways, problems, strict=True)}

    async def _deliver(self, way: Way, notice: Notice, claim: int) -> str | None:
        try:
            async with asyncio.timeout(self._patience.total_seconds()):
                await way.deliver(notice, claim=claim)
        except TimeoutError:
            problem = f"not done after {self._patience.total_seconds():g} s"
        except SkycapError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 - an error of ours in one way must not keep the others from telling
            problem = f"{type(error).__name__}"
        else:
            return None
        _log.warning("notice not delivered", way=way.name, problem=problem, rule=notice.rule, subject=notice.subject)
        return problem
