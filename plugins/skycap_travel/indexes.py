"""Indexes: what the backend's busiest queries, and those of these plugins, need of the backend's tables."""

from __future__ import annotations

from typing import Any

from skycap import Plugin


def declare_indexes(plugin: Plugin[Any]) -> None:
    """Those that belong to no single plugin; ``skycap db indexes`` lists and creates them."""
    plugin.index(
        "skycap_bookings_of_user",
        "bookings",
        ["userId", "createdAt DESC"],
        purpose="a user's bookings, newest first",
    )
    plugin.index(
        "skycap_latest_price",
        "price_history",
        ["entityType", "entityId", "currency", "createdAt DESC"],
        purpose="the newest price of a hotel, flight or tour in a currency",
    )
    plugin.index(
        "skycap_active_price_alerts",
        "price_alerts",
        ["entityType", "entityId ASC", "id ASC"],
        where="status = 'ACTIVE'",
        purpose="the sweep of the price alerts, page by page, and those that watch an entity",
    )
    plugin.index(
        "skycap_hotel_search",
        "hotels",
        ["city", "stars", "rating DESC"],
        where='"isActive"',
        purpose="hotels of a city with so many stars, best rating first",
    )
    plugin.index(
        "skycap_unread_notifications",
        "notifications",
        ["userId", "createdAt DESC"],
        where='NOT "isRead"',
        purpose="a user's unread notifications, newest first",
    )
    plugin.index(
        "skycap_notifications_by_age",
        "notifications",
        ["createdAt ASC"],
        purpose="old notifications, which cleanup-old-data deletes",
    )
    plugin.index(
        "skycap_users_by_address",
        "users",
        ["(lower(email))"],
        purpose="the user of an address in any case: welcome mails, skycap privacy",
    )
