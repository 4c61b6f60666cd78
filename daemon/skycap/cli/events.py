"""``skycap events``: what happens to jobs, as it happens."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skycap.cli.completing import queue_names
from skycap.cli.installation import connected_queues, settings_of
from skycap.cli.options import config_option

if TYPE_CHECKING:
    from skycap.engine.events import Event, EventStream
    from skycap.engine.queue import Queue
    from skycap.settings import Settings


_NOTHING_YET = "0-0"
"""The id before that of any event."""


@click.command
@click.argument("names", metavar="[QUEUE]…", nargs=-1, shell_complete=queue_names)
@click.option("--job", "job_id", metavar="ID", help="Only of this job.")
@click.option("--last", default=0, type=click.IntRange(0, 10_000), metavar="N", help="Print the newest N first.")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document a line.")
def events(names: tuple[str, ...], job_id: str | None, last: int, config: Path | None, as_json: bool) -> None:
    """Follow what happens to the jobs of QUEUE, or of all queues, until Ctrl-C."""
    asyncio.run(_follow(settings_of(config), names, job_id, last, as_json=as_json))


async def _follow(settings: Settings, names: Sequence[str], job_id: str | None, last: int, *, as_json: bool) -> None:
    from skycap.engine.events import EventStream

    async with connected_queues(settings) as connected:
        queues = [connected.named(name) for name in names] or list(connected.by_name.values())
        # Noted before the past is read, so that nothing falls between the two.
        newest = {queue: await EventStream(queue).newest() for queue in queues}
        for event in await _past(newest, job_id, last) if last else []:
            _print(event, as_json=as_json)
        async for event in _merged([EventStream(queue).after(since) for queue, since in newest.items()]):
            if job_id in {None, event.job_id}:
                _print(event, as_json=as_json)


async def _past(newest: Mapping[Queue, str], job_id: str | None, last: int) -> list[Event]:
    """The last events of all these queues together, the oldest first."""
    from skycap.engine.events import EventStream

    found: list[Event] = []
    for queue, until in newest.items():
        found += await _until(EventStream(queue), until, job_id, last)
    return sorted(found, key=lambda event: event.at)[-last:]


async def _until(stream: EventStream, until: str, job_id: str | None, last: int) -> deque[Event]:
    kept: deque[Event] = deque(maxlen=last)
    if until == _NOTHING_YET:
        return kept
    async for event in stream.after(_NOTHING_YET):
        if _order(event.id) <= _order(until) and job_id in {None, event.job_id}:
            kept.append(event)
        if _order(event.id) >= _order(until):  # later than that one if it was trimmed meanwhile
            break
    return kept


def _order(event_id: str) -> tuple[int, int]:
    milliseconds, _, number = event_id.partition("-")
    return int(milliseconds), int(number)


async def _merged(streams: Sequence[AsyncIterator[Event]]) -> AsyncGenerator[Event]:
    """What any stream gives, as soon as it gives it; the error of one ends all."""
    waiting = {_next(stream): stream for stream in streams}
    try:
        while True:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                stream = waiting.pop(task)
                yield await task
                waiting[_next(stream)] = stream
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


def _next(stream: AsyncIterator[Event]) -> asyncio.Task[Event]:
    async def following() -> Event:
        return await anext(stream)

    return asyncio.create_task(following())


def _print(event: Event, *, as_json: bool) -> None:
    progress = json.loads(event.data) if event.data else None
    click.echo(json.dumps(_document(event, progress), ensure_ascii=False) if as_json else _line(event, progress))


def _document(event: Event, progress: Any) -> dict[str, Any]:
    document = {"at": event.at.isoformat(), "queue": event.queue, "jobId": event.job_id, "event": event.name}
    return document if progress is None else {**document, "progress": progress}


def _line(event: Event, progress: Any) -> str:
    """In columns, though what comes later is not known: most queues and all ids fit."""
    at = f"{event.at:%H:%M:%S}.{event.at.microsecond // 1000:03}"
    how_far = "" if progress is None else f"{progress['fraction']:.0%} {progress['note']}"
    return f"{at}  {event.queue:<12}  {event.job_id:<36}  {event.name:<9}  {how_far}".rstrip()
