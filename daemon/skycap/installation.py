"""What settings say of plugins and queues, for the daemon and for every command alike."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from skycap import discovery
from skycap.engine.queue import Queue, Retention

if TYPE_CHECKING:
    from skycap.engine.link import Link
    from skycap.registry import Registry
    from skycap.settings import Settings


def load_plugins(settings: Settings) -> Registry:
    """Raises PluginError; see skycap.discovery.load."""
    return discovery.load(
        discovery.PluginChoice(
            folder=settings.plugins_dir,
            disabled=frozenset(settings.disabled_plugins),
            required=frozenset(settings.required_plugins),
            only=None if settings.load_plugins is None else frozenset(settings.load_plugins),
            settings=settings.plugins,
        )
    )


def queues(link: Link, settings: Settings) -> list[Queue]:
    """Every configured queue."""
    return [
        Queue(
            name,
            link,
            retention=Retention(
                finished=timedelta(seconds=queue.keep_finished_seconds),
                finished_count=queue.keep_finished_count,
                discarded=timedelta(seconds=queue.keep_discarded_seconds),
            ),
        )
        for name, queue in settings.queues.items()
    ]
