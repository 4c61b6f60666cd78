"""Providers: partners that know what hotels, flights and tours cost now.

A module of a plugin registers its own when it is loaded: ``register(Acme())``; plugins/examples/prices.py is one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Protocol

from skycap import Context, Discard
from skycap_travel.payloads.price_alerts import EntityType

MOST_IDS: Final = 200
"""As many entities as a provider is asked for at once; what it answers is held in memory."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_CURRENCY = re.compile(r"[A-Z]{3}")
_MOST_DIGITS: Final = 35  # before the point of a DECIMAL(65,30)


@dataclass(frozen=True, kw_only=True)
class PriceQuote:
    """What something costs at the provider now. Moments are aware; those that do not apply to it are None."""

    entity_id: str
    price: Decimal
    currency: str
    check_in: datetime | None = None
    check_out: datetime | None = None
    travel_date: datetime | None = None
    metadata: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True, kw_only=True)
class RoomOffer:
    """What the provider says of one room; None for what it does not say."""

    room_id: str
    price_per_night: Decimal | None = None
    is_available: bool | None = None


@dataclass(frozen=True, kw_only=True)
class HotelOffer:
    """What the provider says of one hotel; all its amounts, and those of its rooms, are in ``currency``."""

    hotel_id: str
    currency: str
    price_min: Decimal | None = None
    price_max: Decimal | None = None
    rooms: tuple[RoomOffer, ...] = ()


class Provider(Protocol):
    """A partner. Its ids are the backend's: a provider translates its own.

    It raises what ``ctx.http`` raises (Unavailable, RateLimited, PartnerRefused), and says nothing of what it does not
    know. It is asked for ``MOST_IDS`` at most at once.
    """

    @property
    def name(self) -> str:
        """Lower-case words joined by hyphens; what payloads call it."""
        ...

    @property
    def breaker(self) -> str | None:
        """The breaker around each call of a method; None when ``ctx.http`` has it already, or nothing is called."""
        ...

    async def prices(
        self, ctx: Context[Any], entity_type: EntityType, entity_ids: Sequence[str]
    ) -> Sequence[PriceQuote]: ...

    async def hotels(
        self, ctx: Context[Any], hotel_ids: Sequence[str], *, since: datetime | None
    ) -> Sequence[HotelOffer]:
        """``since`` asks for those alone that have changed; a provider that cannot tell answers with all."""
        ...


_registered: dict[str, Provider] = {}


def register(provider: Provider) -> None:
    """Make ``provider`` known to the jobs that ask one. Raises TypeError for a name that is none, or taken."""
    name = provider.name
    if not _NAME.fullmatch(name):
        raise TypeError(f"provider name {name!r}: write lower-case words joined by hyphens, like 'booking-com'")
    if _origin(_registered.get(name, provider)) != _origin(provider):
        raise TypeError(f"there is a provider {name!r} already, {_origin(_registered[name])}")
    _registered[name] = provider


def _origin(provider: Provider) -> str:
    """Not the class itself: a module that is loaded again brings a new one of the same name."""
    return f"{type(provider).__module__}.{type(provider).__qualname__}"


def provider_called(name: str) -> Provider:
    """Raises Discard, which names those that there are."""
    if name not in _registered:
        known = ", ".join(sorted(_registered)) or "none"
        raise Discard(
            f"there is no provider {name!r}; those of the installed plugins: {known}. Install its plugin, "
            "then retry this job"
        )
    return _registered[name]


def guarded(ctx: Context[Any], provider: Provider) -> AbstractAsyncContextManager[None]:
    """Around one call of a method of ``provider``: its breaker, if it has one."""
    return nullcontext() if provider.breaker is None else ctx.breakers[provider.breaker].guard()


def is_price(amount: Decimal | None) -> bool:
    """Whether it can be a price: positive, and as much as the backend's columns hold."""
    return amount is not None and amount.is_finite() and amount > 0 and amount.adjusted() < _MOST_DIGITS


def is_currency(code: str) -> bool:
    return _CURRENCY.fullmatch(code) is not None
