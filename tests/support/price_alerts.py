"""Price alerts, prices and guests in a real PostgreSQL, and a sweep over them; the rules once more in plain Python."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import asyncpg

from skycap.demo.travel import create_travel_tables
from skycap.services.database import DatabasePool
from skycap.services.migrations import migrate
from skycap.testing import Performed, perform
from skycap_travel.price_sweep import CheckPriceAlerts, PriceSweepSettings, check_price_alerts

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
THEN = NOW.replace(tzinfo=None)
"""As the backend's columns have it."""

KNOWN_TYPES = ("HOTEL", "FLIGHT", "TOUR")


@dataclass(frozen=True, kw_only=True)
class Guest:
    id: str = "u1"
    is_active: bool = True
    language: str = "tr"


@dataclass(frozen=True, kw_only=True)
class Price:
    """A row of price_history."""

    id: str
    price: Decimal
    entity: tuple[str, str] = ("HOTEL", "h1")
    currency: str = "TRY"
    at: datetime = THEN - timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Alert:
    """A row of price_alerts: by default one whose target of 900 a price of 950, fallen from 1000, has not reached."""

    id: str = "a1"
    user_id: str = "u1"
    entity: tuple[str, str] = ("HOTEL", "h1")
    target: Decimal = Decimal(900)
    current: Decimal = Decimal(1000)
    currency: str = "TRY"
    status: str = "ACTIVE"
    methods: Sequence[str | None] | None = ("EMAIL",)
    percentage: Decimal | None = None
    expires_at: datetime | None = None
    notified_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a sweep makes of an alert."""

    status: str
    new_price: Decimal | None = None
    """None: its guest is told nothing."""
    is_mailed: bool = False


def judged(alert: Alert, guests: Sequence[Guest], prices: Sequence[Price], now: datetime = THEN) -> Verdict:
    """The rules for one alert, as a person reads them."""
    if alert.status != "ACTIVE":
        return Verdict(status=alert.status)
    if alert.expires_at is not None and alert.expires_at <= now:
        return Verdict(status="EXPIRED")
    quiet = alert.notified_at is not None and now - alert.notified_at < timedelta(hours=6)
    guest = next((guest for guest in guests if guest.id == alert.user_id), None)
    own = [each for each in prices if (each.entity, each.currency) == (alert.entity, alert.currency)]
    if quiet or guest is None or not guest.is_active or not own or alert.entity[0] not in KNOWN_TYPES:
        return Verdict(status="ACTIVE")
    newest = max(own, key=lambda each: (each.at, each.id)).price
    if not all(amount.is_finite() and amount >= 0 for amount in (newest, alert.current)):
        return Verdict(status="ACTIVE")
    # PostgreSQL holds NaN for greater than any number.
    is_reached = alert.target.is_nan() or newest <= alert.target
    if not is_reached and not _has_fallen_enough(alert, newest):
        return Verdict(status="ACTIVE")
    return Verdict(
        status="TRIGGERED" if is_reached else "ACTIVE",
        new_price=newest,
        is_mailed="EMAIL" in (alert.methods or ()) and alert.entity[1].isascii(),
    )


def _has_fallen_enough(alert: Alert, newest: Decimal) -> bool:
    if alert.percentage is None or alert.percentage.is_nan() or newest >= alert.current:
        return False
    # Fractions are exact; a Decimal of Python rounds to 28 digits.
    fall = Fraction(alert.current) - Fraction(newest)
    return fall * 100 / Fraction(alert.current) >= Fraction(alert.percentage)


@dataclass(frozen=True, kw_only=True)
class Prices:
    """The tables, and the ways to fill and to sweep them."""

    pool: DatabasePool
    connection: asyncpg.Connection[asyncpg.Record]

    async def fill(
        self, *, guests: Sequence[Guest] = (Guest(),), alerts: Sequence[Alert] = (), prices: Sequence[Price] = ()
    ) -> None:
        """What was there before is gone."""
        await self.connection.execute(
            "TRUNCATE users, price_alerts, price_history, notifications, skycap.outbox CASCADE"
        )
        await self.connection.executemany(
            'INSERT INTO users (id, email, "preferredLanguage", "isActive", "updatedAt") VALUES ($1, $2, $3, $4, $5)',
            [(guest.id, f"{guest.id}@example.com", guest.language, guest.is_active, THEN) for guest in guests],
        )
        await self.connection.executemany(
            """
            INSERT INTO price_history (id, "entityType", "entityId", price, currency, "createdAt")
            VALUES ($1, $2, $3, $4, $5, $6)
            """,
            [(each.id, *each.entity, each.price, each.currency, each.at) for each in prices],
        )
        await self.connection.executemany(
            """
            INSERT INTO price_alerts (id, "userId", "entityType", "entityId", "entityName", "targetPrice",
                "currentPrice", currency, status, "notificationMethod", "priceDropPercentage", "expiresAt",
                "lastNotifiedAt", "updatedAt")
            VALUES ($1, $2, $3, $4, 'Ilıca Koyu', $5, $6, $7, $8::text::"PriceAlertStatus", $9, $10, $11, $12, $13)
            """,
            [
                (
                    *(alert.id, alert.user_id, *alert.entity, alert.target, alert.current, alert.currency),
                    *(alert.status, alert.methods, alert.percentage, alert.expires_at, alert.notified_at),
                    THEN - timedelta(days=1),
                )
                for alert in alerts
            ],
        )

    async def sweep(self, *, page: int = 100, now: datetime = NOW) -> Performed:
        return await perform(
            check_price_alerts, CheckPriceAlerts(), settings=PriceSweepSettings(page=page), db=self.pool, now=now
        )

    async def alert(self, alert_id: str = "a1") -> dict[str, Any]:
        row = await self.connection.fetchrow(
            "SELECT *, status::text AS state FROM price_alerts WHERE id = $1", alert_id
        )
        assert row is not None
        return dict(row)

    async def notifications(self) -> list[dict[str, Any]]:
        rows = await self.connection.fetch('SELECT *, type::text AS kind FROM notifications ORDER BY "userId", id')
        return [{**row, "data": json.loads(row["data"], parse_float=Decimal)} for row in rows]

    async def mails(self) -> list[dict[str, Any]]:
        """The payloads of the jobs in the outbox."""
        rows = await self.connection.fetch("SELECT kind, payload FROM skycap.outbox ORDER BY id")
        assert {row["kind"] for row in rows} <= {"send-price-alert"}
        return [json.loads(row["payload"]) for row in rows]

    async def verdicts(self) -> dict[str, Verdict]:
        """What the last sweep made of each alert, by what it left in the tables."""
        told = {note["data"]["alertId"]: Decimal(note["data"]["newPrice"]) for note in await self.notifications()}
        mailed = {mail["alertId"] for mail in await self.mails()}
        rows = await self.connection.fetch("SELECT id, status::text FROM price_alerts")
        return {
            row["id"]: Verdict(status=row["status"], new_price=told.get(row["id"]), is_mailed=row["id"] in mailed)
            for row in rows
        }


@asynccontextmanager
async def prices_at(database_url: str) -> AsyncGenerator[Prices]:
    connection = await asyncpg.connect(database_url)
    pool = DatabasePool(dsn=database_url, size=3)
    try:
        await create_travel_tables(connection)
        await migrate(connection)
        yield Prices(pool=pool, connection=connection)
    finally:
        await pool.close()
        await connection.close()
