"""The backend's tables with rows of a test's own, and skycap's schema beside them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any

import asyncpg

from skycap.demo.travel import create_travel_tables
from skycap.services.database import DatabasePool
from skycap.services.migrations import migrate

WRITTEN = datetime.fromisoformat("2026-11-20T08:00:00")


@asynccontextmanager
async def travel_database(url: str) -> AsyncGenerator[DatabasePool]:
    """Both schemas, without a row."""
    connection = await asyncpg.connect(url)
    try:
        await migrate(connection)
        await create_travel_tables(connection)
    finally:
        await connection.close()
    pool = DatabasePool(dsn=url, size=4)
    try:
        yield pool
    finally:
        await pool.close()


async def add_user(database: DatabasePool, user_id: str = "user-1", **columns: Any) -> str:
    await _insert(database, "users", {"id": user_id, "email": f"{user_id}@example.com", "updatedAt": WRITTEN} | columns)
    return user_id


async def add_booking(database: DatabasePool, booking_id: str = "booking-1", **columns: Any) -> str:
    """A pending hotel booking of user-1 over 1,200 lira, whose payment is pending."""
    row = {
        "id": booking_id,
        "userId": "user-1",
        "bookingType": "HOTEL",
        "totalAmount": Decimal(1200),
        "paymentMethod": "CREDIT_CARD",
        "bookingReference": f"BK-{booking_id}",
        "createdAt": WRITTEN,
        "updatedAt": WRITTEN,
    }
    if "metaData" in columns:
        columns["metaData"] = json.dumps(columns["metaData"])
    await _insert(database, "bookings", row | columns)
    return booking_id


async def add_hotel(database: DatabasePool, hotel_id: str, **columns: Any) -> str:
    """One of four stars in Çeşme, for 1,000 to 2,000 lira."""
    row = {
        "id": hotel_id,
        "name": f"Hotel {hotel_id}",
        "slug": hotel_id,
        "description": "",
        "city": "Çeşme",
        "region": "İzmir",
        "address": "",
        "stars": 4,
        "rating": Decimal(4),
        "hotelType": "RESORT",
        "roomCount": 10,
        "mainImage": "",
        "priceMin": Decimal(1000),
        "priceMax": Decimal(2000),
        "updatedAt": WRITTEN,
    }
    await _insert(database, "hotels", row | columns)
    return hotel_id


async def add_room(database: DatabasePool, room_id: str, hotel_id: str, **columns: Any) -> str:
    """One for 1,000 lira a night, available."""
    row = {
        "id": room_id,
        "hotelId": hotel_id,
        "name": room_id,
        "slug": room_id,
        "description": "",
        "roomType": "STANDARD",
        "bedType": "double",
        "maxOccupancy": 2,
        "maxAdults": 2,
        "maxChildren": 0,
        "roomCount": 5,
        "pricePerNight": Decimal(1000),
        "updatedAt": WRITTEN,
    }
    await _insert(database, "hotel_rooms", row | columns)
    return room_id


async def _insert(database: DatabasePool, table: str, row: dict[str, Any]) -> None:
    names = ", ".join(f'"{name}"' for name in row)
    places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    await database.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", *row.values())  # noqa: S608 - a test's own
