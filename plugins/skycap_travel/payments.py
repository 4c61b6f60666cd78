"""Payments: sends a guest the receipt of a payment, or the notice of a refund, with the same as a PDF."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, EmailStr, Field, TypeAdapter, ValidationError

from skycap import Context, Discard, Plugin, Retry, Sample
from skycap_travel.content.receipts import PAID, REFUNDS, Receipt, receipt_of
from skycap_travel.metadata.moments import ZoneName
from skycap_travel.payloads.payments import SendPaymentReceipt
from skycap_travel.rows import PAYMENT_OF_USER, PaymentRow
from skycap_travel.templates import TEMPLATES

__all__ = ["PaymentsSettings", "SendPaymentReceipt", "order", "plugin", "send_payment_receipt", "variables"]

_NOT_YET: Final = (timedelta(seconds=5), timedelta(minutes=1))
"""How long to wait for a payment that is said to have succeeded: a transaction ends within the first, an outage of the
database's primary within the second. Then the job is dead, and says why."""


class PaymentsSettings(BaseModel):
    """``[plugins.payments]``. ``time_zone`` is the one in which the days of receipts and payments are reckoned."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    time_zone: ZoneName = "Europe/Istanbul"


plugin = Plugin("payments", settings=PaymentsSettings, templates=TEMPLATES)

_ADDRESS: Final = TypeAdapter[str](Annotated[EmailStr, Field(max_length=254)])


@plugin.job(breakers=("email",))
async def send_payment_receipt(ctx: Context[PaymentsSettings], payload: SendPaymentReceipt) -> dict[str, str]:
    record = await ctx.db.fresh.fetchrow(PAYMENT_OF_USER, payload.booking_id, payload.user_id)
    if record is None:
        raise Discard(f"booking {payload.booking_id} does not exist or is not user {payload.user_id}'s")
    payment = PaymentRow.from_record(record)
    to = _address(payment, payload)
    _refuse_unpaid(payment, payload, ctx.job.attempt)
    # Not now: another attempt, or the same job found dead and revived, must write the same receipt.
    receipt = receipt_of(payment, issued=ctx.job.enqueued_at, zone=ZoneInfo(ctx.settings.time_zone))
    message_id = await ctx.mailer.send(
        to,
        "payments/receipt",
        key=f"payment-receipt:{payment.reference}:{payment.payment_status}",
        locale=payment.language,
        on_unknown="resend",
        **variables(payment, receipt),
    )
    return {"messageId": message_id}


@plugin.samples
def samples() -> Iterable[Sample]:
    from skycap_travel.receipt_samples import payments

    return payments()


def variables(payment: PaymentRow, receipt: Receipt) -> dict[str, Any]:
    """The variables of the template ``payments/receipt``."""
    return {"payment": payment, "receipt": receipt, "structured_data": order(payment, receipt)}


def order(payment: PaymentRow, receipt: Receipt) -> dict[str, object] | None:
    """schema.org's Order, without the merchant, whose name only the template knows; None unless its minimum is there.

    The minimum is Gmail's: number, price, currency, and an offer of something that has a name.
    """
    if receipt.what is None or not _is_currency(payment.currency):
        return None
    price = {"price": _written(receipt.total), "priceCurrency": payment.currency}
    found: dict[str, object] = {
        "@context": "https://schema.org",
        "@type": "Order",
        "orderNumber": payment.reference,
        **price,
        "acceptedOffer": {
            "@type": "Offer",
            "itemOffered": {"@type": "Product", "name": receipt.what},
            **price,
            "eligibleQuantity": {"@type": "QuantitativeValue", "value": "1"},
        },
    }
    if status := _ORDER_STATUSES.get(payment.payment_status):
        found["orderStatus"] = f"https://schema.org/{status}"
    if receipt.guest_name:
        found["customer"] = {"@type": "Person", "name": receipt.guest_name}
    if receipt.invoice_number:
        found["partOfInvoice"] = _invoice(receipt, payment)
    return found


_ORDER_STATUSES: Final = {PAID: "OrderProcessing", "REFUNDED": "OrderReturned"}


def _invoice(receipt: Receipt, payment: PaymentRow) -> dict[str, object]:
    invoice: dict[str, object] = {
        "@type": "Invoice",
        "identifier": receipt.invoice_number,
        "confirmationNumber": receipt.number,
    }
    if payment.payment_status == PAID:
        invoice["paymentStatus"] = "https://schema.org/PaymentComplete"
    return invoice


def _address(payment: PaymentRow, payload: SendPaymentReceipt) -> str:
    """The user's, from ``users``; the reasons never show it."""
    if not payment.guest_email.strip():
        raise Discard(f"user {payload.user_id} has no mail address: set users.email, then retry this job")
    try:
        return _ADDRESS.validate_python(payment.guest_email)
    except ValidationError:
        raise Discard(
            f"user {payload.user_id}'s mail address is not valid: correct users.email, then retry this job"
        ) from None


def _refuse_unpaid(payment: PaymentRow, payload: SendPaymentReceipt, attempt: int) -> None:
    """Raises unless there is a payment to receipt.

    The backend enqueues when a payment has succeeded, perhaps a moment before its row says so: that is worth an
    attempt or two, with every status, since a second payment may have followed a failed one. It is not worth waiting
    for ever; a job that is enqueued too early is the backend's mistake, which the dead-letter queue shows.
    """
    amount = payment.total_amount
    if not amount.is_finite() or amount < 0:
        raise Discard(f"booking {payload.booking_id} has the total amount {amount}, which nobody can have paid")
    if payment.payment_status != PAID and payment.payment_status not in REFUNDS:
        reason = (
            f"booking {payload.booking_id} has the payment status {payment.payment_status}, and nothing to receipt: "
            f"enqueue {payload.payload_spec.kind} once it is {PAID}"
        )
        raise Retry(_NOT_YET[min(attempt, len(_NOT_YET)) - 1], reason)


def _is_currency(code: str) -> bool:
    return len(code) == len("TRY") and code.isascii() and code.isupper()


def _written(amount: Decimal) -> str:
    return f"{amount:f}"
