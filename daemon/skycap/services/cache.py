"""CacheService: the cache that handlers reach, on Redis; without Redis they go on as if nothing were kept."""

from __future__ import annotations

import asyncio
import random
import re
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import structlog

from skycap.cache import Asked, Ttl
from skycap.context import Log
from skycap.errors import Unavailable
from skycap.services.cache_figures import CacheFigures, Event, Figures, figures_of
from skycap.services.cache_flights import Flight, Flights
from skycap.services.cache_outage import Outage
from skycap.services.cache_store import CacheStore, Kept, Look
from skycap.services.cache_values import MISSING, Shape, Unfit, document_of, packed, unpacked

T = TypeVar("T")

_log: Log = structlog.get_logger(__name__)

_KEY = re.compile(r"(?P<namespace>[a-z0-9]+(-[a-z0-9]+)*):.+", re.DOTALL)
_LONGEST_KEY = 1024
_LOOK_AGAIN = timedelta(seconds=2)
"""How long a caller waits to be told before it looks by itself, in case nobody could tell it."""
_LOADS_EARLY = 2
"""A value is loaded anew at least this many times as long before its end as its load has taken."""
_MOST_OWED = 10_000
"""Invalidations that are remembered while Redis is away."""
_COMPLAIN_EVERY_SECONDS = 60.0
_PATIENCE_OF_PEOPLE = timedelta(seconds=10)
_HALF_LIFE = timedelta(hours=1)
"""After it, a request for a key counts half: what is asked for most changes in the course of a day."""


class CacheAwayError(Exception):
    """Redis does not answer, or was not asked; never leaves this module but for ``statistics``."""


@dataclass(frozen=True, kw_only=True)
class CacheRules:
    """How the cache works, as the configuration has it."""

    enabled: bool = True
    largest_bytes: int = 1024 * 1024
    """Of a value as JSON; a larger one is not kept."""
    compress_over_bytes: int = 1024
    patience: timedelta = timedelta(seconds=1)
    """How long Redis may take to answer."""
    pause: timedelta = timedelta(seconds=1)
    """How long it is not asked after it has not answered."""
    jitter: float = 0.1
    """A value lives up to this share shorter than its ttl."""
    early: float = 0.1
    """The last share of a value's life, in which it is loaded anew; 0 never."""
    most_asked: int = 100
    """Keys of each namespace whose use is counted; 0 counts none."""


@dataclass(frozen=True, kw_only=True)
class _Terms:
    """On which a loaded value is kept."""

    ttl: timedelta
    missing_ttl: timedelta | None
    tags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Found:
    value: Any


@dataclass(frozen=True, kw_only=True)
class _Load:
    """One load: the id of the copy it makes; whether it has the lease to; the value that is still good, if any."""

    key: str
    id: str
    is_leased: bool
    flight: Flight | None
    old: _Found | None


class CacheService:
    """See skycap.cache.Cache."""

    def __init__(self, store: CacheStore, rules: CacheRules | None = None) -> None:
        self._store = store
        self._rules = rules or CacheRules()
        self._flights = Flights()
        self._outage = Outage(pause=self._rules.pause, patience=self._rules.patience)
        self._figures = CacheFigures(self._report, keys=self._rules.most_asked > 0)
        self._owed: dict[tuple[str, str], None] = {}
        self._forgotten = 0
        """How often this process has asked for something to be forgotten."""
        self._complained_at: dict[str, float] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def get(self, key: str, model: Any = None) -> Any:
        namespace, shape = _namespace(key), Shape(model)
        self._figures.asked(namespace, key)
        look = await self._look(key)
        found = await self._found(look, key, shape)
        self._count(namespace, look, found)
        return None if found is None else found.value

    async def set(self, key: str, value: object, *, ttl: timedelta = Ttl.MEDIUM, tags: Sequence[str] = ()) -> None:
        namespace, copy = _namespace(key), _new_id()
        terms = _terms(ttl, None, tags)
        document = document_of(value)
        if self._is_too_large(document, namespace):
            await self.delete(key)  # what was there is not what it is now
            return

        async def keep() -> bool:
            versions = await self._store.versions(terms.tags, copy, ttl=ttl)
            return await self._kept(key, copy, document, versions=versions, ttl=ttl, only_leased=False)

        try:
            await self._reach(keep)
        except CacheAwayError:
            self._figures.count(namespace, Event.ERROR)
            self._owe([("key", key)])

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
        namespace, shape, terms = _namespace(key), Shape(model), _terms(ttl, missing_ttl, tags)
        self._figures.asked(namespace, key)
        unfit: str | None = None
        is_counted = False
        while True:
            loader = _new_id()
            look = await self._look(key, loader=loader, unfit=unfit)
            found = await self._found(look, key, shape)
            if not is_counted:
                self._count(namespace, look, found)
                is_counted = True
            if look is not None and look.is_to_load:
                flight = None if found else self._flights.begin(key)
                return await self._loaded(
                    _Load(key=key, id=loader, is_leased=True, flight=flight, old=found), load, shape, terms
                )
            if found is not None:
                return found.value
            if look is not None and look.kept is not None:
                unfit = look.kept.id
                continue
            under_way = self._flights.of(key)
            if under_way is not None and (look is not None or under_way.is_load):
                document = await under_way.landed()
                if document is not None:
                    return shape.read(document)
            elif look is None:
                flight = self._flights.begin(key)
                return await self._loaded(
                    _Load(key=key, id=loader, is_leased=False, flight=flight, old=None), load, shape, terms
                )
            else:
                await self._told(key, look.wait)

    async def delete(self, *keys: str) -> None:
        for key in keys:
            _namespace(key)
        await self._forget([("key", key) for key in keys])

    async def invalidate(self, *tags: str) -> None:
        await self._forget([("tag", tag) for tag in _checked_tags(tags)])

    async def most_asked(self, namespace: str, limit: int = 20) -> Sequence[Asked]:
        await self._report()
        try:
            return await self._reach(lambda: self._store.most_asked(namespace, limit))
        except CacheAwayError:
            return []

    async def fleet_figures(self) -> dict[str, Figures] | None:
        """Those of all daemons, by namespace; None when Redis is away."""
        await self._report()
        try:
            return figures_of(await self._reach(self._store.figures))
        except CacheAwayError:
            return None

    async def figures_now(self) -> dict[str, Figures]:
        """As ``fleet_figures``, for a person who waits; raises Unavailable."""
        return figures_of(await self._asked_for_a_person(self._store.figures))

    async def delete_now(self, *keys: str) -> None:
        """As ``delete``, for a person who must know whether it was done; raises Unavailable."""
        for key in keys:
            _namespace(key)
        await self._asked_for_a_person(lambda: self._pay([("key", key) for key in keys]))

    async def invalidate_now(self, *tags: str) -> None:
        """As ``invalidate``, and as ``delete_now``."""
        whats = [("tag", tag) for tag in _checked_tags(tags)]
        await self._asked_for_a_person(lambda: self._pay(whats))

    def own_figures(self) -> dict[str, Figures]:
        """Those of this process since it began, by namespace."""
        return self._figures.by_namespace()

    async def close(self) -> None:
        """Bring the last figures to Redis."""
        await self._figures.close()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _look(self, key: str, *, loader: str = "", unfit: str | None = None) -> Look | None:
        """None when Redis is away."""
        try:
            return await self._reach(lambda: self._store.look(key, loader=loader, unfit=unfit))
        except CacheAwayError:
            return None

    async def _found(self, look: Look | None, key: str, shape: Shape) -> _Found | None:
        """The value, if there is one that holds and fits."""
        if look is None or look.kept is None:
            return None
        kept = look.kept
        if kept.tags and not self._store.looks_at_tags and not await self._holds(kept):
            return None
        try:
            return _Found(value=shape.read(unpacked(json=kept.json, compressed=kept.compressed)))
        except Unfit as error:
            self._complain(key, "a value in the cache does not fit, and is a miss", problem=str(error))
            return None

    async def _holds(self, kept: Kept) -> bool:
        try:
            return await self._reach(lambda: self._store.hold(kept.tags))
        except CacheAwayError:
            return False

    async def _told(self, key: str, left: timedelta) -> None:
        """Wait for a load in another process to end, for all callers in this one."""
        flight = self._flights.begin(key, is_load=False)
        try:
            await self._store.told(key, within=max(timedelta(milliseconds=10), min(left, _LOOK_AGAIN)))
        finally:
            flight.land()

    async def _loaded(self, work: _Load, load: Callable[[], Awaitable[Any]], shape: Shape, terms: _Terms) -> Any:
        """What ``load`` returns, as everybody will get it, kept if it may be; raises what it raises."""
        namespace, forgotten = _namespace(work.key), self._forgotten
        shared: bytes | None = None
        failure: Exception | None = None
        try:
            versions = await self._versions(work, terms)
            began = time.monotonic()
            async with self._renewed(work):
                self._figures.count(namespace, Event.LOAD)
                document = document_of(await load())
            took = timedelta(seconds=time.monotonic() - began)
            value = _read(shape, document, work.key)
            if await self._landed(work, document, versions, terms, took) and forgotten == self._forgotten:
                shared = document
        except Exception as error:
            failure = error
            await self._give_up(work)
            if work.old is None:
                raise
            _log.warning(
                "a value was not loaded anew; the old one holds until it expires",
                namespace=namespace,
                error=type(error).__name__,
            )
            return work.old.value
        except BaseException:
            self._in_background(self._give_up(work))  # whoever loads is cancelled, and awaits nothing any more
            raise
        else:
            return value
        finally:
            if work.flight is not None:
                work.flight.land(shared, failure)

    async def _versions(self, work: _Load, terms: _Terms) -> Mapping[str, str] | None:
        """Of the tags, before the load begins; None when it cannot be kept."""
        if not work.is_leased:
            return None
        if not terms.tags:
            return {}
        try:
            return await self._reach(lambda: self._store.versions(terms.tags, work.id, ttl=terms.ttl))
        except CacheAwayError:
            return None

    async def _landed(
        self,
        work: _Load,
        document: bytes,
        versions: Mapping[str, str] | None,
        terms: _Terms,
        took: timedelta,
    ) -> bool:
        """Keep what was loaded. Whether those who have waited may have it: nothing of it was forgotten meanwhile."""
        if versions is None:
            return True
        ttl = terms.missing_ttl if document == MISSING else terms.ttl

        async def keep() -> bool:
            if ttl is None or self._is_too_large(document, _namespace(work.key)):
                if work.old is not None:
                    await self._store.forget(work.key)  # it is not what it was
                    return True
                is_good = await self._store.give_up(work.key, work.id)
            else:
                is_good = await self._kept(work.key, work.id, document, versions=versions, ttl=ttl, took=took)
            if is_good and versions and work.flight is not None and work.flight.is_awaited:
                return await self._store.hold(versions)
            return is_good

        try:
            return await self._reach(keep)
        except CacheAwayError:
            self._figures.count(_namespace(work.key), Event.ERROR)
            return True

    async def _kept(
        self,
        key: str,
        copy: str,
        document: bytes,
        *,
        versions: Mapping[str, str],
        ttl: timedelta,
        took: timedelta = timedelta(0),
        only_leased: bool = True,
    ) -> bool:
        rules = self._rules
        # Not all that was kept together ends together. Never longer than was asked for.
        life = ttl * random.uniform(1 - rules.jitter, 1)  # noqa: S311 - nothing is secured by it
        early = min(max(life * rules.early, took * _LOADS_EARLY), life / 2) if rules.early else timedelta(0)
        return await self._store.keep(
            key,
            copy,
            packed(document, compress_over_bytes=rules.compress_over_bytes),
            ttl=life,
            early=early,
            tags=versions,
            only_leased=only_leased,
        )

    @asynccontextmanager
    async def _renewed(self, work: _Load) -> AsyncGenerator[None]:
        """Say that the load goes on, as long as it does."""
        renewing = asyncio.create_task(self._renew(work), name="skycap cache lease") if work.is_leased else None
        try:
            yield
        finally:
            if renewing is not None:
                renewing.cancel()

    async def _renew(self, work: _Load) -> None:
        is_ours = True
        while is_ours:
            await asyncio.sleep(self._store.lease.total_seconds() / 3)
            try:
                is_ours = await self._reach(lambda: self._store.renew(work.key, work.id))
            except CacheAwayError:
                continue

    async def _give_up(self, work: _Load) -> None:
        """Let another caller load at once."""
        if work.is_leased:
            with suppress(CacheAwayError):  # the lease ends by itself
                await self._reach(lambda: self._store.give_up(work.key, work.id))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="skycap cache")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forget(self, whats: Sequence[tuple[str, str]]) -> None:
        """Keys and tags; when Redis is away, once it is back, before this process reads anything."""
        self._forgotten += 1
        if not whats or not self._rules.enabled:
            return
        try:
            await self._reach(lambda: self._pay(whats))
        except CacheAwayError:
            for what in whats:
                if what[0] == "key":
                    self._figures.count(_namespace(what[1]), Event.ERROR)
            self._owe(whats)
        finally:
            self._forgotten += 1

    def _owe(self, whats: Sequence[tuple[str, str]]) -> None:
        """Forget these before this process reads from Redis again."""
        for what in whats:
            if self._rules.enabled and len(self._owed) < _MOST_OWED:
                self._owed[what] = None

    async def _pay(self, whats: Sequence[tuple[str, str]]) -> None:
        await asyncio.gather(
            *(self._store.forget(name) if kind == "key" else self._store.void(name) for kind, name in whats)
        )

    async def _reach(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What Redis answers; raises CacheAwayError when it does not, or has not lately."""
        if not self._rules.enabled or not self._outage.lets_through():
            raise CacheAwayError
        is_trial = self._outage.is_on
        try:
            async with asyncio.timeout(self._rules.patience.total_seconds()):
                if is_trial:
                    await self._pay_what_is_owed()
                answer = await ask()
        except TimeoutError as error:
            self._outage.began(f"no answer within {self._rules.patience.total_seconds():g} s")
            raise CacheAwayError from error
        except Unavailable as error:
            if error.problem.startswith("OOM"):
                self._complain("", "the cache's memory is full; nothing more is kept", problem=error.problem)
            else:
                self._outage.began(error.problem)
            raise CacheAwayError from error
        except Exception as error:  # a cache is never the reason why a handler fails
            self._complain("", "the cache was refused", problem=f"{type(error).__name__}: {error}"[:200])
            raise CacheAwayError from error
        if is_trial:
            self._outage.ended()
        return answer

    async def _asked_for_a_person(self, ask: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(_PATIENCE_OF_PEOPLE.total_seconds()):
                return await ask()
        except TimeoutError as error:
            raise Unavailable("redis", f"no answer within {_PATIENCE_OF_PEOPLE.total_seconds():g} s") from error

    async def _pay_what_is_owed(self) -> None:
        owed, self._owed = self._owed, {}
        try:
            await self._pay(tuple(owed))
        except BaseException:
            self._owed = owed | self._owed
            raise

    async def _report(self) -> None:
        """Bring what was counted to Redis; when it is away, with the next report."""
        figures = self._figures.unsent()
        if not figures:
            return
        try:
            await self._reach(lambda: self._store.add_figures(figures))
            self._figures.sent(figures)
            most = self._rules.most_asked
            for namespace, asked in self._figures.take_asked(most).items():
                add = partial(self._store.add_asked, namespace, asked, most=most, half_life=_HALF_LIFE)
                await self._reach(add)
        except CacheAwayError:
            return

    def _count(self, namespace: str, look: Look | None, found: _Found | None) -> None:
        event = Event.ERROR if look is None else Event.MISS if found is None else Event.HIT
        if self._rules.enabled:
            self._figures.count(namespace, event)

    def _is_too_large(self, document: bytes, namespace: str) -> bool:
        largest = self._rules.largest_bytes
        if len(document) <= largest:
            return False
        self._complain(
            f"{namespace}:",
            "a value is too large for the cache, and is not kept; keep less of it, or set cache.largest_bytes",
            bytes=len(document),
            largest_bytes=largest,
        )
        return True

    def _complain(self, key: str, event: str, **fields: object) -> None:
        """At most once a minute about the same in a namespace; its keys may be about people."""
        namespace = key.partition(":")[0]
        about, now = f"{namespace} {event}", time.monotonic()
        if now - self._complained_at.get(about, -_COMPLAIN_EVERY_SECONDS) >= _COMPLAIN_EVERY_SECONDS:
            self._complained_at[about] = now
            _log.warning(event, **({"namespace": namespace} if namespace else {}), **fields)


def _namespace(key: str) -> str:
    """Raises ValueError for what is no key."""
    match = _KEY.fullmatch(key)
    if match is None or len(key) > _LONGEST_KEY:
        raise ValueError(
            f"cache key {key[:100]!r}: write namespace:rest, the namespace in a-z, 0-9 and hyphens, "
            f"at most {_LONGEST_KEY} characters in all; hash what is longer"
        )
    return match["namespace"]


def _checked_tags(tags: Sequence[str]) -> tuple[str, ...]:
    if isinstance(tags, str):
        raise TypeError(f"cache tags {tags!r}: give several, as in tags=[{tags!r}]")
    for tag in tags:
        if not tag or len(tag) > _LONGEST_KEY or tag.startswith("}"):
            raise ValueError(f"cache tag {tag[:100]!r}: give 1 to {_LONGEST_KEY} characters, the first of them no }}")
    return tuple(dict.fromkeys(tags))


def _terms(ttl: timedelta, missing_ttl: timedelta | None, tags: Sequence[str]) -> _Terms:
    for name, duration in (("ttl", ttl), ("missing_ttl", missing_ttl)):
        if duration is not None and duration <= timedelta(0):
            raise ValueError(f"cache {name} {duration}: give more than no time; delete() forgets a key")
    return _Terms(ttl=ttl, missing_ttl=missing_ttl, tags=_checked_tags(tags))


def _read(shape: Shape, document: bytes, key: str) -> Any:
    try:
        return shape.read(document)
    except Unfit as error:
        raise TypeError(
            f"what was loaded for {_namespace(key)} in the cache does not fit the model: {error}"
        ) from error


def _new_id() -> str:
    return secrets.token_hex(8)
