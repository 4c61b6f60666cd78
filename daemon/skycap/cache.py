"""Cache: what handlers may keep for a while; shared by the fleet, and never needed: without Redis they go on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, Protocol, TypeVar, overload

T = TypeVar("T")


class Asked(NamedTuple):
    """A key, and how often it was asked for lately: about, as the count halves every hour."""

    key: str
    times: int


class Ttl:
    """How long values live: the backend's own tiers."""

    SHORT = timedelta(minutes=5)
    MEDIUM = timedelta(minutes=30)
    LONG = timedelta(hours=1)
    VERY_LONG = timedelta(days=1)
    WEEK = timedelta(weeks=1)


class Cache(Protocol):
    """Keys are ``namespace:rest`` (``hotel:cmq1``); hits and misses are counted by namespace.

    Values are JSON. With ``model``, anything pydantic can validate (a model, ``list[Offer]``), they come back as
    that; a value that does not fit it any more is a miss. No method raises when Redis is away: nothing is found,
    nothing is kept.
    """

    @overload
    async def get(self, key: str) -> Any: ...
    @overload
    async def get(self, key: str, model: type[T]) -> T | None: ...
    async def get(self, key: str, model: Any = None) -> Any:
        """The value; None when there is none."""
        ...

    async def set(self, key: str, value: object, *, ttl: timedelta = Ttl.MEDIUM, tags: Sequence[str] = ()) -> None: ...

    @overload
    async def get_or_load(
        self,
        key: str,
        load: Callable[[], Awaitable[T]],
        *,
        ttl: timedelta = Ttl.MEDIUM,
        tags: Sequence[str] = (),
        missing_ttl: timedelta | None = None,
    ) -> T: ...
    @overload
    async def get_or_load(
        self,
        key: str,
        load: Callable[[], Awaitable[T]],
        *,
        model: type[T],
        ttl: timedelta = Ttl.MEDIUM,
        tags: Sequence[str] = (),
        missing_ttl: timedelta | None = None,
    ) -> T: ...
    async def get_or_load(
        self,
        key: str,
        load: Callable[[], Awaitable[Any]],
        *,
        model: Any = None,
        ttl: timedelta = Ttl.MEDIUM,
        tags: Sequence[str] = (),
        missing_ttl: timedelta | None = None,
    ) -> Any:
        """The value, loaded by one caller of the whole fleet when there is none; the others wait for it.

        A value that is about to expire is loaded anew by one caller while the others still get the old one.
        ``missing_ttl`` is how long it is remembered that ``load`` returned None; without it, that is not kept.
        Raises what ``load`` raises.
        """
        ...

    async def delete(self, *keys: str) -> None: ...

    async def invalidate(self, *tags: str) -> None:
        """Forget everything that was kept with one of these tags."""
        ...

    async def most_asked(self, namespace: str, limit: int = 20) -> Sequence[Asked]:
        """The keys of a namespace that the fleet asks for most, first the first: what is worth loading beforehand.

        Counted within bounds (``cache.most_asked``), so that a key that is asked for rarely may count too much.
        """
        ...
