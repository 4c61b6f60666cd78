"""Replicas: standbys of the database that answer reads, as long as they are there and not too far behind.

How far behind is measured on our own clock: every few seconds the primary is asked how far it has written, and then
each replica how far it has replayed. What a replica has replayed, the primary had written at a moment that we know. So
a primary on which nothing happens lets nobody lag, and no two machines' clocks are compared.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
import structlog

from skycap.context import Log
from skycap.errors import SkycapError, Unavailable
from skycap.services.database import DatabasePool

_log: Log = structlog.get_logger(__name__)

_LOOK_SECONDS = (0.25, 2.0)
"""Between two looks, at least and at most: a quarter of the lag that is allowed lies between."""

_ANSWER_SECONDS = 2.0

_MOST_POSITIONS = 1000

_WRITTEN = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"
_REPLAYED = """
    SELECT pg_is_in_recovery() AS is_standby, pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint AS position
"""


@dataclass(frozen=True, kw_only=True)
class ReplicaStanding:
    """How a replica stands: ``lag`` is None as long as nobody knows, ``problem`` says why nothing is read there."""

    name: str
    is_used: bool
    response_time: timedelta | None
    lag: timedelta | None
    problem: str | None


class Replica:
    """One of them. ``name`` is for logs: it holds no password."""

    def __init__(self, name: str, pool: DatabasePool) -> None:
        self.name = name
        self.pool = pool
        self.problem: str | None = "nobody has looked yet"
        self.response_time: timedelta | None = None
        self.as_of: float | None = None
        """A moment of our clock; all that the primary had written then is here."""

    @property
    def lag(self) -> timedelta | None:
        return None if self.as_of is None else timedelta(seconds=time.monotonic() - self.as_of)

    def is_usable(self, max_lag: timedelta) -> bool:
        return self.problem is None and self.lag is not None and self.lag <= max_lag


class Replicas:
    """Looks after them from the first ``choose`` until ``close``. ``pools`` are by name."""

    def __init__(self, primary: DatabasePool, pools: Mapping[str, DatabasePool], *, max_lag: timedelta) -> None:
        self._primary = primary
        self._replicas = [Replica(name, pool) for name, pool in pools.items()]
        self._max_lag = max_lag
        self._written: deque[tuple[float, int]] = deque(maxlen=_MOST_POSITIONS)
        """When we asked the primary, and how far it had written at least; oldest first."""
        self._turn = 0
        self._watch: asyncio.Task[None] | None = None
        self._has_looked = asyncio.Event()
        self._told: dict[str, bool] = {}
        """What the log says of each: whether it is read from."""

    def choose(self) -> Replica | None:
        """The next one that may be read from; None while there is none."""
        self.start()
        usable = [replica for replica in self._replicas if replica.is_usable(self._max_lag)]
        if not usable:
            return None
        self._turn += 1
        return usable[self._turn % len(usable)]

    def leave_out(self, replica: Replica, error: Unavailable) -> None:
        """It could not be reached: nothing is asked of it until it has answered us again."""
        replica.problem = error.problem
        self._tell_of_changes()

    async def standing(self) -> list[ReplicaStanding]:
        """Of each, in the order of the configuration; waits for the first look."""
        self.start()
        await self._has_looked.wait()
        return [
            ReplicaStanding(
                name=replica.name,
                is_used=replica.is_usable(self._max_lag),
                response_time=replica.response_time,
                lag=replica.lag,
                problem=self._problem(replica),
            )
            for replica in self._replicas
        ]

    def start(self) -> None:
        """Begin to look, if nobody has yet."""
        if self._watch is None:
            self._watch = asyncio.create_task(self._look_on_and_on(), name="database replicas")

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        await asyncio.gather(*(replica.pool.close() for replica in self._replicas))

    async def _look_on_and_on(self) -> None:
        least, most = _LOOK_SECONDS
        pause_seconds = min(most, max(least, self._max_lag.total_seconds() / 4))
        while True:
            await self._look()
            self._has_looked.set()
            await asyncio.sleep(pause_seconds)

    async def _look(self) -> None:
        asked_at = time.monotonic()
        # A primary that does not answer has no news, and nobody gets fresher; soon all of them lag.
        with suppress(Unavailable, TimeoutError, asyncpg.PostgresError):
            async with asyncio.timeout(_ANSWER_SECONDS):
                self._written.append((asked_at, await self._primary.stateless.fetchval(_WRITTEN)))
        await asyncio.gather(*(self._look_at(replica) for replica in self._replicas))
        self._tell_of_changes()

    async def _look_at(self, replica: Replica) -> None:
        asked_at = time.monotonic()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                row = await replica.pool.stateless.fetchrow(_REPLAYED)
        except Unavailable as error:
            replica.problem, replica.response_time = error.problem, None
            return
        except TimeoutError:
            replica.problem, replica.response_time = f"no answer within {_ANSWER_SECONDS:g} s", None
            return
        except (SkycapError, asyncpg.PostgresError) as error:
            replica.problem, replica.response_time = type(error).__name__, None
            return
        replica.response_time = timedelta(seconds=time.monotonic() - asked_at)
        if row is None or not row["is_standby"]:
            # Promoted, or never a standby: what is read there may be of another history.
            replica.problem = "is no standby"
            return
        replica.problem = None
        known = [moment for moment, position in self._written if position <= row["position"]]
        if known:
            replica.as_of = known[-1]

    def _tell_of_changes(self) -> None:
        for replica in self._replicas:
            is_used = replica.is_usable(self._max_lag)
            if self._told.get(replica.name) is is_used:
                continue
            self._told[replica.name] = is_used
            if is_used:
                _log.info("replica is read from", replica=replica.name)
            else:
                _log.warning("replica left out", replica=replica.name, problem=self._problem(replica))

    def _problem(self, replica: Replica) -> str | None:
        if replica.is_usable(self._max_lag):
            return None
        lag = "for longer than anybody has looked" if replica.lag is None else f"by {replica.lag.total_seconds():.1f} s"
        return replica.problem or f"lags behind {lag}"
