"""Fleet: the daemons that serve the queues of one Redis, each as it last said it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from skycap.engine.link import Link
from skycap.engine.policy import milliseconds
from skycap.engine.stored import moment, text

COUNTS_FOR = timedelta(seconds=20)
"""A daemon tells every 5 seconds; one that has been silent for so long is gone, or cut off from Redis."""

_PREFIX = "skycap:{fleet}:"


@dataclass(frozen=True, kw_only=True)
class Slots:
    """What one daemon does for one queue: ``running`` jobs of at most ``concurrency`` at a time."""

    running: int
    concurrency: int


@dataclass(frozen=True, kw_only=True)
class Presence:
    """One daemon as it says it is. ``started_at`` is by its own clock."""

    id: str
    """As jobs name it that run there: host, process and a random part."""
    host: str
    process: int
    version: str
    python: str
    started_at: datetime
    queues: Mapping[str, Slots] = field(default_factory=dict[str, Slots])
    memory_bytes: int = 0
    is_draining: bool = False

    def to_json(self) -> str:
        return json.dumps(
            {
                "host": self.host,
                "process": self.process,
                "version": self.version,
                "python": self.python,
                "startedAt": self.started_at.isoformat(),
                "queues": {name: [slots.running, slots.concurrency] for name, slots in self.queues.items()},
                "memoryBytes": self.memory_bytes,
                "draining": self.is_draining,
            }
        )

    @classmethod
    def from_json(cls, name: str, said: bytes) -> Presence:
        """Raises ValueError, KeyError or TypeError for what no daemon of this version says."""
        document: dict[str, Any] = json.loads(said)
        return cls(
            id=name,
            host=document["host"],
            process=document["process"],
            version=document["version"],
            python=document["python"],
            started_at=datetime.fromisoformat(document["startedAt"]),
            queues={
                queue: Slots(running=running, concurrency=concurrency)
                for queue, (running, concurrency) in document["queues"].items()
            },
            memory_bytes=document["memoryBytes"],
            is_draining=document["draining"],
        )


@dataclass(frozen=True, kw_only=True)
class FleetNow:
    """Who was there ``at`` a moment of Redis' clock, and how long ago each said so."""

    at: datetime
    daemons: Mapping[str, Presence]
    silent_for: Mapping[str, timedelta]


class Fleet:
    """Every method raises Unavailable when Redis cannot be reached, and may then be called again."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def tell(self, presence: Presence) -> None:
        await self._link.call("fleet", _PREFIX, "tell", presence.id, presence.to_json(), milliseconds(COUNTS_FOR))

    async def leave(self, daemon_id: str) -> None:
        await self._link.call("fleet", _PREFIX, "leave", daemon_id)

    async def now(self) -> FleetNow:
        """Those that have told within COUNTS_FOR; what cannot be read, as of a newer version, is left out."""
        now_ms, *rest = await self._link.call("fleet", _PREFIX, "list")
        at = moment(now_ms)
        daemons: dict[str, Presence] = {}
        silent_for: dict[str, timedelta] = {}
        for name, seen, said in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
            silence = at - moment(int(float(seen)))
            if silence >= COUNTS_FOR:
                continue
            try:
                presence = Presence.from_json(text(name), said)
            except (ValueError, KeyError, TypeError):
                continue
            daemons[presence.id], silent_for[presence.id] = presence, silence
        return FleetNow(at=at, daemons=dict(sorted(daemons.items())), silent_for=silent_for)
