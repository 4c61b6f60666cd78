"""Reports: bookings of a period, or what they add up to, mailed as a file to those who may have it.

They name no guests: a booking's reference leads to the rest for whoever may see that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from skycap import Attachment, Context, Discard, Plugin, Sample
from skycap_travel.content.periods import Period
from skycap_travel.content.revenue import CurrencyTotal, Revenue, Tally, by_currency
from skycap_travel.content.tables import Cell, Table, TooLarge, plain_amount
from skycap_travel.metadata.moments import ZoneName
from skycap_travel.payloads.mails import LARGEST_ATTACHMENTS_BYTES
from skycap_travel.payloads.reports import GenerateReport, ReportKind
from skycap_travel.templates import TEMPLATES

__all__ = ["GenerateReport", "ReportsSettings", "generate_report", "plugin"]

MOST_HTML_ROWS: Final = 1_000
"""HTML is there to be read, and is written in one go."""

LARGEST_TABLE_BYTES: Final = 512 * 1024 * 1024
"""Of the temporary file; gzip makes at best a twentieth of such rows."""

_MOST_CURRENCIES: Final = 20  # in the mail itself; the file has all
_ROWS_BETWEEN_LOOKS: Final = 5_000

BOOKINGS_OF_PERIOD = """
    SELECT "bookingReference" AS reference, "bookingType"::text AS booking_type, status::text AS status,
           "paymentMethod"::text AS payment_method, "paymentStatus"::text AS payment_status,
           currency, "totalAmount" AS total_amount, "checkInDate" AS check_in, "checkOutDate" AS check_out,
           "guestCount" AS guest_count, "createdAt" AS created_at
      FROM bookings
     WHERE "createdAt" >= $1 AND "createdAt" < $2 AND ($3::text IS NULL OR currency = $3)
     ORDER BY "createdAt", id
"""

# The column can hold NaN and infinities, which no sum survives.
REVENUE_OF_PERIOD = """
    SELECT "bookingType"::text AS booking_type, status::text AS status, currency, count(*) AS bookings,
           coalesce(sum("totalAmount") FILTER (WHERE is_amount), 0) AS total,
           coalesce(sum("totalAmount") FILTER (WHERE is_amount AND "paymentStatus" = 'COMPLETED'), 0) AS paid
      FROM bookings, LATERAL (SELECT "totalAmount" > -1e35 AND "totalAmount" < 1e35 AS is_amount) AS amount
     WHERE "createdAt" >= $1 AND "createdAt" < $2 AND ($3::text IS NULL OR currency = $3)
     GROUP BY 1, 2, 3
     ORDER BY currency, 1, 2
"""

_BOOKING_COLUMNS: Final = (
    *("reference", "bookingType", "status", "paymentMethod", "paymentStatus", "currency", "totalAmount"),
    *("checkIn", "checkOut", "guestCount", "createdAt"),
)
_REVENUE_COLUMNS: Final = ("bookingType", "status", "currency", "bookings", "totalAmount", "paidAmount")


def _recipient(text: str) -> str:
    name, at, domain = text.strip().casefold().rpartition("@")
    if not domain or "." not in domain or (at and " " in name) or set(domain) & set("*/ ,"):
        raise ValueError(f"{text!r} is neither a mail address nor a domain; write finance@example.com or example.com")
    return f"{name}@{domain}"


class ReportsSettings(BaseModel):
    """``[plugins.reports]``. ``report_recipients`` are mail addresses, or domains without their subdomains.

    Nobody else is sent a report, so that a job cannot carry the company's figures away. ``time_zone`` is the one in
    which days are reckoned and times are shown, ``locale`` the language where a job names none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    report_recipients: tuple[Annotated[str, AfterValidator(_recipient)], ...] = Field(default=(), repr=False)
    time_zone: ZoneName = "Europe/Istanbul"
    locale: Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")] = "tr"

    def allow(self, address: str) -> bool:
        address = address.casefold()
        return address in self.report_recipients or f"@{address.rpartition('@')[2]}" in self.report_recipients


plugin = Plugin("reports", settings=ReportsSettings, templates=TEMPLATES)


@dataclass(frozen=True, kw_only=True)
class _Report:
    totals: list[CurrencyTotal]
    attachment: Attachment | None = None
    rows: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    """Of a report in HTML, which is no attachment before its template has made it."""


@plugin.job(timeout=timedelta(minutes=15), tables=("bookings",))
async def generate_report(ctx: Context[ReportsSettings], payload: GenerateReport) -> dict[str, Any]:
    if not ctx.settings.allow(payload.mail_to):
        raise Discard(
            "the report's mail address is not one that may have it: add it, or its domain, to "
            "plugins.reports.report_recipients, then retry this job"
        )
    zone = ZoneInfo(ctx.settings.time_zone)
    period = _period(payload, ctx.job.enqueued_at.astimezone(zone))
    bounds = (*period.bounds(zone), payload.currency)
    if payload.format == "csv":
        report = await _csv(ctx, payload.kind, bounds, name=f"{payload.kind}-{period.first_day}-{period.last_day}.csv")
    else:
        report = await _html(ctx, payload.kind, bounds)
    message_id = await ctx.mailer.send(
        payload.mail_to,
        "reports/report",
        locale=payload.locale or ctx.settings.locale,
        on_unknown="resend",
        attachments=() if report.attachment is None else (report.attachment,),
        kind=payload.kind.value,
        period=period,
        zone=ctx.settings.time_zone,
        totals=report.totals[:_MOST_CURRENCIES],
        rows=report.rows,
        has_table=payload.format == "html",
        filename=report.attachment.filename if report.attachment else "report.html",
    )
    return {
        "messageId": message_id,
        "from": period.first_day.isoformat(),
        "to": period.last_day.isoformat(),
        "bookings": sum(total.bookings for total in report.totals),
    }


@plugin.samples
def samples() -> Iterable[Sample]:
    from skycap_travel.report_samples import reports

    return reports()


def _period(payload: GenerateReport, enqueued: datetime) -> Period:
    """Not of today: another attempt must write the same report."""
    if payload.period is not None:
        return Period.named(payload.period, enqueued.date())
    assert payload.first_day is not None  # noqa: S101 - the payload has one of both
    assert payload.last_day is not None  # noqa: S101
    return Period(first_day=payload.first_day, last_day=payload.last_day)


async def _csv(ctx: Context[ReportsSettings], kind: ReportKind, bounds: tuple[object, ...], *, name: str) -> _Report:
    zone = ZoneInfo(ctx.settings.time_zone)
    tally = Tally()
    with Table() as table:
        if kind is ReportKind.BOOKINGS:
            table.write(_BOOKING_COLUMNS)
            async for record in _looked_at(ctx.db.stream(BOOKINGS_OF_PERIOD, *bounds), table):
                tally.add(record)
                table.write(_booking_cells(record, zone))
            lines = tally.lines
        else:
            lines = [Revenue.from_record(record) async for record in ctx.db.stream(REVENUE_OF_PERIOD, *bounds)]
            table.write(_REVENUE_COLUMNS)
            for line in lines:
                table.write(_revenue_cells(line))
        attachment = await asyncio.to_thread(_attachment, table, name)
    return _Report(totals=by_currency(lines), attachment=attachment)


async def _looked_at(records: AsyncIterator[Mapping[str, Any]], table: Table) -> AsyncIterator[Mapping[str, Any]]:
    """``records``, until the table is larger than can be mailed in the end."""
    number = 0
    async for record in records:
        yield record
        number += 1
        if number % _ROWS_BETWEEN_LOOKS == 0 and table.size() > LARGEST_TABLE_BYTES:
            raise _too_large()


def _attachment(table: Table, name: str) -> Attachment:
    try:
        if table.size() <= LARGEST_ATTACHMENTS_BYTES:
            content = table.content(most=LARGEST_ATTACHMENTS_BYTES)
            return Attachment(filename=name, content=content, media_type="text/csv; charset=utf-8; header=present")
        packed = table.packed(most=LARGEST_ATTACHMENTS_BYTES)
    except TooLarge:
        raise _too_large() from None
    return Attachment(filename=f"{name}.gz", content=packed, media_type="application/gzip")


def _too_large() -> Discard:
    return Discard(
        f"the report is larger than {LARGEST_ATTACHMENTS_BYTES:,} bytes even when it is packed, which no mail carries: "
        "ask for a shorter period, for one currency, or for the kind revenue"
    )


async def _html(ctx: Context[ReportsSettings], kind: ReportKind, bounds: tuple[object, ...]) -> _Report:
    rows: list[Mapping[str, Any]] = []
    async for record in ctx.db.stream(
        BOOKINGS_OF_PERIOD if kind is ReportKind.BOOKINGS else REVENUE_OF_PERIOD, *bounds
    ):
        if len(rows) == MOST_HTML_ROWS:
            raise Discard(
                f"the report has more than {MOST_HTML_ROWS:,} rows, which are too many for HTML: ask for the format "
                "csv, or for a shorter period"
            )
        rows.append(record)
    if kind is ReportKind.REVENUE:
        return _Report(totals=by_currency(Revenue.from_record(row) for row in rows), rows=rows)
    tally = Tally()
    for row in rows:
        tally.add(row)
    return _Report(totals=by_currency(tally.lines), rows=[_shown(row) for row in rows])


def _shown(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """As the template shows it: no amount for one that is no number."""
    amount = record["total_amount"]
    return {**record, "total_amount": amount if amount.is_finite() else None}


def _booking_cells(record: Mapping[str, Any], zone: ZoneInfo) -> list[Cell]:
    return [
        record["reference"],
        record["booking_type"],
        record["status"],
        record["payment_method"],
        record["payment_status"],
        record["currency"],
        plain_amount(record["total_amount"], record["currency"]),
        _local(record["check_in"], zone),
        _local(record["check_out"], zone),
        record["guest_count"],
        _local(record["created_at"], zone),
    ]


def _revenue_cells(line: Revenue) -> list[Cell]:
    amounts = (plain_amount(line.total, line.currency), plain_amount(line.paid, line.currency))
    return [line.booking_type, line.status, line.currency, line.bookings, *amounts]


def _local(moment: datetime | None, zone: ZoneInfo) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC).astimezone(zone)
