"""Payloads of the upkeep plugin: each is enqueued by its schedule, and needs to be told nothing."""

from __future__ import annotations

from skycap import Payload


class CleanupOldData(Payload, kind="cleanup-old-data", queue="scheduled"):
    """Delete old notifications, and what the configuration names besides."""


class WarmCache(Payload, kind="warm-cache", queue="scheduled"):
    """Load the configured hotel searches into the cache before a guest asks for them."""
