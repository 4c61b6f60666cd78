"""The status page of a real daemon: with its Redis, while that is silent, and for whom it is."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from aiohttp import ClientSession

from skycap import AsyncClient
from skycap.display.situation import Situation
from skycap.engine.dead_letters import newest_dead
from skycap.engine.queue import DeadOnArrival, NewJob
from skycap.http.guards import TokenGuard
from skycap.http.page import PageRoutes
from skycap.http.tokens import TokenFile, digest_of, new_token
from skycap.outcome import DeadReason
from tests.support.api import api
from tests.support.daemons import Site
from tests.support.redis_servers import proxy
from tests.support.situations import WELL
from tests.support.workers import Note, eventually


def headline(html: str) -> str:
    (found,) = re.findall(r"<title>(.*) · skycap</title>", html)
    return str(found)


async def test_a_daemon_shows_its_fleet_and_says_when_redis_is_silent(redis_url: str, tmp_path: Path) -> None:
    async with (
        proxy(redis_url) as way,
        Site(folder=tmp_path, redis_url=way.url).daemon() as daemon,
        ClientSession() as session,
    ):

        async def page() -> str:
            async with session.get(daemon.http_url) as response:
                assert response.status == 200
                return await response.text()

        async def is_well() -> bool:
            return headline(await page()) == "All is well"

        await eventually(is_well)
        html = await page()
        assert "answers here" in html
        assert re.search(r"scope=.row.>email", html)
        assert "check-price-alerts" in html
        assert re.search(r"<b>The mail server</b> <span[^>]*>not configured", html)
        for link in re.findall(r'<a href="(?!\?)([^"]+)"', html):
            async with session.get(f"{daemon.http_url}/{link}") as response:
                assert response.status == 200, link
        way.go_silent()
        began = time.monotonic()
        html = await page()
        assert time.monotonic() - began < 2
        assert headline(html).startswith("Redis does not answer")
        assert "Daemons are not known: Redis has not answered." in html
        way.speak()
        await eventually(is_well)


@pytest.mark.parametrize(
    ("asked", "told"),
    [("", "10"), ("?refresh=30", "30"), ("?refresh=0", None), ("?refresh=1", "2"), ("?refresh=-1;x", "10")],
)
async def test_the_browser_is_told_when_to_come_again(redis_url: str, asked: str, told: str | None) -> None:
    async with (
        api(redis_url, further_routes=[PageRoutes(_well)]) as site,
        site.session.get(f"{site.url}/{asked}") as response,
    ):
        assert response.status == 200
        assert response.headers.get("Refresh") == told
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none';")


async def test_from_other_machines_it_takes_a_token_that_may_read(redis_url: str, tmp_path: Path) -> None:
    token, file = new_token(), tmp_path / "tokens.toml"
    file.write_text(f'[proxy]\nsha256 = "{digest_of(token)}"\nscopes = ["read"]\n')
    guard = TokenGuard(TokenFile(file), token_rate="100/1s", is_for_others=True)
    async with api(redis_url, guard=guard, further_routes=[PageRoutes(_well)]) as site:
        for headers, status in (({}, 401), ({"Authorization": f"Bearer {token}"}, 200)):
            async with site.session.get(site.url, headers=headers) as response:
                assert response.status == status


async def test_of_the_newest_dead_letters_kind_reason_and_time_are_told_and_no_more(redis_url: str) -> None:
    async with AsyncClient(redis_url) as client:
        queue = client.queue("email")
        await queue.configure()
        for reason in (DeadReason.PERMANENT, DeadReason.POISON):
            dead = DeadOnArrival(reason=reason, error="ada@example.com")
            await queue.add([NewJob(envelope=client.envelope(Note(text="secret")), dead=dead)])
        letters = await newest_dead(queue, 5)
        assert {(letter.queue, letter.kind, letter.reason) for letter in letters} == {
            ("email", "take-note", "poison"),
            ("email", "take-note", "permanent"),
        }
        assert letters[0].at >= letters[1].at
        assert len(await newest_dead(queue, 1)) == 1
        assert "secret" not in repr(letters)
        assert "ada" not in repr(letters)


async def _well() -> Situation:
    return WELL
