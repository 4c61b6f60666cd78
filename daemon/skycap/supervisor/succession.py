"""Succession: the generations of one process. The newest takes jobs; the one before it ends those that it has."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

import structlog

from skycap.assembly import Daemon
from skycap.errors import SkycapError
from skycap.observe import logs
from skycap.supervisor.generation import Generation
from skycap.supervisor.renewal import made_anew, unchanged

_log = structlog.get_logger("skycap.supervisor")


class Succession:
    """Begins with one generation. Each reload that is not refused adds one, and drains the one before."""

    def __init__(self, make: Callable[[], Daemon], *, hurry: asyncio.Event) -> None:
        """``make`` reads the settings and assembles a daemon; a reload calls it on another thread.

        When ``hurry`` is set, generations that drain hand their jobs back at once.
        """
        self._make = make
        self._hurry = hurry
        self._turnover = asyncio.Lock()
        self._is_ending = False
        self._retiring: asyncio.Task[None] | None = None
        self.generations: list[Generation] = []
        """The oldest first, two at most; the last one takes jobs."""

    @property
    def newest(self) -> Generation:
        return self.generations[-1]

    @property
    def daemon(self) -> Daemon:
        return self.newest.daemon

    async def begin(self) -> None:
        """Raises ConfigurationError for whatever no daemon should start with."""
        await self._start(self._make())
        _log.info("daemon started", **_facts(self.daemon))

    async def failed(self) -> None:
        """Return, or raise what it raised, when a part of the newest generation has ended."""
        while True:
            generation = self.newest
            await generation.ended()
            if generation is self.newest:
                return

    async def reload(self) -> str | None:
        """Why it was refused, in one line, after which all is as it was; None when there is a new generation."""
        if self._retiring is not None:
            await asyncio.wait((self._retiring,))  # or reloads in a row would each run another set of jobs
        try:
            daemon = await made_anew(self._make, self.daemon)
            # Once begun, it is not left halfway: a drain waits for it.
            await asyncio.shield(self._succeed(daemon))
        except SkycapError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 - plugins' own code runs there, and must not end what works
            problem = f"{type(error).__name__}: {error}"
        else:
            return None
        _log.error("reload refused", problem=problem)
        return problem

    async def drain(self) -> None:
        """The end of all generations: they take no more jobs, and those that run have their grace period."""
        self._is_ending = True
        async with self._turnover:
            last = self.newest
        last.cease()
        await last.drain(self._hurry)
        if self._retiring is not None:
            await self._retiring

    async def close(self) -> None:
        """What has not been drained is not handed back: its leases run out."""
        self._is_ending = True
        if self._retiring is not None:
            self._retiring.cancel()
            await asyncio.wait((self._retiring,))
        for generation in self.generations:
            await generation.close()

    async def _succeed(self, daemon: Daemon) -> None:
        async with self._turnover:
            if self._is_ending:
                return
            before = self.newest
            await self._start(daemon, before)
            before.cease()
            self._retiring = asyncio.create_task(self._retire(before), name="retiring generation")
        logs.set_level(daemon.settings.log.level)
        for key in unchanged(before.daemon.settings, daemon.settings):
            _log.warning("a reload does not change this; restart the daemon", setting=key)
        _log.info("reloaded", **_facts(daemon))

    async def _start(self, daemon: Daemon, before: Generation | None = None) -> None:
        generation = Generation(daemon)
        await generation.start(before)
        self.generations.append(generation)

    async def _retire(self, generation: Generation) -> None:
        try:
            await generation.drain(self._hurry)
            await generation.close()
        except Exception:  # noqa: BLE001 - what takes jobs goes on
            _log.exception("what was before the reload did not end well", worker=generation.daemon.id)
        self.generations.remove(generation)
        _log.info("what was before the reload has ended", worker=generation.daemon.id)
        # All of it is garbage at once, in cycles that Python would only find after many more reloads.
        del generation
        gc.collect()


def _facts(daemon: Daemon) -> dict[str, object]:
    return {
        "worker": daemon.id,
        "queues": [consumer.queue.name for consumer in daemon.worker.consumers],
        "kinds": [job_type.kind for job_type in daemon.registry.job_types],
    }
