"""Payloads of the price sweep plugin."""

from __future__ import annotations

from skycap import Payload, Unique


class CheckPriceAlerts(Payload, kind="check-price-alerts", queue="scheduled", unique=Unique()):
    """Look at every active price alert. While one such job waits or runs, a second one is the first."""
