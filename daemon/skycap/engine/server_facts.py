"""ServerFacts: what a Redis says of its own memory and files, on which all jobs depend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from skycap.engine.information import information
from skycap.engine.link import Link

_NOEVICTION = "noeviction"


@dataclass(frozen=True, kw_only=True)
class ServerFacts:
    """What is None or blank, the server did not say, or may not say to this user.

    In a cluster it is of one of the servers.
    """

    used_memory_bytes: int | None = None
    most_memory_bytes: int | None = None
    """0: as much as its host has."""
    eviction_policy: str = ""
    is_persistent: bool | None = None
    """Whether it keeps an append-only file, without which a crash loses more than a second."""

    @property
    def keeps_all(self) -> bool | None:
        """Whether it refuses what is new, and deletes nothing, when its memory is full."""
        return self.eviction_policy == _NOEVICTION if self.eviction_policy else None


async def facts_of(link: Link) -> ServerFacts:
    """One command. Raises Unavailable."""
    facts = await information(link, "memory", "persistence")
    return ServerFacts(
        used_memory_bytes=_number(facts, "used_memory"),
        most_memory_bytes=_number(facts, "maxmemory"),
        eviction_policy=facts.get("maxmemory_policy", ""),
        is_persistent=facts["aof_enabled"] == "1" if "aof_enabled" in facts else None,
    )


def _number(facts: Mapping[str, str], name: str) -> int | None:
    value = facts.get(name, "")
    return int(value) if value.isdecimal() else None
