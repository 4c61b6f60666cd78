"""Payloads of the reports plugin."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from skycap import Payload
from skycap_travel.addresses import MailAddress

LONGEST_PERIOD_DAYS = 3_660
"""Ten years, as a guard against a year that is mistyped."""


class ReportKind(StrEnum):
    """BOOKINGS lists each booking, REVENUE adds up by type, status and currency."""

    BOOKINGS = "bookings"
    REVENUE = "revenue"


class NamedPeriod(StrEnum):
    """The last whole one before the job was enqueued, in the zone of the settings; a week begins on Monday."""

    YESTERDAY = "yesterday"
    LAST_WEEK = "last-week"
    LAST_MONTH = "last-month"
    LAST_QUARTER = "last-quarter"
    LAST_YEAR = "last-year"


class GenerateReport(Payload, kind="generate-report", queue="processing"):
    """Bookings that were made in a period: a named one, or the days ``from`` one ``to`` another, both included.

    ``currency`` leaves out all others. ``locale`` is that of the mail, and of a report in HTML.
    """

    kind: ReportKind = ReportKind.REVENUE
    format: Literal["csv", "html"] = "csv"
    mail_to: MailAddress
    period: NamedPeriod | None = None
    first_day: Annotated[date | None, Field(alias="from")] = None
    last_day: Annotated[date | None, Field(alias="to")] = None
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3,5}$")] | None = None
    locale: Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")] | None = None

    @model_validator(mode="after")
    def _one_period(self) -> Self:
        if problem := _problem_of(self.period, self.first_day, self.last_day):
            raise PydanticCustomError("period", "{problem}", {"problem": problem})
        return self


def _problem_of(period: NamedPeriod | None, first_day: date | None, last_day: date | None) -> str | None:
    if period is not None:
        return None if first_day is last_day is None else "has a period, and from or to as well; give one of both"
    if first_day is None or last_day is None:
        return "says no period; give from and to, both days included, or a period such as last-month"
    if last_day < first_day:
        return "ends before it begins: to is earlier than from"
    if (last_day - first_day).days >= LONGEST_PERIOD_DAYS:
        return f"is about more than {LONGEST_PERIOD_DAYS:,} days; give a shorter period"
    return None
