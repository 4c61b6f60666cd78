"""Consumer: one queue's loop. Each turn settles what ended and claims what there is room for, in one call."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import structlog

from skycap.backoff import Backoff
from skycap.engine.queue import Claim, Queue, Settlement, Step
from skycap.errors import Unavailable
from skycap.observe.meters import Meters
from skycap.observe.pulse import Pulse
from skycap.outcome import Cancelled, HandedBack, Snoozed, Stopped
from skycap.worker.leases import Leases
from skycap.worker.pace import Pace

_log = structlog.get_logger("skycap.consumer")

Ending = Literal["drain", "lost", "cancel"]

IDLE_TURN = timedelta(seconds=2)
"""An idle queue is looked at this often even if no doorbell rings: one may be lost with the worker that heard it."""

_SETTLE_AT_ONCE = 100
"""This many outcomes are settled without waiting for more to go with them."""

_LINGER_SECONDS = 0.002
"""How long an outcome waits for others to be settled with, while there are jobs at hand to go on with."""

_AFTER_A_FAULT = timedelta(seconds=30)

_BEGIN_AT_ONCE = 16
"""So many jobs may begin in one turn of the event loop: with hundreds, Redis' answer would wait behind them all."""

_REDIS_AWAY = Backoff(first=timedelta(milliseconds=100), factor=2, longest=timedelta(seconds=2), attempts=1)


@dataclass(slots=True, kw_only=True, eq=False)
class _Running:
    claim: Claim
    task: asyncio.Task[None]
    ending: Ending | None = None


class Consumer:
    """Runs the jobs of one queue, ``concurrency`` at a time, until it is told to drain."""

    def __init__(
        self,
        queue: Queue,
        perform: Callable[[Claim], Awaitable[Settlement]],
        *,
        worker: str,
        concurrency: int,
        lease: timedelta,
        poison_after: int,
        meters: Meters | None = None,
    ) -> None:
        self.queue = queue
        self._perform = perform
        self._worker = worker
        self.concurrency = concurrency
        self._lease = lease
        self._poison_after = poison_after
        self._meters = meters or Meters()
        self._leases = Leases(queue, lease=lease, on_end=self._lease_ended)
        self._pace = Pace(concurrency)
        self._running: dict[tuple[str, int], _Running] = {}
        self._at_hand: deque[Claim] = deque()
        self._beginning = 0
        self._ended: list[Settlement] = []
        self._has_news = asyncio.Event()
        self._lingering: asyncio.TimerHandle | None = None
        self._may_ring = asyncio.Event()
        self._draining = False
        self._is_configured = False
        self._last_turn = time.monotonic()
        self.pulse = Pulse(f"queue {queue.name}")
        """Of the loop, whether or not Redis answers: a restart would not bring Redis back."""
        self._misses = 0
        self._takes_back_from = 0.0

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def since_last_turn(self) -> timedelta:
        """How long ago the loop last got an answer from Redis: the proof that it makes progress."""
        return timedelta(seconds=time.monotonic() - self._last_turn)

    async def run(self) -> None:
        """Consume until drained; then everything that ran here is settled, or Redis could not be told."""
        async with asyncio.TaskGroup() as group:
            companions = [group.create_task(self._leases.keep()), group.create_task(self._listen())]
            try:
                await self._consume()
            finally:
                await _cancelled(companions)

    def drain(self) -> None:
        """Take no more jobs; ``run`` returns when the running ones have ended."""
        self._draining = True
        while self._at_hand:
            self._ended.append(Settlement(claim=self._at_hand.popleft(), outcome=HandedBack()))
        self._has_news.set()

    def hand_back(self) -> None:
        """Cancel what still runs; these jobs are available to other workers at once, attempt given back."""
        for running in self._running.values():
            self._end(running, "drain")

    @property
    def _is_drained(self) -> bool:
        return self._draining and not self._running and not self._ended

    async def _consume(self) -> None:
        while not self._is_drained:
            try:
                step = await self._turn()
            except Unavailable as error:
                self._misses += 1
                if self._misses == 1:
                    _log.warning("redis is away; running jobs go on", queue=self.queue.name, problem=str(error))
                await self._news_within(_REDIS_AWAY.wait(self._misses))
                continue
            if self._misses:
                _log.info("redis is back", queue=self.queue.name)
                self._misses = 0
            await self._news(step)

    async def _turn(self) -> Step:
        self._has_news.clear()
        self.pulse.beat()
        await self._configure_once()
        settlements, self._ended = self._ended, []
        slots, more = self._room()
        asked = time.monotonic()
        if self._misses and asked - self._last_turn > self._lease.total_seconds() / 2:
            # Redis was away, for others as for us: whoever lives renews its leases before any is taken for dead.
            self._takes_back_from = asked + self._lease.total_seconds() / 2
        try:
            step = await self.queue.step(
                settlements,
                slots=slots,
                more=more,
                worker=self._worker,
                lease=self._lease,
                poison_after=self._poison_after,
                take_back=asked >= self._takes_back_from,
            )
        except BaseException:
            self._ended = settlements + self._ended
            raise
        self._last_turn = time.monotonic()
        self._is_configured = step.has_policy
        for settlement in settlements:
            self._leases.release(settlement.claim)
        for settlement in step.rejected:
            _log.warning("outcome ignored: the lease was lost", job=settlement.claim.job_id)
        for kind, reason in step.given_up:
            self._meters.given_up(self.queue.name, kind, reason)
        self._take(step.claims, asked)
        return step

    async def _configure_once(self) -> None:
        """Redis gets the queue's policy at the start, and again when it has lost its data."""
        if not self._is_configured:
            await self.queue.configure()
            self._is_configured = True

    def _room(self) -> tuple[int, int]:
        """How many jobs could start at once, and how many are worth having at hand behind them."""
        if self._draining:
            return 0, 0
        return self.concurrency - len(self._running), max(0, self._pace.worth_having_at_hand - len(self._at_hand))

    def _take(self, claims: Collection[Claim], asked: float) -> None:
        for claim in claims:
            self._leases.hold(claim)
            if claim.start_within:
                claim.start_within += asked  # from now on a moment of this host's monotonic clock
            self._at_hand.append(claim)
        if self._draining:
            self.drain()
        else:
            self._start_what_fits()

    def _start_what_fits(self) -> None:
        while self._at_hand and len(self._running) < self.concurrency and self._beginning < _BEGIN_AT_ONCE:
            claim = self._at_hand.popleft()
            self._beginning += 1
            task = asyncio.create_task(self._work(claim), name=f"job {claim.job_id}")
            self._running[claim.key] = _Running(claim=claim, task=task)

    async def _news(self, step: Step) -> None:
        """Wait until a turn is worth making, or none is needed any more."""
        if self._is_drained or not self._is_configured:
            return
        if len(self._running) < self.concurrency and not self._draining:
            self._may_ring.set()
        await self._news_within(IDLE_TURN if step.next_event is None else min(step.next_event, IDLE_TURN))

    async def _news_within(self, limit: timedelta) -> None:
        if self._has_news.is_set():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(limit.total_seconds()):
                await self._has_news.wait()

    async def _listen(self) -> None:
        while True:
            await self._may_ring.wait()
            self._may_ring.clear()
            try:
                await self.queue.doorbell(IDLE_TURN)
            except Unavailable:
                continue  # the loop itself meets the same fault, logs it and waits
            self._has_news.set()

    async def _work(self, claim: Claim) -> None:
        self._beginning -= 1
        self._start_what_fits()
        began = time.monotonic()
        settlement: Settlement | None
        if claim.start_within and began > claim.start_within:
            # Started this late, it could be one too many in some window of its limit.
            settlement = Settlement(claim=claim, outcome=HandedBack())
        else:
            try:
                settlement = await self._perform(claim)
            except asyncio.CancelledError:
                settlement = self._after_cancellation(claim)
            except Exception as error:  # noqa: BLE001
                # Whatever a handler does is an outcome; this is a fault of ours, and must not cost the job.
                _log.exception("attempt could not be made", job=claim.job_id, queue=self.queue.name)
                settlement = Settlement(claim=claim, outcome=Snoozed(delay=_AFTER_A_FAULT, reason=repr(error)))
            took = time.monotonic() - began
            self._pace.note(took)
            outcome = settlement.outcome if settlement is not None else HandedBack()
            self._meters.attempt(self.queue.name, claim.kind, outcome, waited=claim.waited_ms / 1000, took=took)
        if settlement is not None and isinstance(settlement.outcome, Stopped):
            await self._pause(settlement.outcome)
        running = self._running.pop(claim.key)
        if settlement is None or running.ending == "lost":
            self._leases.release(claim)
        else:
            self._ended.append(settlement)
        self._start_what_fits()
        self._settle_soon()

    async def _pause(self, outcome: Stopped) -> None:
        try:
            is_news = await self.queue.pause(outcome.reason)
        except Unavailable:
            return  # the next job meets the same
        if is_news:
            way_out = f"skycap queues resume {self.queue.name}"
            _log.error("queue paused until an admin acts", queue=self.queue.name, reason=outcome.reason, then=way_out)

    def _settle_soon(self) -> None:
        """At once when a turn would bring new jobs, otherwise together with what ends in the next moment."""
        has_plenty = 2 * len(self._at_hand) > self._pace.worth_having_at_hand
        if self._draining or not has_plenty or len(self._ended) >= _SETTLE_AT_ONCE:
            self._has_news.set()
        elif self._lingering is None:
            self._lingering = asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._lingered)

    def _lingered(self) -> None:
        self._lingering = None
        self._has_news.set()

    def _after_cancellation(self, claim: Claim) -> Settlement | None:
        match self._running[claim.key].ending:
            case "lost":
                return None
            case "cancel":
                return Settlement(claim=claim, outcome=Cancelled(reason="cancelled on request"))
            case _:
                return Settlement(claim=claim, outcome=HandedBack())

    def _lease_ended(self, claim: Claim, word: str) -> None:
        if claim in self._at_hand:
            self._at_hand.remove(claim)
            if word == "cancel":
                self._ended.append(Settlement(claim=claim, outcome=HandedBack()))  # which cancels what is called off
                self._has_news.set()
            return
        running = self._running.get(claim.key)
        if running is None:
            return
        if word == "lost":
            _log.warning("lease lost; the job runs elsewhere", job=claim.job_id, queue=self.queue.name)
        self._end(running, "lost" if word == "lost" else "cancel")

    def _end(self, running: _Running, ending: Ending) -> None:
        if running.ending is None:
            running.ending = ending
            running.task.cancel()


async def _cancelled(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel the tasks, and return when all have ended: once is not enough where a library swallows it."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=0.1)
