"""``skycap cache``: how much it helps, and how to have it forget."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skycap.cache import Asked
from skycap.cli.audited import audited
from skycap.cli.failures import told_address
from skycap.cli.installation import settings_of
from skycap.cli.options import config_option
from skycap.cli.output import answer, json_option, print_json, print_table
from skycap.cli.progress import working
from skycap.errors import ConfigurationError

if TYPE_CHECKING:
    from skycap.services.cache import CacheService
    from skycap.services.cache_figures import Figures
    from skycap.settings import Settings


_KEYS_SHOWN = 5
_ALL = "all"


@click.group
def cache() -> None:
    """Show what the cache does for the fleet, and have it forget."""


@cache.command
@click.option("--namespace", help="Only this one, as hotel-search.")
@click.option(
    "--keys", default=_KEYS_SHOWN, show_default=True, metavar="N", type=click.IntRange(0), help="Keys to show."
)
@config_option
@json_option
def stats(namespace: str | None, keys: int, config: Path | None, as_json: bool) -> None:
    """Show hits, misses, loads and errors by namespace, and the keys that are asked for most."""
    found = asyncio.run(_stats(settings_of(config), namespace, keys))
    if as_json:
        print_json(found.document())
    else:
        found.print()


@cache.command
@click.argument("keys", nargs=-1, required=True, metavar="KEY…")
@config_option
@json_option
@audited("cache.delete", target="keys")
def delete(keys: tuple[str, ...], config: Path | None, as_json: bool) -> None:
    """Forget the values of KEY…, as hotel:cmq1, also those that are being loaded."""
    _forget(settings_of(config), lambda service: service.delete_now(*keys))
    answer({"deleted": list(keys)}, f"forgotten: {', '.join(keys)}", as_json=as_json)


@cache.command
@click.argument("tags", nargs=-1, required=True, metavar="TAG…")
@config_option
@json_option
@audited("cache.invalidate", target="tags")
def invalidate(tags: tuple[str, ...], config: Path | None, as_json: bool) -> None:
    """Forget all values that were kept with one of TAG…."""
    _forget(settings_of(config), lambda service: service.invalidate_now(*tags))
    text = f"forgotten: whatever was kept with {', '.join(tags)}"
    answer({"invalidated": list(tags)}, text, as_json=as_json)


@dataclass(frozen=True, kw_only=True)
class _Stats:
    figures: Mapping[str, Figures]
    asked: Mapping[str, Sequence[Asked]]

    def document(self) -> dict[str, Any]:
        from skycap.services.cache_figures import total_of

        return {
            **_document(total_of(self.figures)),
            "namespaces": {
                name: {**_document(each), "mostAsked": [asked._asdict() for asked in self.asked.get(name, ())]}
                for name, each in self.figures.items()
            },
        }

    def print(self) -> None:
        from skycap.services.cache_figures import total_of

        rows = [_row(name, each) for name, each in self.figures.items()]
        print_table(
            ("namespace", "hits", "misses", "hit rate", "loads", "errors"),
            [*rows, _row(_ALL, total_of(self.figures))] if len(rows) != 1 else rows,
        )
        asked = sorted(chain.from_iterable(self.asked.values()), key=attrgetter("times"), reverse=True)
        if asked:
            click.echo()
            print_table(("asked for most lately", "times"), asked)


def _document(figures: Figures) -> dict[str, Any]:
    return {
        "hits": figures.hits,
        "misses": figures.misses,
        "hitRate": figures.hit_rate,
        "totalRequests": figures.requests,
        "loads": figures.loads,
        "errors": figures.errors,
    }


def _row(name: str, figures: Figures) -> tuple[object, ...]:
    rate = f"{figures.hit_rate:.1%}" if figures.requests else None
    return (name, figures.hits, figures.misses, rate, figures.loads, figures.errors)


@asynccontextmanager
async def _connected(settings: Settings) -> AsyncGenerator[CacheService]:
    from skycap.caching import connected_cache

    with told_address("redis", settings.cache.url or settings.require_redis()):
        async with connected_cache(settings) as service:
            yield service


async def _stats(settings: Settings, namespace: str | None, keys: int) -> _Stats:
    from skycap.services.cache_figures import Figures

    async with _connected(settings) as service:
        figures = await service.figures_now()
        if namespace is not None:
            figures = {namespace: figures.get(namespace, Figures())}
        asked = {name: await service.most_asked(name, keys) for name in figures} if keys else {}
        return _Stats(figures=figures, asked=asked)


def _forget(settings: Settings, act: Callable[[CacheService], Awaitable[None]]) -> None:
    if not settings.cache.enabled:
        raise ConfigurationError("cache.enabled: is false, so that nothing is kept; set it to true to change the cache")

    async def run() -> None:
        async with _connected(settings) as service, working("forgetting"):
            await act(service)

    try:
        asyncio.run(run())
    except ValueError as error:  # no key, no tag
        raise click.UsageError(str(error)) from error
