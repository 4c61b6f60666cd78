"""The way out of price alerts: from the mail's link to the row, as a guest or their mail program takes it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email import message_from_bytes, policy
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest
from aiohttp import ClientSession, DummyCookieJar
from structlog.testing import capture_logs

from skycap import AsyncClient, JobState, UnsubscribeContext
from skycap.demo.mailbox import Mailbox
from skycap.demo.travel import SAMPLE_USER_ID, add_sample_rows, create_travel_tables
from skycap.http.server import HttpServer
from skycap.http.unsubscribe import UnsubscribeRoutes
from skycap.outcome import Cancelled
from skycap.registry import Registry
from skycap.services.database import DatabasePool
from skycap.services.migrations import migrate
from skycap.services.secrets import MailSecret
from skycap.services.subscriptions import Subscriptions
from skycap.testing import Performed, perform
from skycap.unsubscribing import Unsubscriber
from skycap_travel.price_alerts import PriceAlertsSettings, SendPriceAlert, plugin, send_price_alert
from tests.support.daemons import Site
from tests.support.mails import TEMPLATES
from tests.support.workers import PATIENCE

ALERT, WHO = "alert-1", {"alert": "alert-1", "user": SAMPLE_USER_ID}
ONE_CLICK = {"List-Unsubscribe": "One-Click"}

PRICES = SendPriceAlert.model_validate(
    {
        "alertId": ALERT,
        "userId": SAMPLE_USER_ID,
        "entityType": "HOTEL",
        "entityId": "h-1",
        "oldPrice": 18450,
        "newPrice": "14999",
    }
)

ADD_ALERT = """
    INSERT INTO price_alerts (id, "userId", "entityType", "entityId", "entityName", "targetPrice", "currentPrice",
        status, "expiresAt", "updatedAt")
    VALUES ($1, $2, 'HOTEL', 'h-1', 'Ilıca Koyu Butik Otel', 15000, 18450, $3, $4, '2026-01-01')
"""


@pytest.fixture
async def travel(database_url: str) -> AsyncGenerator[DatabasePool]:
    """The backend's tables, with one alert of one user."""
    connection = await asyncpg.connect(database_url)
    await create_travel_tables(connection)
    await add_sample_rows(connection)
    await connection.execute(ADD_ALERT, ALERT, SAMPLE_USER_ID, "ACTIVE", None)
    await connection.close()
    pool = DatabasePool(dsn=database_url, size=2, prepare=migrate)
    yield pool
    await pool.close()


def subscriptions(database: DatabasePool, unsubscribers: Mapping[str, Unsubscriber] | None = None) -> Subscriptions:
    if unsubscribers is None:
        registry = Registry()
        registry.add(plugin, name="price-alerts", origin="test")
        unsubscribers = registry.unsubscribers()
    return Subscriptions(
        database, secret=MailSecret(database), public_url="https://jobs.example.com", unsubscribers=unsubscribers
    )


async def path_of_link(links: Subscriptions, *, locale: str | None = "tr") -> str:
    """The path of the link as the mail has it."""
    link = await links.link("price-alerts", WHO, locale=locale)
    assert link is not None
    return link.removeprefix("https://jobs.example.com")


@asynccontextmanager
async def guest(links: Subscriptions, **options: Any) -> AsyncGenerator[ClientSession]:
    """Somebody with a browser, at the daemon's door."""
    server = HttpServer([UnsubscribeRoutes(links, TEMPLATES, **options)], host="127.0.0.1", port=0, path=None)
    await server.start()
    try:
        async with ClientSession(server.url, cookie_jar=DummyCookieJar()) as session:
            yield session
    finally:
        await server.stop()


class Tag(NamedTuple):
    """A start tag of a page."""

    name: str
    attributes: dict[str, str | None]


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Tag] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(Tag(tag, dict(attrs)))


def tags_of(page: str) -> list[Tag]:
    parser = _Tags()
    parser.feed(page)
    return parser.found


async def status_of(travel: DatabasePool, alert: str = ALERT) -> str:
    return str(await travel.fetchval("SELECT status::text FROM price_alerts WHERE id = $1", alert))


async def send(travel: DatabasePool) -> Performed:
    return await perform(send_price_alert, PRICES, settings=PriceAlertsSettings(), db=travel)


async def test_a_guest_who_presses_the_button_gets_no_further_mail(travel: DatabasePool) -> None:
    links = subscriptions(travel)
    mail = (await send(travel)).mails[0]
    assert mail.unsubscribe == WHO
    path = await path_of_link(links, locale=mail.locale)

    async with guest(links) as browser:
        async with browser.get(path) as answer:
            page = await answer.text()
        form = {
            element.attributes["name"] or "": element.attributes["value"] or ""
            for element in tags_of(page)
            if element.name == "input"
        }
        assert form == ONE_CLICK
        async with browser.post(path, data=form) as answer:
            assert answer.status == 200
            assert "<form" not in await answer.text()

    assert await status_of(travel) == "DISABLED"
    changed = await travel.fetchval('SELECT "updatedAt" FROM price_alerts WHERE id = $1', ALERT)
    assert abs(changed.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds() < 60
    again = await send(travel)
    assert isinstance(again.outcome, Cancelled)
    assert again.outcome.reason == "price alert alert-1: its status is DISABLED"


async def test_one_click_needs_no_page_no_cookie_and_no_login_and_may_be_repeated(travel: DatabasePool) -> None:
    links = subscriptions(travel)
    path = await path_of_link(links)
    async with guest(links) as mail_program:
        for _ in range(2):
            async with mail_program.post(path, data=ONE_CLICK, allow_redirects=False) as answer:
                assert answer.status == 200
                assert "Set-Cookie" not in answer.headers
                assert "Location" not in answer.headers
    assert await status_of(travel) == "DISABLED"
    updated = await travel.fetchval('SELECT "updatedAt" FROM price_alerts WHERE id = $1', ALERT)
    async with guest(links) as mail_program, mail_program.post(path):
        pass
    assert await travel.fetchval('SELECT "updatedAt" FROM price_alerts WHERE id = $1', ALERT) == updated


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"", "application/x-www-form-urlencoded"),
        (b"List-Unsubscribe=One-Click", "application/x-www-form-urlencoded"),
        (
            b'--x\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--x--',
            "multipart/form-data",
        ),
        (b"\x00\xff", "application/octet-stream"),
        (b"{", "application/json"),
    ],
)
async def test_any_body_will_do(travel: DatabasePool, body: bytes, media_type: str) -> None:
    links = subscriptions(travel)
    path = await path_of_link(links)
    headers = {"Content-Type": media_type}
    async with guest(links) as mail_program, mail_program.post(path, data=body, headers=headers) as answer:
        assert answer.status == 200
    assert await status_of(travel) == "DISABLED"


async def test_a_body_without_an_end_is_refused(travel: DatabasePool) -> None:
    async def endless() -> AsyncGenerator[bytes]:
        for _ in range(1000):
            yield bytes(1024)

    links = subscriptions(travel)
    path = await path_of_link(links)
    async with guest(links) as attacker, attacker.post(path, data=endless()) as answer:
        assert answer.status == 413
    assert await status_of(travel) == "ACTIVE"


async def test_looking_changes_nothing(travel: DatabasePool) -> None:
    links = subscriptions(travel)
    path = await path_of_link(links)
    async with guest(links) as scanner:
        async with scanner.get(path) as answer:
            assert answer.status == 200
        async with scanner.head(path) as answer:
            assert answer.status == 200
            assert await answer.read() == b""
    assert await status_of(travel) == "ACTIVE"


async def test_the_page_is_in_the_language_of_the_mail_whatever_the_browser_speaks(travel: DatabasePool) -> None:
    links = subscriptions(travel)
    path = await path_of_link(links, locale="tr-TR")
    async with guest(links) as browser, browser.get(path, headers={"Accept-Language": "de"}) as answer:
        page = tags_of(await answer.text())[0]
    assert (page.name, page.attributes) == ("html", {"lang": "tr", "dir": "ltr"})


async def test_a_browser_keeps_tells_and_runs_nothing(travel: DatabasePool) -> None:
    links = subscriptions(travel)
    path = await path_of_link(links)
    async with guest(links) as browser, browser.get(path) as answer:
        page, headers = await answer.text(), answer.headers
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Robots-Tag"] == "noindex, nofollow"
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert headers["Content-Security-Policy"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    elements = tags_of(page)
    assert {element.name for element in elements} & {"script", "img", "link", "iframe"} == set()
    assert all("style" not in element.attributes for element in elements)
    assert "alert-1" not in page
    assert SAMPLE_USER_ID not in page


async def test_a_link_that_is_forged_or_unknown_or_erased_is_not_found(travel: DatabasePool) -> None:
    links = subscriptions(travel)
    path = await path_of_link(links)
    token = path.rpartition("/")[2]
    erased = await links.link("price-alerts", {"alert": "2", "user": "2"}, locale="tr")
    assert erased is not None
    await travel.execute("DELETE FROM skycap.unsubscribe_links WHERE who->>'alert' = '2'")
    flipped = f"{token[:-2]}{'A' if token[-2] != 'A' else 'B'}{token[-1]}"
    answers: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
    async with guest(links) as attacker:
        for forged in (flipped, token[1:], f"{token}A", "x", "%00", "ş", "a" * 5000, erased.rpartition("/")[2]):
            for method in ("GET", "POST"):
                async with attacker.request(method, f"/unsubscribe/{forged}") as answer:
                    assert answer.status == 404
                    kept = {
                        name: value
                        for name, value in answer.headers.items()
                        if name.lower() not in {"date", "x-request-id"}
                    }
                    answers.add((await answer.text(), tuple(sorted(kept.items()))))
    assert len(answers) == 1
    assert await status_of(travel) == "ACTIVE"


async def test_a_wrong_method_is_told_the_right_ones(travel: DatabasePool) -> None:
    links = subscriptions(travel)
    path = await path_of_link(links)
    async with guest(links) as browser:
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
            async with browser.request(method, path) as answer:
                assert answer.status == 405
                assert answer.headers["Allow"] == "GET,HEAD,POST"


async def test_while_the_database_is_away_the_guest_is_asked_to_come_again(unused_tcp_port: int) -> None:
    away = DatabasePool(dsn=f"postgresql://nobody@127.0.0.1:{unused_tcp_port}/none", size=1)
    async with guest(subscriptions(away)) as browser:
        for method in ("GET", "POST"):
            async with browser.request(method, "/unsubscribe/whatever") as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "30")
                assert "again in a minute" in await answer.text()
    await away.close()


@pytest.mark.parametrize("status", ["EXPIRED", "DISABLED"])
async def test_an_alert_that_has_ended_by_itself_stays_as_it_is(travel: DatabasePool, status: str) -> None:
    await travel.execute('UPDATE price_alerts SET status = $1::"PriceAlertStatus"', status)
    links = subscriptions(travel)
    path = await path_of_link(links)
    async with guest(links) as mail_program, mail_program.post(path, data=ONE_CLICK) as answer:
        assert answer.status == 200
    assert await status_of(travel) == status


async def test_only_that_alert_of_that_user_is_stopped(travel: DatabasePool) -> None:
    other_user = await travel.fetchval("SELECT id FROM users WHERE id <> $1 LIMIT 1", SAMPLE_USER_ID)
    await travel.execute(ADD_ALERT, "alert-2", SAMPLE_USER_ID, "TRIGGERED", None)
    await travel.execute(ADD_ALERT, "alert-3", other_user, "ACTIVE", None)
    links = subscriptions(travel)
    path = await path_of_link(links)
    stranger = await links.link("price-alerts", {"alert": "alert-3", "user": SAMPLE_USER_ID}, locale="tr")
    assert stranger is not None
    async with guest(links) as mail_program:
        for each in (path, stranger.removeprefix("https://jobs.example.com")):
            async with mail_program.post(each, data=ONE_CLICK) as answer:
                assert answer.status == 200
    assert [await status_of(travel, alert) for alert in ("alert-1", "alert-2", "alert-3")] == [
        *("DISABLED", "TRIGGERED", "ACTIVE")
    ]


async def test_an_alert_that_is_gone_is_stopped_enough(travel: DatabasePool) -> None:
    links = subscriptions(travel)
    path = await path_of_link(links)
    await travel.execute("DELETE FROM price_alerts")
    async with guest(links) as mail_program, mail_program.post(path, data=ONE_CLICK) as answer:
        assert answer.status == 200


async def test_more_than_a_daemon_takes_in_a_second_are_put_off(travel: DatabasePool) -> None:
    links = subscriptions(travel)
    path = await path_of_link(links)
    async with guest(links, stops_per_second=0.01) as mail_program, mail_program.post(path) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
    assert await status_of(travel) == "ACTIVE"
    async with guest(links, stops_per_second=1) as mail_program, mail_program.post(path) as answer:
        assert answer.status == 200


async def test_a_plugin_that_fails_is_logged_without_the_link(travel: DatabasePool) -> None:
    async def broken(_ctx: UnsubscribeContext[Any], _who: Mapping[str, str]) -> None:
        raise ZeroDivisionError("a plugin's own mistake")

    links = subscriptions(travel, {"price-alerts": Unsubscriber(plugin="price-alerts", stop=broken)})
    path = await path_of_link(links)
    with capture_logs() as logs:
        async with guest(links) as mail_program, mail_program.post(path) as answer:
            assert answer.status == 500
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["a guest could not be unsubscribed"]
    assert path.rpartition("/")[2] not in str(logs)


async def test_no_link_is_ever_logged(travel: DatabasePool, caplog: pytest.LogCaptureFixture) -> None:
    links = subscriptions(travel)
    path = await path_of_link(links)
    token = path.rpartition("/")[2]
    with capture_logs() as logs:
        async with guest(links) as browser:
            ports: set[int | None] = set()
            for method in ("GET", "HEAD", "POST", "PUT"):
                async with browser.request(method, path) as answer:
                    ports.add(answer.url.port)
            reader, writer = await asyncio.open_connection("127.0.0.1", ports.pop())
            writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab".encode())
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            await reader.read()
    assert [line["event"] for line in logs if line["event"] == "price alert stopped by its guest"]
    assert token not in str(logs)
    assert token not in caplog.text


async def test_a_price_alert_is_read_as_the_backend_stores_it(travel: DatabasePool) -> None:
    done = await send(travel)
    assert done.state is JobState.COMPLETED
    (mail,) = done.mails
    assert (mail.to, mail.locale) == ("ayse.yilmaz@example.com", "tr")
    text = TEMPLATES.render(mail.template, locale="en", variables=mail.variables | {"unsubscribe_url": None}).text
    assert "Price now: TRY\u00a014,999.00 (18.7% lower)" in text
    await travel.execute("UPDATE price_alerts SET \"notificationMethod\" = '{PUSH}'")
    assert (await send(travel)).state is JobState.CANCELLED
    await travel.execute("DELETE FROM price_alerts")
    assert (await send(travel)).state is JobState.DISCARDED


async def test_the_link_of_a_mail_stops_its_alert_at_the_daemon(
    redis_url: str, database_url: str, travel: DatabasePool, tmp_path: Path
) -> None:
    async with Mailbox(tmp_path / "m", username="u", password="p") as mailbox, AsyncClient(redis_url) as client:
        site = Site(
            folder=tmp_path,
            redis_url=redis_url,
            database_url=database_url,
            mailbox=mailbox,
            extra={"mail": {"public_url": "https://jobs.example.com"}},
        )
        async with site.daemon() as daemon:
            added = await client.enqueue(PRICES)
            job = await client.wait(added.job_id, queue="email", timeout=PATIENCE)
            assert job is not None
            assert job.state is JobState.COMPLETED, job
            message = message_from_bytes(mailbox.received[0].file.read_bytes(), policy=policy.default)
            assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
            (link,) = re.findall(r"<https://jobs\.example\.com(/\S+)>", message["List-Unsubscribe"])
            body = message.get_body(("plain",))
            assert body is not None
            assert f"https://jobs.example.com{link}" in body.get_content()
            async with ClientSession(daemon.http_url) as browser, browser.post(link, data=ONE_CLICK) as answer:
                assert answer.status == 200
    assert await status_of(travel) == "DISABLED"
    assert link.rpartition("/")[2] not in site.log.read_text()
    assert "ayse.yilmaz" not in site.log.read_text()
