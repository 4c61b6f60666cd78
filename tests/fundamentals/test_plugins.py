"""How a plugin author writes and tests a job type. Read from top to bottom."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, EmailStr, ValidationError

from skycap import Cancel, Context, Discard, JobState, Payload, Plugin, Snooze, Unavailable, exponential
from skycap.outcome import Retry
from skycap.testing import perform


class WelcomeSettings(BaseModel):
    enabled: bool = True


plugin = Plugin("welcome", settings=WelcomeSettings)


class WelcomeEmail(Payload, kind="send-welcome-email", queue="email", priority=1):
    user_email: EmailStr
    user_name: str


@plugin.job(retry=exponential(seconds=5, attempts=3), timeout=timedelta(seconds=30))
async def send_welcome_email(ctx: Context[WelcomeSettings], payload: WelcomeEmail) -> str:
    if not ctx.settings.enabled:
        raise Cancel("switched off: plugins.welcome.enabled is false")
    return await ctx.mailer.send(payload.user_email, "welcome/greeting", locale="tr", name=payload.user_name)


ADA = WelcomeEmail(user_email="ada@example.com", user_name="Ada")


async def test_a_job_completes_with_what_its_handler_returns() -> None:
    done = await perform(send_welcome_email, ADA, settings=WelcomeSettings())
    assert done.state is JobState.COMPLETED
    assert done.result == done.mails[0].message_id
    mail = done.mails[0]
    assert (mail.to, mail.template, mail.locale, mail.variables) == (
        *("ada@example.com", "welcome/greeting", "tr", {"name": "Ada"}),
    )


async def test_a_switched_off_greeting_is_cancelled_and_says_why() -> None:
    done = await perform(send_welcome_email, ADA, settings=WelcomeSettings(enabled=False))
    assert (done.state, done.mails) == (JobState.CANCELLED, [])


def test_a_wrong_payload_is_refused_where_it_is_made() -> None:
    with pytest.raises(ValidationError, match="user_email") as caught:
        WelcomeEmail(user_email="ada at example", user_name="Ada")
    assert "ada at example" not in str(caught.value), "what was given may be private"


class Booking(Payload, kind="fetch-booking"):
    booking_id: str


@plugin.job()
async def fetch_booking(ctx: Context[WelcomeSettings], payload: Booking) -> dict[str, Any]:
    row = await ctx.db.fetchrow("SELECT status FROM bookings WHERE id = $1", payload.booking_id)
    if row is None:
        raise Discard(f"booking {payload.booking_id} does not exist")
    if row["status"] == "PENDING":
        raise Snooze(timedelta(minutes=5), "not confirmed yet")
    await ctx.enqueue(WelcomeEmail(user_email="ada@example.com", user_name="Ada"))
    return {"at": ctx.now().year >= 2026}


class Rows:
    """Stands in for a database that has one row, or none, or is away."""

    def __init__(self, row: dict[str, Any] | None = None, *, away: bool = False) -> None:
        self._row = row
        self._away = away

    @property
    def fresh(self) -> Rows:
        return self

    async def fetchrow(self, _query: str, *_args: object) -> dict[str, Any] | None:
        if self._away:
            raise Unavailable("database", "connection refused")
        return self._row


async def fetched(rows: Rows) -> Any:
    database: Any = rows
    return await perform(fetch_booking, Booking(booking_id="b1"), settings=WelcomeSettings(), db=database)


async def test_what_can_never_work_is_discarded_and_what_can_later_is_snoozed() -> None:
    assert (await fetched(Rows(None))).state is JobState.DISCARDED
    assert (await fetched(Rows({"status": "PENDING"}))).state is JobState.SCHEDULED


async def test_an_outage_uses_up_no_attempt() -> None:
    assert (await fetched(Rows(away=True))).state is JobState.SCHEDULED


async def test_a_handler_may_enqueue_another_job() -> None:
    done = await fetched(Rows({"status": "CONFIRMED"}))
    assert done.state is JobState.COMPLETED
    assert done.enqueued == [ADA]


async def test_a_handler_that_needs_a_database_says_so_in_its_test() -> None:
    with pytest.raises(AssertionError, match=r"give perform\(…, db=…\) one"):
        await perform(fetch_booking, Booking(booking_id="b1"))


class Report(Payload, kind="write-report"):
    guest: str


@plugin.job()
def write_report(ctx: Context[WelcomeSettings], payload: Report) -> dict[str, Any]:
    """Without ``async``: it runs in a thread, may block, and reaches what is async by ``ctx.run``."""
    if not ctx.settings.enabled:
        raise Cancel("switched off: plugins.welcome.enabled is false")
    message_id = ctx.run(ctx.mailer.send("office@example.com", "reports/guest", guest=payload.guest))
    ctx.run(ctx.enqueue(ADA))
    return {"sent": message_id, "thread": threading.current_thread() is not threading.main_thread()}


async def test_a_handler_without_async_runs_in_a_thread_and_reaches_what_is_async() -> None:
    done = await perform(write_report, Report(guest="Ada"), settings=WelcomeSettings())
    assert done.result == {"sent": done.mails[0].message_id, "thread": True}
    assert done.enqueued == [ADA]


async def test_the_signals_of_a_handler_without_async_are_those_of_any_other() -> None:
    done = await perform(write_report, Report(guest="Ada"), settings=WelcomeSettings(enabled=False))
    assert (done.state, done.mails) == (JobState.CANCELLED, [])


class Import(Payload, kind="import-prices"):
    rows: int


@plugin.job()
async def import_prices(ctx: Context[WelcomeSettings], payload: Import) -> None:
    await ctx.note(f"{payload.rows} rows")
    for row in range(payload.rows):
        await ctx.progress((row + 1) / payload.rows)


async def test_a_job_tells_how_far_it_has_come() -> None:
    done = await perform(import_prices, Import(rows=2), settings=WelcomeSettings())
    assert (done.progress, done.notes) == ([0.5, 1.0], ["2 rows"])


class Careless(Payload, kind="be-careless"):
    pass


@plugin.job()
async def careless(ctx: Context[WelcomeSettings], payload: Careless) -> None:
    ctx.run(ctx.enqueue(ADA))


async def test_an_async_handler_that_waits_for_itself_is_told_to_await() -> None:
    done = await perform(careless, Careless(), settings=WelcomeSettings())
    assert isinstance(done.outcome, Retry)
    assert "write `await …` instead of `ctx.run(…)`" in done.outcome.error


async def test_a_result_comes_back_as_it_would_from_redis() -> None:
    assert (await fetched(Rows({"status": "CONFIRMED"}))).result == {"at": True}
