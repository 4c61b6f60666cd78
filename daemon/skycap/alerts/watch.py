"""AlertWatch: looks at the figures again and again, and tells what the fleet has not told yet."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import structlog

from skycap.alerts.figures import History
from skycap.alerts.notice import Notice, notice_of, reading_of
from skycap.alerts.own_alarm import OwnAlarm, OwnTimes
from skycap.alerts.rules import Finding, findings, longest_window
from skycap.alerts.sources import Sources
from skycap.alerts.telling import Teller
from skycap.backoff import Backoff
from skycap.context import Log
from skycap.engine.alarms import Alarms, AlarmTimes, ClaimedNotice, Observation
from skycap.engine.link import Link
from skycap.errors import Unavailable
from skycap.observe.pulse import Pulse
from skycap.settings.alerts import AlertRules, AlertSettings

_log: Log = structlog.get_logger("skycap.alerts")

LEASE = timedelta(minutes=2)
"""So long one daemon has to tell; then another one does."""

OF_THE_LEASE = 0.75
"""What a way may take of it: the rest is for confirming it."""

_LONGEST_LOOK = timedelta(minutes=1)
"""All that is looked at has a time limit of its own."""

_GRACE_LOOKS = 3
"""A daemon that has not looked for so many intervals sees nothing any more."""

_UNDELIVERED = Backoff(first=timedelta(seconds=15), factor=2, longest=timedelta(minutes=10), attempts=1)

_ON_ITS_OWN = "redis_unreachable"


class AlertWatch:
    """One of a fleet. All look; whoever sees something bad says so, and Redis lets one tell."""

    def __init__(
        self,
        sources: Sources,
        link: Link,
        teller: Teller,
        *,
        rules: AlertRules,
        times: AlarmTimes,
        interval: timedelta,
        name: str,
        undelivered: Backoff = _UNDELIVERED,
    ) -> None:
        self._sources = sources
        self._alarms = Alarms(link, times)
        self._teller = teller
        self._rules = rules
        self._interval = interval
        self._name = name
        self._undelivered = undelivered
        self._history = History(longest_window(rules))
        own = OwnTimes(recover_after=times.recover_after, repeat_after=times.repeat_after)
        self._own = OwnAlarm(own, daemon=name)
        self._own_logged = 0
        self._own_tries = 0
        self._own_delivered: frozenset[str] = frozenset()
        self._own_next = timedelta(0)
        self.pulse = Pulse("alerts", every=interval + _LONGEST_LOOK)
        self._telling: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Look until cancelled. What is just being told then is told by another daemon."""
        try:
            while True:
                self.pulse.beat()
                try:
                    await self.look()
                except Exception as error:  # noqa: BLE001 - a daemon works on without its alarms, and they try again
                    _log.error("alarms not looked at", problem=str(error), exc_info=True)
                await asyncio.sleep(self._interval.total_seconds())
        finally:
            for task in self._telling:
                task.cancel()

    async def look(self) -> None:
        """Look once; what is to be told is told beside it."""
        self._history.add(await self._sources.figures())
        found = findings(self._history, self._rules)
        for finding in found:
            if finding.rule == _ON_ITS_OWN:
                self._look_alone(finding)
        try:
            claimed = await self._alarms.watch(
                self._name, [_observation(finding) for finding in found if finding.rule != _ON_ITS_OWN]
            )
        except Unavailable:
            return  # which is a finding by itself
        for notice in claimed:
            self._begin(self._tell(notice), f"alert: {notice.alarm.name}")

    async def settled(self) -> None:
        """Return when nothing is being told."""
        while self._telling:
            await asyncio.wait(self._telling)

    def _begin(self, telling: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(telling, name=name)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self, claimed: ClaimedNotice) -> None:
        notice = notice_of(claimed, daemon=self._name)
        if claimed.tries == 1:
            self._teller.log(notice)
        problems = await self._teller.tell(notice, claim=claimed.claim, delivered=claimed.delivered)
        arrived = {way for way, problem in problems.items() if problem is None}
        try:
            await self._alarms.told(
                claimed,
                claimed.delivered | arrived,
                is_done=len(arrived) == len(problems),
                again_in=self._undelivered.wait(claimed.tries),
            )
        except Unavailable:
            _log.warning("notice told but not confirmed; it may be told once more", rule=notice.rule)

    def _look_alone(self, finding: Finding) -> None:
        at = self._history.now.at
        notice = self._own.look(finding, at=at)
        if notice is None:
            return
        if notice.number != self._own_logged:
            self._own_logged, self._own_tries, self._own_next = notice.number, 0, at
            self._own_delivered = frozenset()
            self._teller.log(notice)
        if at >= self._own_next:
            self._own_tries += 1
            # Until it is known what became of it, it is not begun again.
            self._own_next = at + LEASE
            self._begin(self._tell_alone(notice, tries=self._own_tries), f"alert: {notice.rule}")

    async def _tell_alone(self, notice: Notice, *, tries: int) -> None:
        problems = await self._teller.tell(notice, claim=tries, delivered=self._own_delivered)
        if all(problem is None for problem in problems.values()):
            self._own.told(notice, at=self._history.now.at)
        elif notice.number == self._own_logged:
            self._own_delivered |= {way for way, problem in problems.items() if problem is None}
            self._own_next = self._history.now.at + self._undelivered.wait(tries)


def alarm_times(settings: AlertSettings, *, lease: timedelta = LEASE) -> AlarmTimes:
    """What the settings say of times, and what follows from them."""
    return AlarmTimes(
        grace=settings.interval * _GRACE_LOOKS + timedelta(seconds=5),
        recover_after=settings.recover_after,
        repeat_after=settings.repeat_after,
        lease=lease,
    )


def _observation(finding: Finding) -> Observation:
    return Observation(
        alarm=finding.alarm, is_bad=finding.is_bad, held_for=finding.held_for, reading=reading_of(finding)
    )
