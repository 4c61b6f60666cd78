"""Script: a Lua script of the queue engine, as Redis gets it."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.resources import files

_AFTER = re.compile(r"(?P<flags>#!.*\n)?-- after: (?P<parts>.*)\n")
_EACH = re.compile(r"-- each: (?P<script>.*)\n")


class Script:
    """One Lua script, with the parts before it that its first line names: ``-- after: queue, lines``.

    Redis makes all functions of a script anew in each call, half a microsecond for each, so a script has no part
    that it does not need. A script that begins with ``-- each: add`` has that one as the function ``each``, for
    several queues.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = _text_of(name)
        # Redis names scripts by SHA-1; nothing is secured by it.
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


def _text_of(name: str) -> str:
    own = _read(name)
    each = _EACH.match(own)
    if each is not None:
        return f"local function each(KEYS, ARGV)\n{_text_of(each['script'])}\nend\n{own[each.end() :]}"
    head = _AFTER.match(own)
    if head is None:
        raise ValueError(f"{name}.lua begins neither with a line `-- after: …` nor with `-- each: …`")
    parts = [_read(part) for part in head["parts"].split(", ")]
    # Redis reads a script's flags from its very first line only.
    return (head["flags"] or "") + "\n".join([*parts, own[head.end() :]])


def _read(name: str) -> str:
    return (files("skycap.engine") / "lua" / f"{name}.lua").read_text()


@cache
def script(name: str) -> Script:
    """The script of ``lua/<name>.lua``, read once."""
    return Script(name)
