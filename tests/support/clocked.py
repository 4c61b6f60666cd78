"""A link to a real Valkey on which the test decides what time it is, and all that a queue holds there at a moment.

The scripts are the real ones but for one line: they ask a key for the time, not the server's clock. So leases end,
delays pass and rates refill when a test says so, to the millisecond.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from skycap.engine.keys import SHARED_HOLDS, QueueKeys
from skycap.engine.link import Link
from skycap.engine.policy import SHARED
from skycap.engine.script import script
from skycap.engine.stored import fields_of

_SERVERS_CLOCK = "local clock = redis.call('TIME')"
_TESTS_CLOCK = "local clock = {0, redis.call('GET', 'the-time-ms') * 1000}"

_LET_TIME_PASS = """
redis.call('INCRBY', 'the-time-ms', ARGV[1])
for _, key in ipairs(redis.call('KEYS', 'skycap:*')) do
  local left = redis.call('PTTL', key)
  if left > 0 then
    redis.call('PEXPIRE', key, left - ARGV[1])
  end
end
"""

_ALL_KEYS = """
local readers = {
  hash = {'HGETALL'},
  zset = {'ZRANGE', 0, -1, 'WITHSCORES'},
  set = {'SMEMBERS'},
  string = {'GET'},
}
local found = {}
for _, key in ipairs(redis.call('KEYS', 'skycap:*')) do
  local reader = readers[redis.call('TYPE', key).ok]
  if reader then
    found[#found + 1] = {key, redis.call(reader[1], key, unpack(reader, 2))}
  end
end
return found
"""


@cache
def _with_the_tests_clock(name: str) -> str:
    text = script(name).text
    assert text.count(_SERVERS_CLOCK) == 1, "queue.lua asks for the time in another way now"
    return text.replace(_SERVERS_CLOCK, _TESTS_CLOCK)


class ClockedLink(Link):
    """As Link, but time stands still between the calls of ``pass_time``."""

    async def start(self, now_ms: int) -> None:
        """Empty the server, and begin at this time."""
        await self.pipeline([("FLUSHALL",), ("SET", "the-time-ms", now_ms)])

    async def call_over(self, name: str, prefixes: Sequence[str], *arguments: str | bytes | float) -> Any:
        return await self.command("EVAL", _with_the_tests_clock(name), len(prefixes), *prefixes, *arguments)

    async def pass_time(self, duration: timedelta) -> None:
        await self.command("EVAL", _LET_TIME_PASS, 0, round(duration.total_seconds() * 1000))


@dataclass(frozen=True, kw_only=True)
class Photo:
    """Everything that Redis holds of one queue. Sorted sets are dictionaries in their order."""

    jobs: dict[str, dict[str, str]]
    indexes: dict[str, dict[str, float]]
    """ready, later, run, dead, done, gates, holds."""
    waiting: dict[str, dict[str, float]]
    """The jobs that wait at each gate."""
    busy: dict[str, set[str]]
    unique: dict[str, str]
    meta: dict[str, str]
    minutes: dict[int, dict[str, bytes]]
    """What was counted in each minute since 1970."""

    def places(self) -> Iterable[tuple[str, str]]:
        """Every job that is in some line, with the line's name: once for each."""
        for name in ("ready", "later", "run", "dead", "done"):
            yield from ((job_id, name) for job_id in self.indexes[name])
        for gate, line in self.waiting.items():
            yield from ((job_id, f"wait:{gate}") for job_id in line)


async def photo_of(keys: QueueKeys, link: Link) -> Photo:
    found = {key.decode(): value for key, value in await link.command("EVAL", _ALL_KEYS, 0)}

    def under(part: str) -> dict[str, Any]:
        prefix = f"{keys.prefix}{part}"
        return {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}

    def shared(part: str) -> dict[str, Any]:
        prefix = f"skycap:limit:{part}"
        return {SHARED + key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}

    names = ("ready", "later", "run", "dead", "done", "gates", "holds")
    return Photo(
        jobs={job_id: _texts(row) for job_id, row in under("job:").items()},
        indexes={
            **{name: _scores(found.get(f"{keys.prefix}{name}", [])) for name in names},
            "holds": _scores([*found.get(keys.holds, []), *found.get(SHARED_HOLDS, [])]),
        },
        waiting={gate: _scores(rows) for gate, rows in under("wait:").items()},
        busy={gate: {one.decode() for one in ids} for gate, ids in (under("busy:") | shared("busy:")).items()},
        unique={key: job_id.decode() for key, job_id in under("unique:").items()},
        meta=_texts(found.get(keys.meta, [])),
        minutes={int(number): fields_of(row) for number, row in under("minute:").items()},
    )


def _texts(row: Any) -> dict[str, str]:
    return {name: value.decode() for name, value in fields_of(row).items()}


def _scores(rows: list[bytes]) -> dict[str, float]:
    return {member.decode(): float(score) for member, score in zip(rows[::2], rows[1::2], strict=True)}
