"""Upkeep: keeps the backend's tables small, its indexes known, and its cache warm."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from skycap import Context, Plugin
from skycap_travel.cleanup import CleanupRule, Pace, clean
from skycap_travel.hotel_searches import TAG, HotelSearch, load
from skycap_travel.indexes import declare_indexes
from skycap_travel.payloads.upkeep import CleanupOldData, WarmCache

__all__ = ["CleanupOldData", "UpkeepSettings", "WarmCache", "cleanup_old_data", "plugin", "warm_cache"]

Days = Annotated[float, Field(ge=0, le=36_500)]


class UpkeepSettings(BaseModel):
    """``[plugins.upkeep]``. Notifications are kept for so many days after they were made, read or not; 0 = for ever.

    ``cleanup`` has further rules, by a name of your own. A rule deletes at most ``cleanup_most`` rows a night,
    ``cleanup_batch`` at a time, with a pause after each.

    The hotel searches of ``hot_hotel_searches`` are kept in the cache, and the ``most_asked_searches`` that were asked
    of it most of late.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    read_notifications_days: Days = 90
    notifications_days: Days = 365
    cleanup: dict[str, CleanupRule] = {}
    cleanup_batch: Annotated[int, Field(ge=1, le=10_000)] = 1000
    cleanup_pause_ms: Annotated[float, Field(ge=0, le=60_000)] = 100
    cleanup_most: Annotated[int, Field(ge=1, le=100_000_000)] = 1_000_000
    hot_hotel_searches: tuple[HotelSearch, ...] = ()
    most_asked_searches: Annotated[int, Field(ge=0, le=100)] = 20
    hotels_per_search: Annotated[int, Field(ge=1, le=1000)] = 50


plugin = Plugin("upkeep", settings=UpkeepSettings)

declare_indexes(plugin)
plugin.schedule("0 2 * * *", CleanupOldData())
plugin.schedule("*/30 * * * *", WarmCache())

_said: set[str] = set()
"""What is off, and was said; a daemon says it once."""


@plugin.job(timeout=timedelta(hours=4))
async def cleanup_old_data(ctx: Context[UpkeepSettings], payload: CleanupOldData) -> dict[str, Any]:
    rules = dict(_rules(ctx.settings))
    pace = Pace(
        batch=ctx.settings.cleanup_batch,
        pause=timedelta(milliseconds=ctx.settings.cleanup_pause_ms),
        most=ctx.settings.cleanup_most,
    )
    done: dict[str, Any] = {}
    for number, (name, rule) in enumerate(rules.items(), 1):
        cleaned = await clean(ctx.db, rule, ctx.now(), pace)
        if cleaned.off is not None and name not in _said:
            _said.add(name)
            ctx.log.warning("this cleanup is off", rule=name, reason=cleaned.off)
        done[name] = cleaned.document()
        await ctx.progress(number / len(rules), name)
    return done


@plugin.job(timeout=timedelta(minutes=10), tables=("hotels",))
async def warm_cache(ctx: Context[UpkeepSettings], payload: WarmCache) -> dict[str, int]:
    most = ctx.settings.hotels_per_search
    return {search.key: await load(ctx.db, ctx.cache, search, most=most) for search in await _hot_searches(ctx)}


async def _hot_searches(ctx: Context[UpkeepSettings]) -> list[HotelSearch]:
    """Each once."""
    most = ctx.settings.most_asked_searches
    asked = await ctx.cache.most_asked(TAG, most) if most else ()
    found = [search for each in asked if (search := HotelSearch.of_key(each.key)) is not None]
    return list(dict.fromkeys((*ctx.settings.hot_hotel_searches, *found)))


def _rules(settings: UpkeepSettings) -> Iterator[tuple[str, CleanupRule]]:
    if settings.read_notifications_days:
        days = settings.read_notifications_days
        only: dict[str, str | bool | int] = {"isRead": True}
        yield (
            "read-notifications",
            CleanupRule(table="notifications", column="createdAt", older_than_days=days, only=only),
        )
    if settings.notifications_days:
        days = settings.notifications_days
        yield "notifications", CleanupRule(table="notifications", column="createdAt", older_than_days=days)
    yield from settings.cleanup.items()
