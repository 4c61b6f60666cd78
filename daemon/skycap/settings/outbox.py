"""The settings of the outbox."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from skycap.settings.section import Section


class OutboxSettings(Section):
    """Jobs that are enqueued in SQL (skycap.enqueue_v1): each daemon with a database moves them to Redis."""

    enabled: bool = Field(default=True, description="false leaves it to other daemons.")
    poll_seconds: float = Field(
        default=1.0,
        ge=0.01,
        le=3600,
        description="How often to look without being called: where LISTEN is impossible (only a transaction pooler is "
        "known), and for those who enqueue without NOTIFY.",
    )
    batch: int = Field(default=500, ge=1, le=10_000, description="Jobs that are moved at once.")
    keep_days: float = Field(
        default=7.0, ge=0, le=3650, description="How long a row is kept after its job was moved to Redis."
    )

    @property
    def poll(self) -> timedelta:
        return timedelta(seconds=self.poll_seconds)

    @property
    def keep(self) -> timedelta:
        return timedelta(days=self.keep_days)
