"""Stand-ins for services of the context that need a server: they do what a handler can see of the real ones."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar

from pydantic import TypeAdapter

from skycap.breaker import Breaker

T = TypeVar("T")


class KeptForOneAttempt:
    """Keeps what one attempt keeps, as JSON would bring it back."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._tagged: dict[str, set[str]] = {}

    async def get(self, key: str, model: Any = None) -> Any:
        value = self._values.get(key)
        return value if model is None or value is None else TypeAdapter(model).validate_python(value)

    async def set(self, key: str, value: object, *, tags: Sequence[str] = (), **_ttl: timedelta) -> None:
        self._values[key] = TypeAdapter(Any).dump_python(value, mode="json")
        for tag in tags:
            self._tagged.setdefault(tag, set()).add(key)

    async def get_or_load(
        self,
        key: str,
        load: Callable[[], Awaitable[Any]],
        *,
        model: Any = None,
        tags: Sequence[str] = (),
        **_ttl: timedelta | None,
    ) -> Any:
        found = await self.get(key, model)
        if found is None:
            found = await load()
            if found is not None:
                await self.set(key, found, tags=tags)
        return found

    async def delete(self, *keys: str) -> None:
        for key in keys:
            self._values.pop(key, None)

    async def invalidate(self, *tags: str) -> None:
        for tag in tags:
            await self.delete(*self._tagged.pop(tag, ()))


class ClosedBreakers:
    def __getitem__(self, name: str) -> Breaker:
        return _ClosedBreaker(name)


class _ClosedBreaker:
    """Lets everything pass, and shortens nothing."""

    def __init__(self, name: str) -> None:
        self.name = name

    @asynccontextmanager
    async def guard(self, **_timeout: timedelta | None) -> AsyncGenerator[None]:
        yield

    async def call(
        self,
        function: Callable[[], Awaitable[T]],
        *,
        fallback: Callable[[], Awaitable[T]] | None = None,
        **_timeout: timedelta | None,
    ) -> T:
        try:
            return await function()
        except Exception:
            if fallback is None:
                raise
            return await fallback()
