"""What most commands need first: the settings, and a way to the queues."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skycap.cli.failures import told_address
from skycap.errors import SkycapError
from skycap.job import Job

if TYPE_CHECKING:
    from skycap.engine.link import Link
    from skycap.engine.queue import Queue
    from skycap.settings import Settings

_SETTINGS = "skycap.settings"


def settings_of(
    config: Path | None,
    overrides: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """The settings; where no Redis is configured, those of embedded servers that run on the same data folder."""
    from skycap.embedded import read_addresses
    from skycap.settings import load_settings

    settings = load_settings(config, environ=environ, overrides=overrides)
    if settings.redis.url is None and not settings.production:
        running = read_addresses(settings.state_dir())
        if running is not None:
            embedded = {"redis.url": running.redis_url, "database.url": running.database_url}
            settings = load_settings(config, environ=environ, overrides=embedded | dict(overrides or {}))
    context = click.get_current_context(silent=True)
    if context is not None:
        context.meta[_SETTINGS] = settings
    return settings


def settings_in_use() -> Settings | None:
    """Those that the running command has read, or would read; None where they cannot be."""
    context = click.get_current_context(silent=True)
    found: Settings | None = None if context is None else context.meta.get(_SETTINGS)
    if found is not None:
        return found
    with suppress(SkycapError):
        return settings_of(None if context is None else context.params.get("config"))
    return None


@dataclass(frozen=True, kw_only=True)
class Queues:
    """All configured queues, by name."""

    by_name: Mapping[str, Queue]

    def named(self, name: str) -> Queue:
        if name not in self.by_name:
            raise click.UsageError(f"there is no queue {name!r}; configured: {', '.join(self.by_name)}")
        return self.by_name[name]

    def chosen(self, name: str | None) -> list[Queue]:
        """The one of this name, or all; raises UsageError when there is none of this name."""
        return list(self.by_name.values()) if name is None else [self.named(name)]

    async def find(self, job_id: str) -> tuple[Queue, Job]:
        """The job, wherever it is; raises UsageError when no queue has it."""
        for queue in self.by_name.values():
            job = await queue.get(job_id)
            if job is not None:
                return queue, job
        raise click.UsageError(f"no queue has a job {job_id}; finished jobs are kept for a while only")


@asynccontextmanager
async def connected_link(settings: Settings) -> AsyncGenerator[Link]:
    """The way to Redis."""
    from skycap.engine.link import Link

    address = settings.require_redis()
    with told_address("redis", address):
        link = Link.to(address.unmasked)
        try:
            yield link
        finally:
            await link.close()


@asynccontextmanager
async def connected_queues(settings: Settings) -> AsyncGenerator[Queues]:
    from skycap.installation import queues

    async with connected_link(settings) as link:
        yield Queues(by_name={queue.name: queue for queue in queues(link, settings)})
