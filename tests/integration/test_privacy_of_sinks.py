"""Personal data goes into mails and nowhere else: all five mails in several fates, and what a daemon leaves behind.

Payloads are the exception: Redis holds them while their jobs wait, and after their end for as long as their queue says.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import asyncpg
import pytest
from aiohttp import ClientSession

from skycap import AsyncClient, Payload
from skycap.demo.mailbox import Mailbox, Phase
from skycap.demo.travel import SAMPLE_BOOKING_ID, SAMPLE_USER_ID, add_sample_rows, create_travel_tables
from skycap.job import JobState
from skycap_travel.accounts import SendWelcomeEmail
from skycap_travel.bookings import SendBookingConfirmation
from skycap_travel.mails import AttachedFile, SendEmail
from skycap_travel.payloads import BookingType
from skycap_travel.payments import SendPaymentReceipt
from skycap_travel.price_alerts import EntityType, SendPriceAlert
from tests.support.daemons import Site, skycap
from tests.support.workers import eventually

CANARIES = (
    *("quetzal", "Ostrichwood", "555 010 47 11", "cassowary-request"),
    *("hoatzin-subject", "hoatzin-html", "hoatzin-text", "hoatzin-file", "kakapo-password"),
)
"""Of the guest: address, name, phone, wish; of a mail: what it says and holds; and the password of the mail server."""

GUEST, REFUSED, PUT_OFF = "quetzal@example.com", "refused.quetzal@example.com", "put-off.quetzal@example.com"
ALERT = "cmq1al0a7000108l4a1a1ert1"
PATIENCE = timedelta(seconds=30)

ADD_ALERT = """
    INSERT INTO price_alerts (id, "userId", "entityType", "entityId", "entityName", "targetPrice", "currentPrice",
                              "notificationMethod", "updatedAt")
    VALUES ($1, $2, 'HOTEL', 'h-1', 'Ilıca Koyu Butik Otel', 19000, 24900, '{EMAIL}', now())
"""


def answers(phase: Phase, recipient: str) -> str | None:
    """A mail server that tells whom it does not want."""
    if phase == "rcpt" and recipient == REFUSED:
        return f"550 5.1.1 <{recipient}> ({recipient.partition('@')[0]}): no such user"
    if phase == "rcpt" and recipient == PUT_OFF:
        return f"451 4.7.1 {recipient} is greylisted, try again in 300 seconds"
    return None


@dataclass(kw_only=True)
class Aviary:
    """An installation in which everything personal is a canary."""

    site: Site
    mailbox: Mailbox
    client: AsyncClient
    database: asyncpg.Connection[asyncpg.Record]

    def mails(self) -> dict[str, EmailMessage]:
        """By kind of job, which begins the Message-ID."""
        found = [message_from_bytes(mail.file.read_bytes(), policy=policy.default) for mail in self.mailbox.received]
        return {mail["Message-ID"].strip("<").partition(".")[0]: mail for mail in found}

    async def perform(self, payload: Payload) -> None:
        """Return when its job has ended."""
        job_id = (await self.client.enqueue(payload)).job_id
        job = await self.client.wait(job_id, queue="email", timeout=PATIENCE)
        assert job is not None
        assert job.state.is_final, job


@pytest.fixture
async def aviary(redis_url: str, database_url: str, tmp_path: Path) -> AsyncGenerator[Aviary]:
    database = await asyncpg.connect(database_url)
    await create_travel_tables(database)
    await add_sample_rows(database)
    await database.execute(
        "UPDATE users SET name = 'Ada Ostrichwood', email = $2, phone = '555 010 47 11' WHERE id = $1",
        *(SAMPLE_USER_ID, GUEST),
    )
    await database.execute(
        """UPDATE bookings SET "specialRequests" = 'cassowary-request', "paymentStatus" = 'COMPLETED' WHERE id = $1""",
        SAMPLE_BOOKING_ID,
    )
    await database.execute(ADD_ALERT, ALERT, SAMPLE_USER_ID)
    async with (
        Mailbox(tmp_path / "m", username="kakapo", password="kakapo-password", replies=answers) as mailbox,
        AsyncClient(redis_url) as client,
    ):
        site = Site(folder=tmp_path, redis_url=redis_url, database_url=database_url, mailbox=mailbox)
        site.extra = {
            "mail": {"public_url": "https://jobs.example.com", "bounce_address": "bounces@mail.example.com"},
            "log": {"level": "debug", "format": "json"},
        }
        yield Aviary(site=site, mailbox=mailbox, client=client, database=database)
    await database.close()


def confirmation(address: str = GUEST) -> SendBookingConfirmation:
    return SendBookingConfirmation(
        booking_id=SAMPLE_BOOKING_ID, user_id=SAMPLE_USER_ID, user_email=address, booking_type=BookingType.HOTEL
    )


def written(address: str = GUEST) -> SendEmail:
    return SendEmail(
        to=address,
        subject="hoatzin-subject",
        html="<p>hoatzin-html</p>",
        text="hoatzin-text",
        attachments=(AttachedFile(filename="hoatzin-file.txt", content=b"hoatzin-file"),),
    )


ALL = (
    confirmation(),
    SendPaymentReceipt(user_id=SAMPLE_USER_ID, booking_id=SAMPLE_BOOKING_ID),
    SendPriceAlert.model_validate(
        {
            "alertId": ALERT,
            "userId": SAMPLE_USER_ID,
            "entityType": EntityType.HOTEL,
            "entityId": "h-1",
            "oldPrice": "24900",
            "newPrice": "18450.5",
        }
    ),
    SendWelcomeEmail(user_email=GUEST, user_name="Ada Ostrichwood"),
    written(),
)


async def test_each_of_the_five_mails_arrives_once_however_often_it_is_asked_for(aviary: Aviary) -> None:
    async with aviary.site.daemon():
        for payload in (*ALL, *ALL):
            await aviary.perform(payload)
    mails = aviary.mails()
    assert sorted(mails) == sorted(payload.payload_spec.kind for payload in ALL)
    assert len(aviary.mailbox.received) == len(ALL)
    assert {mail.recipient for mail in aviary.mailbox.received} == {GUEST}
    assert {kind: mail["Content-Language"] for kind, mail in mails.items()} == {
        **dict.fromkeys(mails, "tr"),
        "send-email": None,
    }
    assert [kind for kind, mail in mails.items() if "List-Unsubscribe" in mail] == ["send-price-alert"]
    files = {kind: [part.get_content_type() for part in mail.iter_attachments()] for kind, mail in mails.items()}
    assert files == {
        "send-booking-confirmation": ["text/calendar"],
        "send-payment-receipt": ["application/pdf"],
        "send-price-alert": [],
        "send-welcome-email": [],
        "send-email": ["text/plain"],
    }
    rows = await aviary.database.fetch("SELECT state FROM skycap.mail_ledger")
    assert [row["state"] for row in rows] == ["sent"] * len(ALL)


async def test_personal_data_is_in_mails_and_payloads_only(aviary: Aviary) -> None:
    sinks: dict[str, str] = {}
    async with aviary.site.daemon() as daemon, ClientSession(daemon.http_url) as browser:
        for payload in (*ALL, written(REFUSED)):
            await aviary.perform(payload)
        put_off = (await aviary.client.enqueue(written(PUT_OFF))).job_id
        lane = aviary.client.queue("email")

        async def is_put_off() -> bool:
            job = await lane.get(put_off)
            return job is not None and job.state is JobState.SCHEDULED

        await eventually(is_put_off)
        header = aviary.mails()["send-price-alert"]["List-Unsubscribe"]
        (token,) = re.findall(r"/unsubscribe/([\w-]{43})", header)
        for ask in (browser.get, browser.post):
            async with ask(f"/unsubscribe/{token}") as answer:
                assert answer.status == 200
                sinks[f"the page of the link, {ask.__name__}"] = await answer.text()
        for path in ("/metrics", "/api/health", "/api/health/ready", "/api/system/health", "/nowhere"):
            async with browser.get(path) as answer:
                sinks[path] = await answer.text()
        jobs = [job for state in JobState for job in await lane.jobs(state)]
        sinks["jobs without their payloads"] = repr([{**vars(job), "payload": None} for job in jobs])
        sinks["events"] = repr(await lane.link.command("XRANGE", lane.keys.events, "-", "+"))
        for table in ("mail_ledger", "mail_suppressions", "unsubscribe_links"):
            rows = await aviary.database.fetch(f"SELECT * FROM skycap.{table}")  # noqa: S608 - our own names
            sinks[table] = json.dumps([list(map(str, row.values())) for row in rows], ensure_ascii=False)
        for command in (("queues", "list"), ("mail", "ledger", "--state", "failed"), ("dead", "list")):
            done = await skycap(*command, "--config", aviary.site.config)
            sinks[" ".join(command)] = done.out + done.err
    sinks["the log"] = aviary.site.log.read_text()
    assert "mail sent" in sinks["the log"]
    assert "550" in sinks["mail_ledger"]
    words = (*CANARIES, token)
    assert [(sink, word) for sink, text in sinks.items() for word in words if word.lower() in text.lower()] == []
