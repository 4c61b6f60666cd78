"""What of a Redis' own configuration puts jobs at risk, and the fix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from skycap.engine.information import information
from skycap.engine.link import Link
from skycap.errors import ConfigurationError

OLDEST_REDIS = (7, 0)
"""The first whose scripts may say that they are allowed to run when its memory is full."""


@dataclass(frozen=True, kw_only=True)
class Concern:
    """One setting that an admin should change."""

    problem: str
    fix: str

    def __str__(self) -> str:
        return f"{self.problem}; {self.fix}"


async def concerns(link: Link) -> list[str]:
    """One sentence for each setting that an admin should change. Raises Unavailable, and ConfigurationError
    for a Redis that is too old to run the queues at all.
    """
    facts = await information(link, "server", "memory", "persistence")
    refuse_old_redis(facts)
    return [str(each) for each in (concern_of_eviction(facts), concern_of_persistence(facts)) if each is not None]


def refuse_old_redis(facts: Mapping[str, str]) -> None:
    """Raises ConfigurationError for a Redis that is too old to run the queues at all."""
    version = facts.get("redis_version", "")
    if version and tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
        raise ConfigurationError(f"redis.url: this is Redis {version}; skycap needs Redis 7.0 or Valkey 7.2, or later")


def concern_of_eviction(facts: Mapping[str, str]) -> Concern | None:
    """Whether Redis deletes jobs when its memory is full."""
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return None
    return Concern(
        problem=f"maxmemory-policy is {policy}: Redis deletes jobs when its memory is full",
        fix="set it to noeviction, with which enqueueing is refused instead",
    )


def concern_of_persistence(facts: Mapping[str, str]) -> Concern | None:
    """Whether a crash of Redis loses more than its last second."""
    if facts.get("aof_enabled") != "0":
        return None
    return Concern(
        problem="appendonly is no: a crash of Redis loses the jobs since its last snapshot, or all of them",
        fix="set appendonly to yes, and appendfsync to everysec or always",
    )
