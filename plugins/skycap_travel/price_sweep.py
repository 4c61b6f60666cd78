"""Price sweep: finds the price alerts that are due, and tells each guest once, whoever dies when.

An alert is claimed, its notification written and its mail enqueued in one transaction for a page of alerts. A sweep
that is killed begins anew: what it has claimed is not due any more.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from skycap import Context, Plugin
from skycap_travel.notices import price_changed
from skycap_travel.payloads.price_alerts import EntityType, SendPriceAlert
from skycap_travel.payloads.price_sweep import CheckPriceAlerts
from skycap_travel.price_sweep_sql import ACTIVE_ALERTS, CANDIDATES, CLAIM, ENQUEUE, EXPIRE, NOTIFY
from skycap_travel.row_ids import new_row_id
from skycap_travel.rows import one_line, stored

__all__ = ["CheckPriceAlerts", "PriceSweepSettings", "check_price_alerts", "plugin"]

QUIET = timedelta(hours=6)
"""So long an alert says nothing more after it was notified: the backend's own rule."""

LONGEST = timedelta(hours=1)
"""Of a sweep. A million alerts take minutes; a sweep that takes longer than this waits for something."""

_DIGITS = 65
"""As many as the columns have; Python would round to 28."""

_LONG_AGO = datetime.min  # noqa: DTZ901 - the columns have no zone


class PriceSweepSettings(BaseModel):
    """``[plugins.price-sweep]``. ``page`` is how many alerts are looked at, and at most claimed, in one transaction."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    page: Annotated[int, Field(ge=1, le=20_000)] = 4_000


plugin = Plugin("price-sweep", settings=PriceSweepSettings)
plugin.schedule("0 */6 * * *", CheckPriceAlerts())


@plugin.job(timeout=LONGEST, tables=("price_alerts", "price_history", "users", "notifications"))
async def check_price_alerts(ctx: Context[PriceSweepSettings], payload: CheckPriceAlerts) -> dict[str, int]:
    counts = _Counts(expired=await _expire(ctx), total=await ctx.db.fresh.fetchval(ACTIVE_ALERTS))
    try:
        async with asyncio.TaskGroup() as group:
            # Side by side: the server looks prices up most of the time, and has more than one core.
            for entity_type in EntityType:
                group.create_task(_sweep(ctx, entity_type, counts), name=f"price sweep: {entity_type}")
    except BaseExceptionGroup as errors:
        # What the job met, and not a group of it, says what becomes of the job.
        raise errors.exceptions[0] from None
    return counts.document()


async def _sweep(ctx: Context[PriceSweepSettings], entity_type: EntityType, counts: _Counts) -> None:
    """All active alerts of one type."""
    async for page in _pages(ctx, entity_type):
        told = await _tell(ctx, page) if page.alert_ids else _Told()
        counts.add(page, told)
        await ctx.progress(counts.fraction, f"{counts.notified} of {counts.seen} told")


@dataclass(frozen=True, kw_only=True)
class _Page:
    """Alerts that lie side by side, and those of them that are due, in columns."""

    entity_type: EntityType
    seen: int
    last: tuple[str, str]
    alert_ids: Sequence[str]
    entity_ids: Sequence[str]
    currencies: Sequence[str]
    prices: Sequence[Decimal]

    @classmethod
    def from_record(cls, entity_type: EntityType, record: Mapping[str, Any]) -> Self:
        """From a record of ``CANDIDATES``, whose arrays are NULL when they are empty."""
        return cls(
            entity_type=entity_type,
            seen=record["seen"],
            last=(record["last_entity"], record["last_alert"]),
            alert_ids=record["ids"] or (),
            entity_ids=record["entities"] or (),
            currencies=record["currencies"] or (),
            prices=record["prices"] or (),
        )


@dataclass(frozen=True, kw_only=True)
class _Drop:
    """An alert that was claimed, and the prices that its guest is told."""

    alert_id: str
    user_id: str
    entity_type: str
    entity_id: str
    entity_name: str
    currency: str
    notification_methods: Sequence[str | None] | None
    old_price: Decimal
    new_price: Decimal
    language: str

    @property
    def data(self) -> str:
        """Of the notification. A price that has risen, and is still below the target, saves nothing."""
        figures = {
            "oldPrice": self.old_price,
            "newPrice": self.new_price,
            "savings": max(self.old_price - self.new_price, Decimal(0)),
        }
        names = {"alertId": self.alert_id, "entityType": self.entity_type, "entityId": self.entity_id}
        # Written by hand, since json knows no Decimal: JSON numbers with all their digits.
        numbers = ", ".join(f'"{key}": {_plain(figure)}' for key, figure in figures.items())
        return f"{json.dumps(names)[:-1]}, {numbers}}}"

    def mail(self) -> dict[str, Any] | None:
        """The request for its mail; None when the guest wants none. Raises ValidationError for what no mail can say."""
        if "EMAIL" not in (self.notification_methods or ()):
            return None
        payload = SendPriceAlert(
            alert_id=self.alert_id,
            user_id=self.user_id,
            entity_type=EntityType(self.entity_type),
            entity_id=self.entity_id,
            old_price=self.old_price,
            new_price=self.new_price,
        )
        # The same alert and price are the same job, as they are the same mail; a digest, since ids may be any text.
        meaning = hashlib.sha256(f"{self.alert_id}\n{_plain(self.new_price)}".encode()).hexdigest()[:32]
        return {"kind": payload.payload_spec.kind, "payload": payload.on_the_wire(), "id": f"price-alert-{meaning}"}


@dataclass(frozen=True, kw_only=True)
class _Told:
    notified: int = 0
    mailed: int = 0


@dataclass(kw_only=True)
class _Counts:
    """How far a sweep is. ``total`` alerts were active at its start."""

    expired: int
    total: int
    seen: int = 0
    notified: int = 0
    mailed: int = 0

    def add(self, page: _Page, told: _Told) -> None:
        self.seen += page.seen
        self.notified += told.notified
        self.mailed += told.mailed

    @property
    def fraction(self) -> float:
        return min(1.0, self.seen / max(self.total, 1))

    def document(self) -> dict[str, int]:
        return {"expired": self.expired, "seen": self.seen, "notified": self.notified, "mailed": self.mailed}


@dataclass(frozen=True, kw_only=True)
class _News:
    """What is written about a page's drops: notifications in columns, and the requests for mails."""

    notifications: Sequence[Sequence[str]]
    mails: Sequence[Mapping[str, Any]]
    unspeakable: Sequence[str]
    """Alerts whose ids a mail's payload does not take; their guests have the notification."""

    @classmethod
    def about(cls, drops: Sequence[_Drop], now: datetime) -> Self:
        with localcontext(prec=_DIGITS):
            notifications = [_notification(drop, now) for drop in drops]
        mails: list[Mapping[str, Any]] = []
        unspeakable: list[str] = []
        for drop in drops:
            try:
                mail = drop.mail()
            except ValidationError:
                unspeakable.append(drop.alert_id)
            else:
                mails += [mail] if mail else []
        return cls(notifications=list(zip(*notifications, strict=True)), mails=mails, unspeakable=unspeakable)


async def _expire(ctx: Context[PriceSweepSettings]) -> int:
    expired, last = 0, _LONG_AGO
    while True:
        batch = await ctx.db.fetchrow(EXPIRE, stored(ctx.now()), last, ctx.settings.page)
        assert batch is not None  # noqa: S101 - an aggregate is one row
        expired += int(batch["expired"])
        if batch["expired"] < ctx.settings.page:
            return expired
        last = batch["last"]


async def _pages(ctx: Context[PriceSweepSettings], entity_type: EntityType) -> AsyncIterator[_Page]:
    """Every active alert once. Alerts about anything but the three types of entities have no prices, and wait."""
    last = ("", "")
    while True:
        now = stored(ctx.now())
        record = await ctx.db.fresh.fetchrow(CANDIDATES, now, now - QUIET, entity_type, *last, ctx.settings.page)
        if record is None:
            return
        page = _Page.from_record(entity_type, record)
        yield page
        last = page.last


async def _tell(ctx: Context[PriceSweepSettings], page: _Page) -> _Told:
    """Claim what is still due, write the notifications and enqueue the mails: all of it, or nothing."""
    now = ctx.now()
    written = stored(now)
    async with ctx.db.transaction() as transaction:
        records = await transaction.fetch(
            CLAIM,
            *(written, written - QUIET, page.entity_type),
            *(page.alert_ids, page.entity_ids, page.currencies, page.prices),
        )
        if not records:
            return _Told()
        drops = [_Drop(**record) for record in records]
        # In a thread: a thousand texts take longer than other jobs should wait.
        news = await asyncio.to_thread(_News.about, drops, now)
        await transaction.execute(NOTIFY, written, *news.notifications)
        mailed = await transaction.fetchval(ENQUEUE, json.dumps(news.mails)) if news.mails else 0
    for alert_id in news.unspeakable:
        ctx.log.warning("no mail can name this price alert; it was notified only", alert=alert_id)
    return _Told(notified=len(drops), mailed=mailed)


def _notification(drop: _Drop, now: datetime) -> tuple[str, ...]:
    title, message = price_changed(
        one_line(drop.entity_name) or drop.entity_id,
        old=drop.old_price,
        new=drop.new_price,
        currency=drop.currency,
        language=drop.language,
    )
    return new_row_id(now), drop.user_id, title, message, drop.data


def _plain(amount: Decimal) -> str:
    """All digits, without the zeros that the column adds: 18450.5."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
