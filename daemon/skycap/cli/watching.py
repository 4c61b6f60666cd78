"""Watching: the fleet looked at again and again for a terminal, or once for a table or a document."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from skycap.cli.fleet_view import View
from skycap.cli.full_screen import FullScreen
from skycap.cli.ink import shown, wants_colour
from skycap.cli.output import print_json
from skycap.display.document import document_of
from skycap.display.paces import Paces
from skycap.engine.link import Link
from skycap.errors import Unavailable
from skycap.installation import breaker_specs, load_plugins, queues
from skycap.overview import Overview, overview_of

if TYPE_CHECKING:
    from skycap.breaker import BreakerSpec
    from skycap.settings import Settings

_A_PIPE = 1000
"""No table of ours is wider."""


class Watcher:
    """Looks at the fleet. Until ``know_breakers`` it knows of none: their plugins take a moment to load."""

    def __init__(self, link: Link, settings: Settings) -> None:
        self._link = link
        self._settings = settings
        self._queues = queues(link, settings)
        self._breakers: dict[str, BreakerSpec] = {}
        self._heard_at = time.monotonic()
        nothing = Overview(at=None, queues=dict.fromkeys(settings.queues), daemons=None, breakers=None, alarms=None)
        self.view = View(overview=nothing, paces=Paces(), draws_bars=_has_bars())

    async def know_breakers(self) -> None:
        self._breakers = await asyncio.to_thread(lambda: breaker_specs(self._settings, load_plugins(self._settings)))

    async def look(self) -> Overview:
        """Takes two seconds at most; while Redis is away, the view stays at what it last told."""
        overview = await overview_of(self._link, self._queues, self._breakers)
        if overview.at is None:
            silence = timedelta(seconds=time.monotonic() - self._heard_at)
            self.view = replace(self.view, silent_for=silence)
        else:
            self._heard_at = time.monotonic()
            self.view.paces.note(overview)
            self.view = replace(self.view, overview=overview, silent_for=None)
        return overview


async def print_once(settings: Settings) -> None:
    """Raises Unavailable."""
    async with _watcher(settings) as watcher:
        await _look_or_raise(watcher)
    for each in replace(watcher.view, is_live=False).lines(width=_A_PIPE):
        click.echo(shown(each, width=_A_PIPE, in_colour=False).rstrip())


async def print_document(settings: Settings) -> None:
    """Raises Unavailable."""
    async with _watcher(settings) as watcher:
        print_json(document_of(await _look_or_raise(watcher)))


async def watch(settings: Settings, interval_seconds: float) -> None:
    """Until somebody quits. Raises what a look raises that is more than an outage."""
    async with _watcher(settings) as watcher, FullScreen() as screen:
        in_colour = wants_colour(is_terminal=True)
        foot = f"q quits; a look every {interval_seconds:g} s"

        def draw() -> None:
            width, height = screen.size
            lines = watcher.view.lines(width=width, height=height, foot=foot)
            screen.draw([shown(each, width=width, in_colour=in_colour) for each in lines])

        async def keep_looking() -> None:
            await watcher.look()
            draw()
            await watcher.know_breakers()
            while True:
                began = time.monotonic()
                await watcher.look()
                draw()
                await asyncio.sleep(max(0.0, interval_seconds - (time.monotonic() - began)))

        async def keep_in_shape() -> None:
            while await screen.events.get() != "quit":
                draw()

        tasks = (asyncio.create_task(keep_looking()), asyncio.create_task(keep_in_shape()))
        done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for each in others:
            each.cancel()
        for each in done:
            each.result()


async def _look_or_raise(watcher: Watcher) -> Overview:
    await watcher.know_breakers()
    overview = await watcher.look()
    if overview.at is None:
        raise Unavailable("redis", "no answer in time; is the server there?")
    return overview


@asynccontextmanager
async def _watcher(settings: Settings) -> AsyncGenerator[Watcher]:
    link = Link.to(settings.require_redis().unmasked)
    try:
        yield Watcher(link, settings)
    finally:
        await link.close()


def _has_bars() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
