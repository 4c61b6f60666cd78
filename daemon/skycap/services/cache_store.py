"""CacheStore: the cache's keys in Redis, and what its scripts are asked and answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, cast

from skycap.cache import Asked
from skycap.errors import Unavailable
from skycap.services.cache_values import Packed

_MILLISECOND = timedelta(milliseconds=1)
_MOST_WAITS = 16
"""Callers of one process that wait in Redis at once. A link allows 50, among them its workers' doorbells."""
_GRACE = timedelta(milliseconds=500)
"""For a turn to wait, and for an answer to arrive."""
_PAUSE_SECONDS = 0.1
"""After a wait that failed at once, so that it is not repeated without end."""
_TAGS_OUTLIVE = timedelta(hours=1)
"""How much longer than its values a tag's version lives: a load may take a while before they are kept."""


class CacheLink(Protocol):
    """What the cache asks of its way to Redis; raises Unavailable."""

    @property
    def spans_queues(self) -> bool: ...
    async def call(self, name: str, prefix: str, *arguments: str | bytes | float) -> Any: ...
    async def command(self, *words: str | bytes | float) -> Any: ...
    async def pipeline(self, commands: Sequence[tuple[str | bytes | float, ...]]) -> list[Any]: ...
    async def blocking(self, *words: str | bytes | float, timeout: timedelta) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A copy of a value; ``tags`` are the keys of their versions, and the versions that it holds under."""

    id: str
    json: bytes | None
    compressed: bytes | None
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was found. Who ``is_to_load`` has the lease to; otherwise, with nothing ``kept``, somebody else does,
    and will have to for ``wait`` at least.
    """

    kept: Kept | None
    is_to_load: bool
    wait: timedelta


class CacheStore:
    """Every method raises Unavailable; every one may be called twice.

    Who loads a value has ``lease`` to say that it still does; then another caller may.
    """

    def __init__(self, link: CacheLink, *, prefix: str, lease: timedelta) -> None:
        self.lease = lease
        self._link = link
        self._prefix = prefix
        self._lease_ms = round(lease / _MILLISECOND)
        self._turns = asyncio.Semaphore(_MOST_WAITS)

    @property
    def looks_at_tags(self) -> bool:
        """Whether ``look`` finds only what its tags allow. In a cluster, they lie on other servers than the value."""
        return self._link.spans_queues

    async def look(self, key: str, *, loader: str = "", unfit: str | None = None) -> Look:
        """What is kept, but for the copy ``unfit``; with ``loader``, the caller's id, it may get the lease to load."""
        is_to_load, wait_ms, *kept = await self._link.call(
            "cache_look",
            self._value(key),
            loader,
            self._lease_ms,
            "-" if unfit is None else unfit,
            int(self.looks_at_tags),
        )
        return Look(
            kept=_kept(*kept) if kept else None,
            is_to_load=bool(is_to_load),
            wait=max(0, wait_ms) * _MILLISECOND,
        )

    async def keep(
        self,
        key: str,
        copy: str,
        value: Packed,
        *,
        ttl: timedelta,
        early: timedelta,
        tags: Mapping[str, str],
        only_leased: bool,
    ) -> bool:
        """Keep a copy under its id. ``only_leased``: False, and nothing kept, when the lease of that id is over."""
        words = [word for pair in tags.items() for word in pair]
        done = await self._link.call(
            "cache_keep",
            self._value(key),
            copy,
            int(only_leased),
            max(1, round(ttl / _MILLISECOND)),
            round(early / _MILLISECOND),
            value.field,
            value.content,
            json.dumps(words) if words else "",
        )
        return bool(done)

    async def renew(self, key: str, loader: str) -> bool:
        return bool(await self._link.call("cache_lease", self._value(key), loader, self._lease_ms))

    async def give_up(self, key: str, loader: str) -> bool:
        """End a lease without a value, and let another caller load. False when it was over already."""
        return bool(await self._link.call("cache_lease", self._value(key), loader, 0))

    async def told(self, key: str, *, within: timedelta) -> None:
        """Return when a load has ended, or after ``within``, or when it is unknown: then look again."""
        told = f"{self._value(key)}:told"
        try:
            async with asyncio.timeout((within + _GRACE).total_seconds()), self._turns:
                await self._link.blocking("BLMOVE", told, told, "LEFT", "LEFT", within.total_seconds(), timeout=within)
        except TimeoutError:
            pass
        except Unavailable:
            await asyncio.sleep(_PAUSE_SECONDS)

    async def forget(self, key: str) -> None:
        """Also what is being loaded."""
        await self._link.call("cache_forget", self._value(key))

    async def void(self, tag: str) -> None:
        """Every value under this tag, also what is being loaded."""
        await self._link.command("DEL", self._tag(tag))

    async def versions(self, tags: Sequence[str], fresh: str, *, ttl: timedelta) -> dict[str, str]:
        """Where the versions of these tags lie, and which they are, ``fresh`` for those that had none.

        They outlive values that are kept for ``ttl``.
        """
        life_ms = round((ttl + _TAGS_OUTLIVE) / _MILLISECOND)

        async def version(place: str) -> str:
            found, _ = await self._link.pipeline(
                [("SET", place, fresh, "NX", "GET", "PX", life_ms), ("PEXPIRE", place, life_ms, "GT")]
            )
            return fresh if found is None else bytes(found).decode()

        places = [self._tag(tag) for tag in tags]
        return dict(zip(places, await asyncio.gather(*map(version, places)), strict=True))

    async def hold(self, versions: Mapping[str, str]) -> bool:
        """Whether they are still these."""
        found = await asyncio.gather(*(self._link.command("GET", place) for place in versions))
        return all(each == version.encode() for each, version in zip(found, versions.values(), strict=True))

    async def add_figures(self, figures: Mapping[str, int]) -> None:
        """Add to the fleet's counts."""
        place = self._figures
        await self._link.pipeline([("HINCRBY", place, name, number) for name, number in figures.items()])

    async def figures(self) -> dict[str, int]:
        """The fleet's counts."""
        reply = await self._link.command("HGETALL", self._figures)
        return {name.decode(): int(number) for name, number in _pairs(reply)}

    async def add_asked(
        self, namespace: str, asked: Sequence[tuple[str, int]], *, most: int, half_life: timedelta
    ) -> None:
        words = [word for pair in asked for word in pair]
        await self._link.call("cache_asked", self._asked(namespace), most, round(half_life / _MILLISECOND), *words)

    async def most_asked(self, namespace: str, limit: int) -> list[Asked]:
        reply = await self._link.command("ZRANGE", self._asked(namespace), 0, limit - 1, "REV", "WITHSCORES")
        return [Asked(key=key.decode(), times=round(float(times))) for key, times in _pairs(reply)]

    def _value(self, key: str) -> str:
        return f"{self._prefix}{{{key}}}"

    def _tag(self, tag: str) -> str:
        return f"{self._prefix}tag:{{{tag}}}"

    def _asked(self, namespace: str) -> str:
        return f"{self._prefix}asked:{{{namespace}}}"

    @property
    def _figures(self) -> str:
        return f"{self._prefix}{{figures}}"


def _kept(copy: bytes, plain: bytes | None, compressed: bytes | None, tags: bytes | None = None) -> Kept:
    words: list[str] = json.loads(tags) if tags else []
    return Kept(
        id=copy.decode(),
        json=plain,
        compressed=compressed,
        tags=dict(zip(words[::2], words[1::2], strict=True)),
    )


def _pairs(reply: Any) -> list[tuple[bytes, Any]]:
    """RESP3 answers with a map or a list of pairs, RESP2 with a flat list."""
    if isinstance(reply, Mapping):
        return list(cast("Mapping[bytes, Any]", reply).items())
    words = cast("list[Any]", reply)
    if words and isinstance(words[0], list):
        return [(name, value) for name, value in words]
    return list(zip(words[::2], words[1::2], strict=True))
