"""The obvious alternative for mails.py: a stock taskiq task that sends the same mail, on a connection of its own.

It reads the booking, renders it and makes its calendar file by the same code as skycap's job does; there is no ledger,
no Message-ID that stays the same, and no record of what became of a mail.
"""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from zoneinfo import ZoneInfo

import aiosmtplib
import asyncpg
from jinja2 import PackageLoader
from taskiq import TaskiqEvents, TaskiqState
from taskiq_redis import RedisStreamBroker

from skycap.services.documents import attachments_of
from skycap.services.templates import Templates
from skycap.settings.sections import BrandSettings
from skycap_travel.bookings import confirmation
from skycap_travel.rows import BOOKING_OF_USER, BookingRow
from tests.benchmarks.mail_sink import HOST

SENDER = "bookings@travel.example.com"
BRAND = {**BrandSettings().model_dump(mode="json"), "logo": ""}
ZONE = ZoneInfo("Europe/Istanbul")

broker = RedisStreamBroker(os.environ.get("BENCHMARK_REDIS_URL", "redis://localhost"))
templates = Templates([PackageLoader("skycap_templates", "")], brand=BRAND)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def connect(state: TaskiqState) -> None:
    state.database = await asyncpg.create_pool(os.environ["BENCHMARK_DATABASE_URL"])
    # Made once: aiosmtplib's own, made for each connection, reads all of the system's certificates each time.
    state.tls = ssl.create_default_context(cafile=os.environ["BENCHMARK_CA_FILE"])


@broker.task
async def send_booking_confirmation(booking_id: str, user_id: str, user_email: str) -> None:
    booking = BookingRow.from_record(await broker.state.database.fetchrow(BOOKING_OF_USER, booking_id, user_id))
    mail = templates.render("bookings/confirmation", locale=booking.language, variables=confirmation(booking, ZONE))
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = SENDER, user_email, mail.subject
    message["Date"], message["Message-ID"] = format_datetime(datetime.now(UTC)), make_msgid(domain="travel.example.com")
    message.set_content(mail.text)
    message.add_alternative(mail.html, subtype="html")
    for file in await attachments_of(mail, datetime.now(UTC)):
        message.add_attachment(file.content, *file.media_type.partition(";")[0].split("/"), filename=file.filename)
    port = int(os.environ["BENCHMARK_SMTP_PORT"])
    await aiosmtplib.send(message, hostname=HOST, port=port, use_tls=True, tls_context=broker.state.tls)
