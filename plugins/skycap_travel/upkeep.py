"""Upkeep: keeps the backend's tables fast and small."""

from __future__ import annotations

from skycap import Plugin
from skycap_travel.indexes import declare_indexes

__all__ = ["plugin"]

plugin = Plugin("upkeep")

declare_indexes(plugin)
