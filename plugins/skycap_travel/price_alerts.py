"""Price alerts: writes to a guest when the price they watch has fallen, and stops when they say so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict

from skycap import Cancel, Context, Discard, Plugin, Sample, UnsubscribeContext
from skycap_travel.metadata.moments import ZoneName
from skycap_travel.payloads.price_alerts import EntityType, SendPriceAlert
from skycap_travel.rows import PRICE_ALERT_OF_USER, STOP_PRICE_ALERT, PriceAlertRow, stored
from skycap_travel.templates import TEMPLATES

__all__ = [
    "EntityType",
    "PriceAlertsSettings",
    "PriceChange",
    "SendPriceAlert",
    "plugin",
    "send_price_alert",
    "stop_price_alert",
]

MAX_AGE = timedelta(hours=2)
"""A price that is older than this is no news: a mail that the server puts off for so long is given up."""

_SENT_STATUSES = {"ACTIVE", "TRIGGERED"}
_DOT_SEGMENTS = {".", ".."}


def _link_pattern(url: str) -> str:
    address = urlsplit(url)
    is_address = address.scheme == "https" and address.netloc and url.isascii() and not re.search(r"[\s\x00-\x1f]", url)
    if not is_address or re.findall(r"\{id\}|[{}]", url) != ["{id}"] or "{" in address.netloc:
        raise ValueError("write an address like https://www.example.com/hotels/{id}")
    return url


LinkPattern = Annotated[str, AfterValidator(_link_pattern)]


class PriceAlertsSettings(BaseModel):
    """``[plugins.price-alerts]``. Where the mail's link leads for each type of entity; without one there is no link.

    ``time_zone`` is the one in which the last day of an alert is reckoned.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hotel_url: LinkPattern | None = None
    flight_url: LinkPattern | None = None
    tour_url: LinkPattern | None = None
    time_zone: ZoneName = "Europe/Istanbul"


plugin = Plugin("price-alerts", settings=PriceAlertsSettings, templates=TEMPLATES)


@plugin.job(breakers=("email",))
async def send_price_alert(ctx: Context[PriceAlertsSettings], payload: SendPriceAlert) -> dict[str, str]:
    record = await ctx.db.fresh.fetchrow(PRICE_ALERT_OF_USER, payload.alert_id, payload.user_id)
    if record is None:
        raise Discard(f"price alert {payload.alert_id} does not exist or is not user {payload.user_id}'s")
    alert = PriceAlertRow.from_record(record)
    if (alert.entity_type, alert.entity_id) != (payload.entity_type, payload.entity_id):
        raise Discard(f"price alert {payload.alert_id} is not about {payload.entity_type} {payload.entity_id}")
    change = PriceChange.of(payload.old_price, payload.new_price, target=alert.target_price)
    if reason := _no_need(alert, change, ctx.now()):
        raise Cancel(f"price alert {payload.alert_id}: {reason}")
    message_id = await ctx.mailer.send(
        alert.email,
        "price_alerts/drop",
        key=f"price-alert:{payload.alert_id}:{_plain(payload.new_price)}",
        locale=alert.language,
        on_unknown="hold",
        max_age=MAX_AGE,
        unsubscribe={"alert": payload.alert_id, "user": payload.user_id},
        alert=alert,
        change=change,
        url=_link(ctx.settings, payload),
        last_day=_last_day(alert.expires_at, ZoneInfo(ctx.settings.time_zone)),
    )
    return {"messageId": message_id}


@plugin.unsubscribe()
async def stop_price_alert(ctx: UnsubscribeContext[PriceAlertsSettings], who: Mapping[str, str]) -> None:
    now = stored(ctx.now())
    await ctx.db.execute(STOP_PRICE_ALERT, who["alert"], who["user"], now)
    ctx.log.info("price alert stopped by its guest", alert=who["alert"])


@plugin.samples
def samples() -> Iterable[Sample]:
    from skycap_travel import samples

    return samples.price_alerts()


@dataclass(frozen=True, kw_only=True)
class PriceChange:
    """What the mail says of two prices; ``percent`` is how far the price has fallen, None when it has not.

    A price at or below the target is news even when it has risen: then the mail tells of the target, and not of a drop.
    """

    old: Decimal
    new: Decimal
    percent: Decimal | None
    has_fallen: bool
    is_target_reached: bool

    @classmethod
    def of(cls, old: Decimal, new: Decimal, *, target: Decimal) -> PriceChange:
        return cls(old=old, new=new, percent=_fall(old, new), has_fallen=new < old, is_target_reached=new <= target)


def _fall(old: Decimal, new: Decimal) -> Decimal | None:
    """Percent to one decimal, half up; None for less than that, and never 100 while something is to be paid."""
    if new >= old:
        return None
    percent = (100 * (old - new) / old).quantize(Decimal("0.1"), ROUND_HALF_UP)
    return min(percent, Decimal("99.9") if new else Decimal(100)) or None


def _last_day(expires_at: datetime | None, zone: ZoneInfo) -> date | None:
    """The last day in ``zone`` on which the alert is valid: the day before, when it ends at midnight."""
    return None if expires_at is None else (expires_at - timedelta(microseconds=1)).astimezone(zone).date()


def _no_need(alert: PriceAlertRow, change: PriceChange, now: datetime) -> str | None:
    if alert.status not in _SENT_STATUSES:
        return f"its status is {alert.status}"
    if alert.expires_at is not None and alert.expires_at <= now:
        return f"it expired at {alert.expires_at:%Y-%m-%d %H:%M} UTC"
    if "EMAIL" not in alert.notification_methods:
        return "its guest does not want it by mail"
    if not alert.is_user_active:
        return "its guest's account is not active"
    if not change.has_fallen and not change.is_target_reached:
        return "the price has not fallen and is above the target, so there is nothing to tell"
    return None


def _link(settings: PriceAlertsSettings, payload: SendPriceAlert) -> str | None:
    patterns = {
        EntityType.HOTEL: settings.hotel_url,
        EntityType.FLIGHT: settings.flight_url,
        EntityType.TOUR: settings.tour_url,
    }
    pattern = patterns[payload.entity_type]
    # Quoting leaves dots, and a browser takes such a part of a path for the folder above.
    if pattern is None or payload.entity_id in _DOT_SEGMENTS:
        return None
    return pattern.replace("{id}", quote(payload.entity_id, safe=""))


def _plain(amount: Decimal) -> str:
    """The same text for 1234.1 and 1234.10."""
    whole, _, fraction = f"{amount:f}".partition(".")
    fraction = fraction.rstrip("0")
    return f"{whole.lstrip('0') or '0'}{'.' if fraction else ''}{fraction}"
