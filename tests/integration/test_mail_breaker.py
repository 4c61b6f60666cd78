"""Mails behind the breaker ``email``: what counts against the server, and that an open one touches nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from skycap import BreakerOpen, BreakerSpec, BreakerState, MailRefused, TemplateFailed, Unavailable
from skycap.engine import breakers as engine
from skycap.engine.link import Link
from skycap.services.breakers import FleetBreakers
from skycap.services.database import DatabasePool
from skycap.services.ledger import MailLedger
from skycap.services.mailer import MailService, Sending
from skycap.services.migrations import migrate
from tests.integration.test_mailer import ADA, TEMPLATE, composer, running
from tests.support.servers import LineServer, ms, pool_to
from tests.support.workers import eventually

SPEC = BreakerSpec(name="email", opens_after=2, closes_after=1, tries_again_after=timedelta(minutes=1))


class Post:
    """A mail service behind a breaker."""

    def __init__(self, service: MailService, database: DatabasePool, state: engine.FleetBreakers) -> None:
        self.service = service
        self.database = database
        self._state = state
        self._sent = 0

    async def send(self, **variables: Any) -> str:
        """Another mail each time."""
        self._sent += 1
        mailer = self.service.for_job(running(f"job-{self._sent}"), 1, "bookings")
        return await mailer.send(ADA, TEMPLATE, **(variables or {"name": "Ada"}))

    async def entries(self) -> int:
        return int(await self.database.fetchval("SELECT count(*) FROM skycap.mail_ledger"))

    async def status(self) -> engine.BreakerStatus:
        return await self._state.status(SPEC)


@asynccontextmanager
async def post(server: LineServer, redis_url: str, database_url: str) -> AsyncGenerator[Post]:
    link = Link.to(redis_url)
    state = engine.FleetBreakers(link)
    breakers = FleetBreakers({SPEC.name: SPEC}, state)
    database = DatabasePool(dsn=database_url, prepare=migrate)
    async with AsyncExitStack() as closing:
        closing.push_async_callback(link.close)
        closing.push_async_callback(breakers.close)
        closing.push_async_callback(database.close)
        smtp = await closing.enter_async_context(pool_to(server, data_timeout=ms(300)))
        service = MailService(
            composer=composer(), ledger=MailLedger(database), smtp=smtp, sending=Sending(breaker=breakers["email"])
        )
        yield Post(service, database, state)


@pytest.mark.parametrize(
    ("verb", "reply", "error"),
    [
        ("MAIL", "421 closing down", Unavailable),
        ("DATA", "452 4.3.1 insufficient system resources", Unavailable),
        (".", "451 4.3.0 local error", Unavailable),
        (".", None, Unavailable),  # nobody knows whether it was taken
    ],
)
async def test_trouble_of_the_server_counts(
    redis_url: str, database_url: str, verb: str, reply: str | None, error: type[Exception]
) -> None:
    async with LineServer({verb: reply}) as server, post(server, redis_url, database_url) as mails:
        for _ in range(SPEC.opens_after):
            with pytest.raises(error):
                await mails.send()
        assert (await mails.status()).state is BreakerState.OPEN


@pytest.mark.parametrize(
    ("verb", "reply", "error"),
    [
        ("RCPT", "450 4.7.1 greylisted, come back in 300 seconds", Unavailable),
        ("RCPT", "452 4.2.2 mailbox full", Unavailable),
        ("RCPT", "550 5.1.1 no such user", MailRefused),
        (".", "552 5.3.4 message too big", MailRefused),
    ],
)
async def test_trouble_of_one_recipient_or_mail_does_not(
    redis_url: str, database_url: str, verb: str, reply: str, error: type[Exception]
) -> None:
    async with LineServer({verb: reply}) as server, post(server, redis_url, database_url) as mails:
        for _ in range(SPEC.opens_after):
            with pytest.raises(error):
                await mails.send()
        status = await mails.status()
        assert (status.state, status.calls, status.failed_calls) == (BreakerState.CLOSED, SPEC.opens_after, 0)


async def test_an_open_breaker_is_met_before_the_ledger_and_the_server(redis_url: str, database_url: str) -> None:
    async with LineServer({"MAIL": "421 closing down"}) as server, post(server, redis_url, database_url) as mails:
        for _ in range(SPEC.opens_after):
            with pytest.raises(Unavailable):
                await mails.send()
        entries, heard = await mails.entries(), len(server.heard)
        with pytest.raises(BreakerOpen) as caught:
            await mails.send()
        assert timedelta(0) < caught.value.retry_after <= SPEC.tries_again_after
        assert (await mails.entries(), len(server.heard)) == (entries, heard)


async def test_a_mail_that_is_cancelled_before_it_left_says_nothing_of_the_server(
    redis_url: str, database_url: str
) -> None:
    async with LineServer({"DATA": None}) as server, post(server, redis_url, database_url) as mails:
        sending = asyncio.create_task(mails.send())

        async def is_under_way() -> bool:
            return "DATA" in server.heard

        await eventually(is_under_way)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert (await mails.status()).calls == 0


async def test_a_mail_that_is_not_sent_says_nothing_of_the_server(redis_url: str, database_url: str) -> None:
    async with LineServer() as server, post(server, redis_url, database_url) as mails:
        with pytest.raises(TemplateFailed):
            await mails.send(wrong="variable")
        assert (await mails.status()).calls == 0
        await asyncio.gather(*(mails.send() for _ in range(3)))
        assert (await mails.status()).calls == 3
