"""What a user of Redis may do, against what the daemons need."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files

from skycap.engine.link import Link

_CALL = re.compile(r"redis\.p?call\('([A-Z]+)'")

DIRECT = (
    *("BLMOVE", "BLPOP", "DEL", "EXISTS", "GET", "HGET", "HGETALL", "HINCRBY", "HMGET", "LRANGE", "SADD", "SMEMBERS"),
    *("XRANGE", "XREAD", "XREVRANGE", "ZCARD", "ZRANGE", "ZRANK", "ZREVRANGE", "ZREVRANK", "ZSCORE"),
)
"""What is asked on keys outside of scripts."""

_PREFIX = "skycap:{rights}:"
_OWN_KEY = f"{_PREFIX}key"
_FOREIGN_KEY = "rights:of:others"

_DANGEROUS = (("ACL", "LIST"), ("CONFIG", "GET"), ("DEBUG", "SLEEP"), ("FLUSHALL", "ASYNC"), ("SHUTDOWN", "NOW"))
"""With an argument that makes them complete."""

_ALLOWED, _REFUSED = 1, 0


@cache
def needed_commands() -> tuple[str, ...]:
    """Every command on keys that scripts and daemons send."""
    scripts = files("skycap.engine").joinpath("lua").iterdir()
    called = {name for file in scripts if file.name.endswith(".lua") for name in _CALL.findall(file.read_text("utf-8"))}
    return tuple(sorted(called | set(DIRECT)))


async def missing_rights(link: Link) -> list[str]:
    """The commands that this user needs and may not give. Raises Unavailable, also where it may run no script."""
    return [
        name
        for name, answer in await _answers(link, [(name, _OWN_KEY) for name in needed_commands()])
        if answer == _REFUSED
    ]


async def excessive_rights(link: Link) -> list[str]:
    """What this user may do and no daemon ever does. Raises Unavailable."""
    answers = [*await _answers(link, [*_DANGEROUS, ("SET", _FOREIGN_KEY)])]
    found = [name for name, answer in answers if answer == _ALLOWED]
    return ["writing keys outside of skycap:*" if name == "SET" else name for name in found]


async def _answers(link: Link, asked: Sequence[tuple[str, str]]) -> Iterator[tuple[str, int]]:
    words = [word for pair in asked for word in pair]
    answers: list[int] = await link.call("rights", _PREFIX, *words)
    return zip((name for name, _ in asked), answers, strict=True)
