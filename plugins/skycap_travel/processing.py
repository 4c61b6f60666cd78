"""Processing: confirms a booking once it is paid, and has its guest told by a notification, a mail and a receipt.

It gives no loyalty points: the tables do not say how many a booking earns, and the backend may give them already.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from skycap import Cancel, Context, Database, Discard, Plugin, Snooze
from skycap_travel.notices import booking_confirmed
from skycap_travel.payloads.bookings import SendBookingConfirmation
from skycap_travel.payloads.payments import SendPaymentReceipt
from skycap_travel.payloads.processing import ProcessBooking
from skycap_travel.row_ids import new_row_id
from skycap_travel.rows import stored

__all__ = ["ProcessBooking", "ProcessingSettings", "plugin", "process_booking"]

_SHORTEST_WAIT: Final = timedelta(seconds=10)
_LONGEST_WAIT: Final = timedelta(minutes=15)

# What the status was is known only to the one statement that changes it: of two jobs, one finds it PENDING.
CONFIRM_PAID_BOOKING = """
    UPDATE bookings b
       SET status = 'CONFIRMED', "updatedAt" = $3
      FROM users u
     WHERE b.id = $1 AND u.id = b."userId" AND ($2::text IS NULL OR b."userId" = $2)
       AND b.status = 'PENDING' AND b."paymentStatus" = 'COMPLETED'
    RETURNING b."userId" AS user_id, b."bookingReference" AS reference, b."bookingType"::text AS booking_type,
              u.email, u."preferredLanguage" AS language
"""

STATE_OF_BOOKING = """
    SELECT status::text, "paymentStatus"::text AS payment_status
      FROM bookings
     WHERE id = $1 AND ($2::text IS NULL OR "userId" = $2)
"""

# The backend may have written it, too.
NOTIFY_CONFIRMED = """
    INSERT INTO notifications (id, "userId", type, title, message, data, "createdAt")
    SELECT $1, $2, 'BOOKING_CONFIRMATION', $3, $4, $5::text::jsonb, $6
     WHERE NOT EXISTS (
           SELECT FROM notifications
            WHERE "userId" = $2 AND type = 'BOOKING_CONFIRMATION' AND data ->> 'bookingId' = $7)
"""


class ProcessingSettings(BaseModel):
    """``[plugins.processing]``. ``payment_wait`` is how long a booking's payment is waited for, from the job's start.

    Bank transfers take days: who enqueues such bookings at once raises it, or enqueues when the payment has come.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    payment_wait: Annotated[timedelta, Field(ge=timedelta(0), le=timedelta(days=14))] = timedelta(hours=24)


plugin = Plugin("processing", settings=ProcessingSettings)


@plugin.job(tables=("bookings", "users", "notifications"))
async def process_booking(ctx: Context[ProcessingSettings], payload: ProcessBooking) -> dict[str, Any]:
    mails = await _confirm(ctx, payload)
    if mails is None:
        await _refuse_unless_confirmed(ctx, payload)
        return {"status": "CONFIRMED", "changed": False}
    if not mails:
        await ctx.note("confirmed; no mail, since users.email is not a mail address")
    return {"status": "CONFIRMED", "changed": True, "mails": mails}


async def _confirm(ctx: Context[ProcessingSettings], payload: ProcessBooking) -> list[str] | None:
    """The kinds of the mails that were enqueued; None when the booking is not one to be confirmed."""
    now = stored(ctx.now())
    async with ctx.db.transaction() as transaction:
        booking = await transaction.fetchrow(CONFIRM_PAID_BOOKING, payload.booking_id, payload.user_id, now)
        if booking is None:
            return None
        await _notify(ctx, payload.booking_id, booking, transaction)
        return await _enqueue_mails(ctx, payload.booking_id, booking, transaction)


async def _notify(
    ctx: Context[ProcessingSettings], booking_id: str, booking: Mapping[str, Any], transaction: Database
) -> None:
    now = ctx.now()
    title, message = booking_confirmed(booking["reference"], language=booking["language"])
    data = {"bookingId": booking_id, "bookingReference": booking["reference"], "bookingType": booking["booking_type"]}
    await transaction.execute(
        NOTIFY_CONFIRMED,
        *(new_row_id(now), booking["user_id"], title, message, json.dumps(data, ensure_ascii=False)),
        *(stored(now), booking_id),
    )


async def _enqueue_mails(
    ctx: Context[ProcessingSettings], booking_id: str, booking: Mapping[str, Any], transaction: Database
) -> list[str]:
    """Enqueued if and only if the booking is confirmed. The backend may do so, too: a mail is sent once."""
    user_id = booking["user_id"]
    try:
        mails = (
            SendBookingConfirmation(
                booking_id=booking_id,
                user_id=user_id,
                user_email=booking["email"],
                booking_type=booking["booking_type"],
            ),
            SendPaymentReceipt(user_id=user_id, booking_id=booking_id),
        )
    except ValidationError:  # a mail address that is none must not keep a paid booking from being confirmed
        return []
    for mail in mails:
        await ctx.enqueue(mail, tx=transaction)
    return [mail.payload_spec.kind for mail in mails]


async def _refuse_unless_confirmed(ctx: Context[ProcessingSettings], payload: ProcessBooking) -> None:
    """Raises what becomes of the job whose booking could not be confirmed; returns if it was before."""
    found = await ctx.db.fresh.fetchrow(STATE_OF_BOOKING, payload.booking_id, payload.user_id)
    name = f"booking {payload.booking_id}"
    if found is None:
        whose = f" or is not user {payload.user_id}'s" if payload.user_id else ""
        raise Discard(f"{name} does not exist{whose}")
    status, payment = found["status"], found["payment_status"]
    if status in {"CONFIRMED", "COMPLETED"}:
        return
    if status != "PENDING":
        raise Cancel(f"{name} is {status}, so there is nothing to confirm")
    if payment in {"REFUNDED", "PARTIALLY_REFUNDED"}:
        raise Cancel(f"the payment of {name} is {payment}, so there is nothing to confirm")
    waited = ctx.now() - ctx.job.enqueued_at
    limit = ctx.settings.payment_wait
    if payment != "COMPLETED" and waited >= limit:
        raise Cancel(
            f"the payment of {name} is still {payment} after {limit}; enqueue {payload.payload_spec.kind} again once "
            "it is COMPLETED"
        )
    wait = min(max(waited / 2, _SHORTEST_WAIT), _LONGEST_WAIT)
    raise Snooze(wait, f"{name} waits for its payment, which is {payment}")
