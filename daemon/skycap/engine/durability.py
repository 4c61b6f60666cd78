"""What of a Redis' own configuration puts jobs at risk, and the fix."""

from __future__ import annotations

from typing import Any

from skycap.engine.link import Link
from skycap.errors import ConfigurationError, Unavailable

OLDEST_REDIS = (7, 0)
"""The first whose scripts may say that they are allowed to run when its memory is full."""


async def concerns(link: Link) -> list[str]:
    """One sentence for each setting that an admin should change. Raises Unavailable, and ConfigurationError
    for a Redis that is too old to run the queues at all.
    """
    facts = await _facts(link)
    version = facts.get("redis_version", "")
    if version and tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
        raise ConfigurationError(f"redis.url: this is Redis {version}; skycap needs Redis 7.0 or Valkey 7.2, or later")
    found: list[str] = []
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        found.append(
            f"maxmemory-policy is {policy}: Redis deletes jobs when its memory is full; set it to noeviction, "
            "with which enqueueing is refused instead"
        )
    if facts.get("aof_enabled") == "0":
        found.append(
            "appendonly is no: a crash of Redis loses the jobs since its last snapshot, or all of them; set appendonly "
            "to yes, and appendfsync to everysec or always"
        )
    return found


async def _facts(link: Link) -> dict[str, str]:
    try:
        reply: Any = await link.command("INFO", "server", "memory", "persistence")
    except Unavailable as error:
        if "NOPERM" in str(error) or "INFO" in str(error):
            return {}  # what may not be asked cannot be warned of
        raise
    if not isinstance(reply, bytes):
        return {}
    lines = (line.partition(":") for line in reply.decode().splitlines())
    return {name: value for name, colon, value in lines if colon}
