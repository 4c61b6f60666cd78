"""What a daemon says of its breakers over HTTP, to the byte, in its metrics and by the command line."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from aiohttp import ClientSession

from skycap import AsyncClient, BreakerSpec, JobState, RawPayload
from skycap.engine.breakers import FleetBreakers
from skycap.engine.link import Link
from tests.support.daemons import Site, skycap
from tests.support.workers import eventually

OWN = '"worker": {"ok": 0, "failed": 0, "refused": 0}'
IN_PERCENT = (
    f'{{"amadeus": {{"state": "CLOSED", "failureRate": 2.5, "healthy": true, {OWN}}}, '
    f'"booking-com": {{"state": "CLOSED", "failureRate": 0.0, "healthy": true, {OWN}}}, '
    f'"email": {{"state": "CLOSED", "failureRate": 0.0, "healthy": true, {OWN}}}, '
    f'"google-places": {{"state": "CLOSED", "failureRate": 0.0, "healthy": true, {OWN}}}, '
    f'"openai": {{"state": "HALF_OPEN", "failureRate": 100.0, "healthy": false, {OWN}}}, '
    f'"stripe": {{"state": "OPEN", "failureRate": 0.0, "healthy": false, {OWN}}}}}'
)
AS_FRACTIONS = (
    '"circuitBreakers": {"amadeus": {"state": "CLOSED", "failureRate": 0.025}, '
    '"booking-com": {"state": "CLOSED", "failureRate": 0.0}, '
    '"email": {"state": "CLOSED", "failureRate": 0.0}, '
    '"google-places": {"state": "CLOSED", "failureRate": 0.0}, '
    '"openai": {"state": "HALF_OPEN", "failureRate": 1.0}, '
    '"stripe": {"state": "OPEN", "failureRate": 0.0}}'
)


async def has_calls(url: str, spec: BreakerSpec, results: list[bool]) -> None:
    link = Link.to(url)
    breakers = FleetBreakers(link)
    for succeeded in results:
        call = uuid4().hex
        await breakers.begin(spec, call, lease=timedelta(seconds=5))
        await breakers.finish(spec, call, "ok" if succeeded else "failed")
    await link.close()


async def test_breakers_are_shown_as_the_dashboards_read_them(redis_url: str, tmp_path: Path) -> None:
    site = Site(folder=tmp_path, redis_url=redis_url)
    await has_calls(redis_url, BreakerSpec(name="amadeus"), [True] * 39 + [False])
    short = timedelta(milliseconds=1)
    await has_calls(redis_url, BreakerSpec(name="openai", opens_after=1, tries_again_after=short), [False])
    opened = await skycap("breakers", "open", "stripe", "--config", site.config)
    assert opened.out == "stripe is open until it is reset\n"
    async with site.daemon() as daemon, ClientSession(daemon.http_url) as http:
        async with http.get("/api/system/circuit-breakers") as response:
            assert await response.text() == IN_PERCENT
        async with http.get("/api/system/health") as response:
            assert AS_FRACTIONS in await response.text()
        async with http.get("/metrics") as response:
            metrics = await response.text()
    assert 'skycap_circuit_breaker_state{breaker="stripe",state="open"} 1.0\n' in metrics
    assert 'skycap_circuit_breaker_state{breaker="stripe",state="closed"} 0.0\n' in metrics
    assert 'skycap_circuit_breaker_state{breaker="openai",state="half_open"} 1.0\n' in metrics
    assert 'skycap_circuit_breaker_failure_ratio{breaker="amadeus"} 0.025\n' in metrics
    assert 'skycap_circuit_breaker_calls_total{breaker="email",result="refused"} 0.0\n' in metrics


async def test_breakers_are_listed_opened_closed_and_reset_by_hand(redis_url: str, tmp_path: Path) -> None:
    site = Site(folder=tmp_path, redis_url=redis_url)

    async def state(name: str) -> tuple[str, bool]:
        listed = await skycap("breakers", "list", "--json", "--config", site.config)
        found = next(each for each in listed.json if each["breaker"] == name)
        return found["state"], found["forced"]

    assert await state("stripe") == ("closed", False)
    opened = await skycap("breakers", "open", "stripe", "--for", "10m", "--json", "--config", site.config)
    assert json.loads(opened.out) == {"breaker": "stripe", "state": "open", "forced": True}
    table = (await skycap("breakers", "list", "--config", site.config)).out.splitlines()
    assert table[0].split()[:2] == ["breaker", "state"]
    assert "open, by hand" in table[-1]
    assert (await skycap("breakers", "close", "stripe", "--config", site.config)).out == (
        "stripe is closed until it is reset\n"
    )
    assert await state("stripe") == ("closed", True)
    assert (await skycap("breakers", "reset", "stripe", "--config", site.config)).code == 0
    assert await state("stripe") == ("closed", False)
    unknown = await skycap("breakers", "open", "strip", "--config", site.config)
    assert unknown.code == 64
    assert "there is no breaker 'strip'; known: amadeus, booking-com" in unknown.err


async def test_a_kind_that_needs_a_breaker_that_nothing_declares_stops_the_start(
    redis_url: str, tmp_path: Path, plugins_folder: Path
) -> None:
    (plugins_folder / "pays.py").write_text(
        "from skycap import Context, Payload, Plugin\n"
        "plugin = Plugin('pays')\n"
        "class Pay(Payload, kind='pay'):\n"
        "    pass\n"
        "@plugin.job(breakers=('strpe',))\n"
        "async def pay(ctx: Context, payload: Pay) -> None:\n"
        "    pass\n"
    )
    site = Site(folder=tmp_path, redis_url=redis_url, plugins_dir=plugins_folder)
    done = await skycap("run", "--config", site.config)
    assert done.code == 78
    assert done.err.splitlines()[-1] == (
        "skycap: plugin pays: pay needs the breaker 'strpe', which nothing declares; did you mean 'stripe'?"
    )


async def test_where_redis_is_away_nothing_is_known_of_a_breaker(tmp_path: Path) -> None:
    site = Site(folder=tmp_path, redis_url="redis://127.0.0.1:1")
    async with (
        site.daemon() as daemon,
        ClientSession(daemon.http_url) as http,
        http.get("/api/system/circuit-breakers") as response,
    ):
        assert (await response.json())["stripe"] == {
            "state": None,
            "failureRate": None,
            "healthy": None,
            "worker": {"ok": 0, "failed": 0, "refused": 0},
        }


PAYS = """
from pathlib import Path

from skycap import Context, Payload, Plugin, hookimpl

plugin = Plugin("pays")


class Pay(Payload, kind="pay"):
    pass


@plugin.job(breakers=("stripe",))
async def pay(ctx: Context, payload: Pay) -> None:
    async with ctx.breakers["stripe"].guard():
        raise OSError("down")


@hookimpl
async def breaker_changed(change):
    Path(__file__).with_suffix(".told").write_text(f"{change.breaker} {change.state}")
"""


async def test_a_daemon_tells_its_plugins_and_its_queue_that_a_breaker_opens(
    redis_url: str, tmp_path: Path, plugins_folder: Path
) -> None:
    (plugins_folder / "pays.py").write_text(PAYS)
    site = Site(folder=tmp_path, redis_url=redis_url, plugins_dir=plugins_folder)
    told = plugins_folder / "pays.told"
    async with site.daemon(), AsyncClient(redis_url) as client:
        jobs = [(await client.enqueue(RawPayload(kind="pay", queue="default"))).job_id for _ in range(5)]

        async def was_told() -> bool:
            return told.exists()

        await eventually(was_told)
        listed = await skycap("queues", "list", "--json", "--config", site.config)
        held = {each["queue"]: [gate["gate"] for gate in each["held"]] for each in listed.json}
        assert held == {"default": ["breaker stripe"], "email": [], "processing": [], "scheduled": []}
        found = [await client.get(job_id, queue="default") for job_id in jobs]
    assert told.read_text() == "stripe open"
    assert {job.state for job in found if job is not None} <= {JobState.AVAILABLE, JobState.RETRYABLE}
