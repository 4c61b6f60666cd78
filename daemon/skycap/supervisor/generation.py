"""Generation: all parts of a daemon that were made from one reading of the settings, from start to last job."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import structlog

from skycap.assembly import Daemon
from skycap.engine.durability import concerns
from skycap.errors import Unavailable
from skycap.observe.loop_lag import watch_lag

_log = structlog.get_logger("skycap.supervisor")

_REDIS_AGAIN = timedelta(seconds=5)


class Generation:
    """Started once, drained once, closed once. Two may run side by side, as two daemons of a fleet may."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.drains_until: float | None = None
        """On the monotonic clock; None while jobs are taken."""
        self._closing = AsyncExitStack()
        self._tasks: list[asyncio.Task[Any]] = []
        self._parts: list[asyncio.Task[Any]] = []

    @property
    def grace(self) -> timedelta:
        return timedelta(seconds=self.daemon.settings.worker.grace_seconds)

    @property
    def running(self) -> int:
        return self.daemon.worker.running

    @property
    def stuck(self) -> list[str]:
        """The loops that turn no more, by name."""
        pulses = self.daemon.worker.pulses
        if self.drains_until is None:
            pulses = (*pulses, *self.daemon.pulses)
        return [pulse.name for pulse in pulses if pulse.is_stuck]

    async def start(self, before: Generation | None = None) -> None:
        """Take jobs; with the socket of the generation ``before``, if there is one. What it raises, it has closed."""
        try:
            await self._start(before)
        except BaseException:
            await self.close()
            raise

    async def _start(self, before: Generation | None) -> None:
        # Closed in reverse: what handlers use goes last.
        daemon, closing = self.daemon, self._closing
        if daemon.databases is not None:
            closing.push_async_callback(daemon.databases.close)
        if daemon.smtp is not None:
            closing.push_async_callback(daemon.smtp.close)
        closing.push_async_callback(daemon.http_client.close)
        closing.push_async_callback(daemon.client.close)
        closing.callback(daemon.executor.close)
        daemon.broker.is_worker_process = True
        await daemon.broker.startup()
        closing.push_async_callback(daemon.broker.shutdown)
        if daemon.cache_link is not daemon.broker.link:
            closing.push_async_callback(daemon.cache_link.close)
        closing.push_async_callback(daemon.cache.close)
        closing.push_async_callback(daemon.breakers.close)
        await self._serve(before)
        daemon.loop_monitor.start()
        closing.callback(daemon.loop_monitor.stop)
        daemon.worker.start()
        self._begin(daemon.presence.run(), "presence")
        if daemon.http is not None or daemon.metric_sender is not None:
            self._begin(watch_lag(daemon.meters.loop_lag.note), "event loop lag")
        self._parts = [self._begin(part, name) for name, part in self._what_only_one_generation_does().items()]
        closing.push_async_callback(self._end_tasks)

    async def _serve(self, before: Generation | None) -> None:
        http = self.daemon.http
        if http is None:
            return
        predecessor = before.daemon.http if before is not None else None
        if predecessor is not None and http.place.is_as(predecessor.place):
            await http.take_over(predecessor)
        else:
            await http.start()
        self._closing.push_async_callback(http.stop)

    def _what_only_one_generation_does(self) -> Mapping[str, Coroutine[Any, Any, None]]:
        daemon = self.daemon
        parts = {
            "worker": daemon.worker.ended(),
            "clock": daemon.clock.run(),
            "redis settings": self._look_at_redis(),
            "absent tables": daemon.tables.watch(),
        }
        if daemon.outbox is not None:
            parts["outbox"] = daemon.outbox.run()
        if daemon.alerts is not None:
            parts["alerts"] = daemon.alerts.run()
        if daemon.metric_sender is not None:
            parts["metrics"] = daemon.metric_sender.run()
        return parts

    async def ended(self) -> None:
        """Return once it ticks and relays no more, or raise what a part of it raised."""
        done, _ = await asyncio.wait(self._parts, return_when=asyncio.FIRST_COMPLETED)
        for part in done:
            if not part.cancelled():
                part.result()

    def cease(self) -> None:
        """Tick, relay and watch no more: that is for the next generation, or for other daemons."""
        for part in self._parts:
            part.cancel()

    async def tell_plugins_of_the_start(self) -> None:
        await self.daemon.registry.notify("daemon_started", worker_id=self.daemon.id)

    async def drain(self, hurry: asyncio.Event) -> None:
        """Take no more jobs; those that run, and plugins, have the grace period, or until ``hurry``, to end."""
        self.drains_until = time.monotonic() + self.grace.total_seconds()
        _log.info("draining", jobs=self.running, grace_seconds=self.grace.total_seconds())
        draining = asyncio.create_task(self._until_drained(), name="drain")
        hurried = asyncio.create_task(hurry.wait(), name="second signal")
        await asyncio.wait((draining, hurried), return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if draining.done():
            draining.result()
        else:
            draining.cancel()
            await self.daemon.worker.drain(timedelta(0))

    async def close(self) -> None:
        await self._closing.aclose()

    async def _until_drained(self) -> None:
        """Jobs and plugins have the same time to come to their end."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.daemon.worker.drain(self.grace))
            group.create_task(self._tell_plugins_of_the_end())

    async def _tell_plugins_of_the_end(self) -> None:
        try:
            async with asyncio.timeout(self.grace.total_seconds()):
                await self.daemon.registry.notify("daemon_stopping", worker_id=self.daemon.id)
        except TimeoutError:
            _log.warning("grace period over; a plugin was not done", hook="daemon_stopping")

    async def _look_at_redis(self) -> None:
        """Warn of settings that may lose jobs, once; raises ConfigurationError for a Redis that cannot run queues."""
        while True:
            try:
                found = await concerns(self.daemon.broker.link)
                break
            except Unavailable:
                await asyncio.sleep(_REDIS_AGAIN.total_seconds())
        for concern in found:
            _log.warning("redis puts jobs at risk", problem=concern)
        await asyncio.get_running_loop().create_future()

    def _begin(self, part: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(part, name=name)
        self._tasks.append(task)
        return task

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
