"""kill -9 at every await of a price sweep: each drop is one claim, one notification and one mail job all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from skycap import AsyncClient, JobState
from skycap_travel.payloads import CheckPriceAlerts
from tests.support.daemons import Site
from tests.support.mail_crash import Kill, Moment, Nursery, Victim
from tests.support.price_alerts import Alert, Guest, Price, Prices, prices_at
from tests.support.redis import redis_at
from tests.support.workers import PATIENCE, eventually

LANES = 6
"""So many daemons at a time, each with databases of its own: they wait for leases most of the time."""

PAGE = 2
ALERTS = [Alert(id=f"a{number}", entity=("HOTEL", f"h{number % 2}")) for number in range(5)]
HISTORY = [Price(id=f"p{number}", price=Decimal(900), entity=("HOTEL", f"h{number}")) for number in range(2)]

# It stands for the mails' plugin, which has tests like these of its own.
PLUGIN = """
from skycap import Context, Plugin
from skycap_travel.payloads import SendPriceAlert

plugin = Plugin("postbox")


@plugin.job()
async def note_mail(ctx: Context, payload: SendPriceAlert) -> None:
    await ctx.db.execute("INSERT INTO postbox VALUES ($1, $2)", ctx.job.id, payload.alert_id)
"""


@dataclass(frozen=True, kw_only=True)
class Lane:
    """Databases of one daemon after the other."""

    client: AsyncClient
    redis_url: str
    prices: Prices
    sweeping: Path
    """The configuration of a daemon that relays nothing: what it enqueues lies in the outbox when it is killed."""
    relaying: Path


@dataclass(frozen=True, kw_only=True)
class Crash:
    """One kill, and what became of each alert: how often it was claimed, notified and mailed."""

    moment: Moment
    claims: dict[str, int]
    notifications: list[str]
    mails: list[str]


@dataclass(frozen=True, kw_only=True)
class Scene:
    nursery: Nursery
    lanes: asyncio.Queue[Lane]

    @asynccontextmanager
    async def lane(self) -> AsyncGenerator[Lane]:
        lane = await self.lanes.get()
        try:
            await lane.prices.fill(guests=[Guest()], alerts=ALERTS, prices=HISTORY)
            await lane.prices.connection.execute("TRUNCATE postbox")
            async with redis_at(lane.redis_url) as redis:
                await redis.flushdb()
            yield lane
        finally:
            self.lanes.put_nowait(lane)

    async def moments(self) -> list[Moment]:
        """All that a sweep passes when nobody is killed."""
        async with self.lane() as lane:
            job_id = (await lane.client.enqueue(CheckPriceAlerts())).job_id
            daemon = await self.nursery.daemon(lane.sweeping)
            await _completed(lane, job_id)
            await daemon.kill()
        return daemon.moments()

    async def crash_at(self, kill: Kill) -> Crash | None:
        """Kill a daemon at the moment, let another one go on; None when this time there was no such moment."""
        async with self.lane() as lane:
            job_id = (await lane.client.enqueue(CheckPriceAlerts())).job_id
            victim = await self.nursery.daemon(lane.sweeping, kill=kill)
            await _killed_or_done(victim, lane, job_id)
            reached = [moment for moment in victim.moments() if kill.meets(moment)]
            survivor = await self.nursery.daemon(lane.relaying)
            try:
                await _completed(lane, job_id)
                await eventually(lambda: _is_all_delivered(lane))
            finally:
                await survivor.kill()
            return await _crash(lane, reached[0]) if reached else None


@asynccontextmanager
async def scene(redis_url: str, database_url: str, folder: Path, *, lanes: int) -> AsyncGenerator[Scene]:
    (folder / "plugins").mkdir()
    (folder / "plugins" / "postbox.py").write_text(PLUGIN)
    free: asyncio.Queue[Lane] = asyncio.Queue()
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(Nursery.open(folder))
        for number in range(lanes):
            url = await stack.enter_async_context(_database_of_its_own(database_url, f"lane_{number}"))
            prices = await stack.enter_async_context(prices_at(url))
            await prices.connection.execute("CREATE TABLE postbox (job_id TEXT, alert_id TEXT)")
            redis = f"{redis_url}?db={number}"
            client = await stack.enter_async_context(AsyncClient(redis))
            homes = [_home(folder / f"{name}-{number}", redis, url) for name in ("sweeping", "relaying")]
            free.put_nowait(Lane(client=client, redis_url=redis, prices=prices, sweeping=homes[0], relaying=homes[1]))
        yield Scene(nursery=nursery, lanes=free)


@asynccontextmanager
async def _database_of_its_own(database_url: str, name: str) -> AsyncGenerator[str]:
    """Dropped at the end, with all that is connected to it."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {name}")
        yield urlsplit(database_url)._replace(path=f"/{name}").geturl()
    finally:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await connection.close()


def _home(folder: Path, redis_url: str, database_url: str) -> Path:
    folder.mkdir()
    site = Site(
        folder=folder,
        redis_url=redis_url,
        database_url=database_url,
        plugins_dir=folder.parent / "plugins",
        extra={
            "worker": {"lease_seconds": 1.0},
            "database": {"pool_size": 3},
            "outbox": {"enabled": folder.name.startswith("relaying"), "poll_seconds": 0.1},
            "queues.email": {"rate_max": 1000},
            "plugins.price-sweep": {"page": PAGE},
        },
    )
    config = site.config
    config.write_text(f'load_plugins = ["price-sweep", "postbox"]\n{config.read_text()}')
    return config


async def _completed(lane: Lane, job_id: str) -> None:
    job = await lane.client.wait(job_id, queue="scheduled", timeout=PATIENCE)
    assert job is not None
    assert job.state is JobState.COMPLETED, job.errors


async def _killed_or_done(victim: Victim, lane: Lane, job_id: str) -> None:
    done = asyncio.create_task(_completed(lane, job_id))
    ended = asyncio.create_task(victim.ended())
    await asyncio.wait((done, ended), return_when=asyncio.FIRST_COMPLETED)
    done.cancel()
    await asyncio.gather(done, return_exceptions=True)
    await victim.kill()
    await ended


async def _is_all_delivered(lane: Lane) -> bool:
    waiting = await lane.prices.connection.fetchval("SELECT count(*) FROM skycap.outbox WHERE relayed_at IS NULL")
    delivered = await lane.prices.connection.fetchval("SELECT count(*) FROM postbox")
    return bool(waiting == 0 and delivered >= len(ALERTS))


async def _crash(lane: Lane, moment: Moment) -> Crash:
    connection = lane.prices.connection
    claims = await connection.fetch('SELECT id, "notificationCount" AS count FROM price_alerts ORDER BY id')
    told = await connection.fetch("SELECT data ->> 'alertId' AS id FROM notifications ORDER BY 1")
    mailed = await connection.fetch("SELECT DISTINCT job_id, alert_id AS id FROM postbox ORDER BY 2")
    return Crash(
        moment=moment,
        claims={row["id"]: row["count"] for row in claims},
        notifications=[row["id"] for row in told],
        mails=[row["id"] for row in mailed],
    )


async def sweep(stage: Scene, kills: Iterable[Kill]) -> list[Crash]:
    found = await asyncio.gather(*(stage.crash_at(kill) for kill in kills))
    return [crash for crash in found if crash is not None]


def judge(crashes: Sequence[Crash]) -> None:
    ids = [alert.id for alert in ALERTS]
    for crash in crashes:
        assert crash.claims == dict.fromkeys(ids, 1), crash.moment
        assert crash.notifications == ids, crash.moment
        assert crash.mails == ids, crash.moment


async def test_killed_while_it_tells_a_page_a_sweep_tells_each_drop_once(
    redis_url: str, database_url: str, tmp_path: Path
) -> None:
    async with scene(redis_url, database_url, tmp_path, lanes=4) as stage:
        moments = [moment for moment in await stage.moments() if "price_sweep.py:_tell" in moment.path]
        # Three types of alerts are swept side by side: which of them is the n-th at an await differs from run to run.
        crashes = await sweep(stage, (Kill.at(moment) for moment in moments[:: max(1, len(moments) // 5)]))
    assert len(crashes) >= 4, [str(moment) for moment in moments]
    judge(crashes)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_killed_at_every_await_a_sweep_tells_each_drop_once(
    redis_url: str, database_url: str, tmp_path: Path
) -> None:
    async with scene(redis_url, database_url, tmp_path, lanes=LANES) as stage:
        moments = await stage.moments()
        crashes = await sweep(stage, (Kill.at(moment) for moment in moments))
    judge(crashes)
    met = {crash.moment.where for crash in crashes}
    print(f"{len(crashes)} kills at {len(met)} awaits: each drop told once")  # noqa: T201 - with -s it is the report
    missed = {moment.where for moment in moments if moment.task == "job"} - met
    assert not missed, "no kill met these awaits"
