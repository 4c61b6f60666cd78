"""Payloads of the price retention plugin."""

from __future__ import annotations

from skycap import Payload, Unique


class TendPriceHistory(Payload, kind="tend-price-history", queue="scheduled", unique=Unique()):
    """Make the partitions of the coming months, and take old prices away."""
