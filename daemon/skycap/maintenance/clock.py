"""Clock: every daemon has one, and Redis lets each tick through once for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from skycap.backoff import Backoff
from skycap.client import BaseClient
from skycap.engine.queue import Queue
from skycap.engine.schedule_book import Became, ScheduleBook
from skycap.errors import ConfigurationError, PayloadTooLarge, Unavailable
from skycap.maintenance.ticks import GRACE, Ticks, due, jitter_of, ticks_of
from skycap.observe.pulse import Pulse
from skycap.schedule import Schedule
from skycap.signing import Signer

_log = structlog.get_logger("skycap.clock")

LONGEST_SLEEP = timedelta(seconds=5)
"""Then Redis is asked for the time again: a host that slept, or that counts wrongly, is no later than this."""

_REDIS_AWAY = Backoff(first=timedelta(seconds=1), factor=2, longest=timedelta(seconds=5), attempts=1)


@dataclass(frozen=True, kw_only=True)
class Ticking:
    """A schedule with its ticks, and where it is kept what became of them."""

    schedule: Schedule
    ticks: Ticks
    book: ScheduleBook


class Clock(BaseClient):
    """Enqueues the payloads of schedules when they are due.

    It goes by Redis' time alone, and remembers nothing: what is due follows from the newest tick that the fleet has
    decided. So neither a step of the host's clock nor a restart, a pause of the process or an outage of Redis loses or
    doubles a tick.
    """

    def __init__(
        self,
        schedules: Sequence[Schedule],
        queues: Mapping[str, Queue],
        *,
        signer: Signer | None = None,
        why_off: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        """``why_off`` says of a kind why its schedules do not tick.

        Raises ConfigurationError for a schedule that makes no sense.
        """
        super().__init__(signer=signer)
        self._why_off = why_off
        self._books = {name: ScheduleBook(queue) for name, queue in queues.items()}
        self._pulses = {queue: Pulse(f"clock of {queue}", every=LONGEST_SLEEP) for queue in queues}
        self.schedules = {each.name: self._ticking(each) for each in schedules}

    @property
    def pulses(self) -> tuple[Pulse, ...]:
        return tuple(self._pulses.values())

    async def run(self) -> None:
        """Tick until cancelled."""
        lines = [self._keep_ticking(queue) for queue in self._books]
        await asyncio.gather(*lines, asyncio.get_running_loop().create_future())

    async def decide(self, name: str, tick: datetime) -> Became:
        """Enqueue the job of a tick, unless the fleet has decided about it or a later one. Raises Unavailable."""
        ticking = self.schedules[name]
        schedule = ticking.schedule
        milliseconds = round(tick.timestamp() * 1000)
        became = await ticking.book.tick(
            name,
            tick,
            self.envelope(schedule.payload, job_id=f"{name}-{milliseconds}", enqueued_at=tick),
            delay=jitter_of(schedule, milliseconds),
            grace=GRACE if schedule.catch_up == "skip" else None,
            overlap=schedule.overlap,
        )
        if became is Became.ENQUEUED:
            _log.info("schedule ticked", schedule=name, tick=tick.isoformat())
        elif became not in {Became.KNOWN, Became.EARLY}:
            _log.info("schedule skipped a tick", schedule=name, tick=tick.isoformat(), because=became)
        return became

    async def _keep_ticking(self, queue: str) -> None:
        """The schedules of one queue: where its Redis is away, those of the others go on."""
        misses = 0
        while True:
            self._pulses[queue].beat()
            try:
                sleep = await self.turn(queue)
                misses = 0
            except Unavailable as error:
                misses += 1
                _log.warning("ticks not enqueued yet", queue=queue, problem=str(error))
                sleep = _REDIS_AWAY.wait(misses)
            await asyncio.sleep(max(sleep.total_seconds(), 0))

    async def turn(self, queue: str) -> timedelta:
        """Decide about what is due of the schedules of a queue; how long until the next look. Raises Unavailable."""
        loop, book = asyncio.get_running_loop(), self._books[queue]
        ticking = [each for each in self.schedules.values() if each.book is book and self._is_on(each.schedule)]
        if not ticking:
            return LONGEST_SLEEP
        known = await book.known([each.schedule.name for each in ticking])
        asked = loop.time()
        for each in ticking:
            for tick in due(each.schedule, each.ticks, after=known.last[each.schedule.name], now=known.now):
                await self.decide(each.schedule.name, tick)
                self._pulses[queue].beat()
        nexts = filter(None, (each.ticks.next_after(known.now) for each in ticking))
        passed = timedelta(seconds=loop.time() - asked)
        return min(min(nexts, default=known.now + LONGEST_SLEEP) - known.now - passed, LONGEST_SLEEP)

    def _is_on(self, schedule: Schedule) -> bool:
        return schedule.enabled and self._why_off(schedule.kind) is None

    def _ticking(self, schedule: Schedule) -> Ticking:
        ticks = ticks_of(schedule)
        try:
            self.envelope(schedule.payload).to_json()
        except PayloadTooLarge as error:
            raise ConfigurationError(f"schedule {schedule.name}: {error}") from error
        return Ticking(schedule=schedule, ticks=ticks, book=self._books[schedule.queue])
