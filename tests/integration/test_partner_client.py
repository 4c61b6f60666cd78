"""The client for partners, against a real server: what it retries, where it does not go, and what it never tells."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_network
from typing import Any

import pytest
import stamina
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer

from skycap import BreakerOpen, BreakerSpec, PartnerRefused, PermanentError, RateLimited, Unavailable
from skycap.engine import breakers as engine
from skycap.engine.link import Link
from skycap.services.breakers import FleetBreakers
from skycap.services.http_client import PartnerClient

SPEC = BreakerSpec(name="partner", opens_after=4, tries_again_after=timedelta(minutes=1))
HERE = (ip_network("127.0.0.1/32"),)
SECRET = "swordfish"

Answer = Callable[[web.Request], web.StreamResponse]


@pytest.fixture(autouse=True)
def without_waiting() -> Iterator[None]:
    with stamina.set_testing(testing=True, attempts=100, cap=True):
        yield


class Partner:
    """Gives its ``answers`` one after the other, and the last one again and again."""

    def __init__(self) -> None:
        self.answers: list[Answer] = [lambda _: web.json_response({"price": 100})]
        self.asked: list[web.Request] = []
        self.bodies: list[bytes] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        self.bodies.append(await request.read())
        return (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])(request)


@asynccontextmanager
async def served(partner: Partner, **options: Any) -> AsyncGenerator[str]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", partner.handle)
    server = TestServer(application, host="127.0.0.1")
    await server.start_server(**options)
    try:
        yield str(server.make_url("/")).rstrip("/")
    finally:
        await server.close()


@pytest.fixture
def partner() -> Partner:
    return Partner()


@pytest.fixture
async def url(partner: Partner) -> AsyncGenerator[str]:
    async with served(partner) as url:
        yield url


@pytest.fixture
async def breakers(redis_url: str) -> AsyncGenerator[FleetBreakers]:
    link = Link.to(redis_url)
    breakers = FleetBreakers({SPEC.name: SPEC}, engine.FleetBreakers(link))
    yield breakers
    await breakers.close()
    await link.close()


@asynccontextmanager
async def client_of(breakers: FleetBreakers, **options: Any) -> AsyncGenerator[PartnerClient]:
    settings: dict[str, Any] = {"allow_private": HERE, **options}
    client = PartnerClient(breakers, **settings)
    try:
        yield client
    finally:
        await client.close()


@pytest.fixture
async def client(breakers: FleetBreakers) -> AsyncGenerator[PartnerClient]:
    async with client_of(breakers) as client:
        yield client


def answer(status: int, **headers: str) -> Answer:
    return lambda _: web.Response(status=status, headers=headers)


async def test_a_partner_is_asked_and_answers(partner: Partner, url: str, client: PartnerClient) -> None:
    reply = await client.request(
        "post",
        f"{url}/search?a=1",
        breaker="partner",
        params={"b": "2"},
        headers={"X-Key": SECRET},
        json={"city": "IST"},
    )
    assert (reply.status, reply.json(), reply.headers["content-type"]) == (
        200,
        {"price": 100},
        "application/json; charset=utf-8",
    )
    (asked,) = partner.asked
    assert (asked.method, asked.path_qs, asked.headers["X-Key"]) == ("POST", "/search?a=1&b=2", SECRET)
    assert partner.bodies == [b'{"city": "IST"}']


async def test_connections_are_kept(partner: Partner, url: str, client: PartnerClient) -> None:
    for _ in range(3):
        await client.request("GET", url, breaker="partner")
    assert len({request.transport for request in partner.asked}) == 1


@pytest.mark.parametrize(
    ("method", "key", "asked"), [("GET", None, 4), ("PUT", None, 4), ("POST", None, 1), ("POST", "pay-1", 4)]
)
async def test_only_what_may_be_sent_twice_is_retried(  # noqa: PLR0917 - fixtures and parameters
    partner: Partner, url: str, client: PartnerClient, method: str, key: str | None, asked: int
) -> None:
    partner.answers = [answer(503)]
    with pytest.raises(Unavailable, match="partner: answered 503"):
        await client.request(method, url, breaker="partner", idempotency_key=key)
    assert len(partner.asked) == asked
    assert {request.headers.get("Idempotency-Key") for request in partner.asked} == {key}


async def test_each_try_counts_and_an_open_breaker_ends_them(
    partner: Partner, url: str, client: PartnerClient, breakers: FleetBreakers
) -> None:
    partner.answers = [answer(503)]
    for _ in range(2):
        with pytest.raises(Unavailable):
            await client.request("POST", url, breaker="partner")
    with pytest.raises(BreakerOpen):
        await client.request("GET", url, breaker="partner")
    assert len(partner.asked) == SPEC.opens_after
    assert breakers.calls["partner", "refused"] == 1


async def test_a_passing_failure_is_not_seen_by_the_handler(partner: Partner, url: str, client: PartnerClient) -> None:
    partner.answers = [answer(502), answer(200)]
    assert (await client.request("GET", url, breaker="partner")).status == 200


async def test_what_the_partner_refuses_is_no_failure_of_its(
    partner: Partner, url: str, client: PartnerClient, breakers: FleetBreakers
) -> None:
    partner.answers = [answer(404)]
    with pytest.raises(PartnerRefused) as caught:
        await client.request("GET", url, breaker="partner")
    assert (caught.value.partner, caught.value.status) == ("partner", 404)
    assert (len(partner.asked), breakers.calls["partner", "ok"]) == (1, 1)


@pytest.mark.parametrize(
    ("said", "least", "most"),
    [
        ("17", 17, 17),
        ("in half an hour", 1700, 1800),
        ("soon", 60, 60),
        ("999999999", 3600, 3600),
    ],
    ids=["seconds", "a date", "no time", "too long"],
)
async def test_a_partner_that_asks_for_a_pause_gets_it(  # noqa: PLR0917 - fixtures and parameters
    partner: Partner, url: str, client: PartnerClient, said: str, least: int, most: int
) -> None:
    if said == "in half an hour":
        said = format_datetime(datetime.now(UTC) + timedelta(minutes=30), usegmt=True)
    partner.answers = [answer(429, **{"Retry-After": said})]
    with pytest.raises(RateLimited) as caught:
        await client.request("GET", url, breaker="partner")
    assert timedelta(seconds=least) <= caught.value.retry_after <= timedelta(seconds=most)
    assert len(partner.asked) == 1


async def test_a_call_that_takes_too_long_is_ended(breakers: FleetBreakers, client: PartnerClient) -> None:
    heard, left = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set()
        await reader.read()  # until the client has gone
        writer.close()
        left.set()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unavailable, match="no answer within"):
            await client.request(
                "POST", f"http://127.0.0.1:{port}/", breaker="partner", timeout=timedelta(milliseconds=300)
            )
        assert heard.is_set()
        assert breakers.calls["partner", "failed"] == 1
        await left.wait()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "169.254.169.254",
        "10.0.0.1",
        "100.64.0.1",
        "[fe80::1]",
        "[fd00::1]",
        "0.0.0.0",  # noqa: S104 - nothing listens there
        "224.0.0.1",
    ],
)
async def test_no_way_leads_to_an_address_inside(
    partner: Partner, url: str, breakers: FleetBreakers, host: str
) -> None:
    port = url.rpartition(":")[2]
    async with client_of(breakers, allow_private=()) as client:
        with pytest.raises(PermanentError, match="partner: its address is none of the public internet"):
            await client.request("GET", f"http://{host}:{port}/", breaker="partner")
    await breakers.close()
    assert partner.asked == []
    assert breakers.calls["partner", "failed"] == 0


async def test_a_redirect_is_followed_within_what_may_be_called_only(
    partner: Partner, url: str, client: PartnerClient
) -> None:
    partner.answers = [answer(302, Location="/moved"), answer(200)]
    assert (await client.request("GET", url, breaker="partner")).status == 200
    assert [request.path for request in partner.asked] == ["/", "/moved"]
    partner.answers = [answer(302, Location=url.replace("127.0.0.1", "127.0.0.2"))]
    with pytest.raises(PermanentError, match="none of the public internet"):
        await client.request("GET", url, breaker="partner")
    partner.answers = [answer(302, Location="file:///etc/passwd")]
    with pytest.raises(PermanentError, match="no address of the web"):
        await client.request("GET", url, breaker="partner")
    partner.answers = [answer(302, Location="/")]
    with pytest.raises(PermanentError, match="more than 5 redirects"):
        await client.request("GET", url, breaker="partner")


async def test_a_redirect_to_another_host_takes_no_key_with_it(
    partner: Partner, url: str, client: PartnerClient
) -> None:
    other = Partner()
    async with served(other) as elsewhere:
        partner.answers = [answer(307, Location=elsewhere)]
        await client.request("GET", url, breaker="partner", headers={"Authorization": SECRET, "X-Api-Key": SECRET})
    (asked,) = other.asked
    assert SECRET not in str(asked.headers)


async def test_a_redirect_of_what_is_not_read_only_is_left_to_the_handler(
    partner: Partner, url: str, client: PartnerClient
) -> None:
    partner.answers = [answer(303, Location="/receipt")]
    reply = await client.request("POST", url, breaker="partner")
    assert (reply.status, reply.headers["location"], len(partner.asked)) == (303, "/receipt", 1)


async def test_no_redirect_leads_from_https_to_http(partner: Partner, url: str, breakers: FleetBreakers) -> None:
    authority = trustme.CA()
    theirs, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(theirs)  # pyright: ignore[reportUnknownMemberType]
    authority.configure_trust(ours)  # pyright: ignore[reportUnknownMemberType]  # it takes PyOpenSSL's contexts, too
    secure = Partner()
    secure.answers = [answer(200), answer(302, Location=url)]
    async with served(secure, ssl=theirs) as https, client_of(breakers, ssl_context=ours) as client:
        address = https.replace("http://", "https://")
        assert (await client.request("GET", address, breaker="partner")).status == 200
        with pytest.raises(PermanentError, match="redirects from https to http"):
            await client.request("GET", address, breaker="partner")
    assert partner.asked == []


async def test_an_answer_that_is_too_long_is_refused_however_it_is_packed(
    partner: Partner, url: str, breakers: FleetBreakers
) -> None:
    packed = gzip.compress(bytes(1_000_000))
    async with client_of(breakers, largest_answer_bytes=10_000) as client:
        for body, headers in ((bytes(10_001), {}), (packed, {"Content-Encoding": "gzip"})):
            partner.answers = [lambda _, body=body, headers=headers: web.Response(body=body, headers=headers)]  # type: ignore[misc]
            with pytest.raises(PermanentError, match="its answer is longer than the 10,000 bytes"):
                await client.request("GET", url, breaker="partner")
        partner.answers = [lambda _: web.Response(body=bytes(10_000))]
        assert len((await client.request("GET", url, breaker="partner")).content) == 10_000


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/v1?key=swordfish", "http://user:swordfish@127.0.0.1:1/"])
async def test_no_secret_of_an_address_is_in_errors_or_logs(
    client: PartnerClient, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Unavailable) as caught:
        await client.request("POST", address, breaker="partner")
    error: BaseException | None = caught.value
    assert "no answer" in str(error)
    while error is not None:
        assert SECRET not in f"{error} {error!r}"
        error = None if error.__suppress_context__ else error.__cause__ or error.__context__
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/", "/v1/search", "http://", "http://[/"])
async def test_what_is_no_address_of_the_web_is_refused(client: PartnerClient, address: str) -> None:
    with pytest.raises(PermanentError, match="no http:// or https:// address"):
        await client.request("GET", address, breaker="partner")
