"""Stand-ins for services of the context that need a server: they do what a handler can see of the real ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar

from pydantic import TypeAdapter

from skycap.breaker import Breaker
from skycap.cache import Asked

T = TypeVar("T")


class KeptForOneAttempt:
    """Keeps what one attempt keeps, as JSON would bring it back."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._tagged: dict[str, set[str]] = {}
        self._asked: Counter[str] = Counter()

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
        self._asked[key] += 1
        if await self.get(key, model) is None:
            loaded = await load()
            if loaded is None:
                return None
            await self.set(key, loaded, tags=tags)
        return await self.get(key, model)

    async def delete(self, *keys: str) -> None:
        for key in keys:
            self._values.pop(key, None)

    async def invalidate(self, *tags: str) -> None:
        for tag in tags:
            await self.delete(*self._tagged.pop(tag, ()))

    async def most_asked(self, namespace: str, limit: int = 20) -> Sequence[Asked]:
        asked = [Asked(key, times) for key, times in self._asked.most_common() if key.startswith(f"{namespace}:")]
        return asked[:limit]


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
