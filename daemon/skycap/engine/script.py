"""Script: a Lua script of the queue engine, as Redis gets it."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.resources import files

_AFTER = re.compile(r"(?P<flags>#!.*\n)?-- after: (?P<parts>.*)\n")


class Script:
    """One Lua script, with the parts before it that its first line names: ``-- after: queue, lines``.

    Redis makes all functions of a script anew in each call, half a microsecond for each, so a script has no part
    that it does not need.
    """

    def __init__(self, name: str) -> None:
        folder = files("skycap.engine") / "lua"
        own = (folder / f"{name}.lua").read_text()
        head = _AFTER.match(own)
        if head is None:
            raise ValueError(f"{name}.lua does not begin with a line `-- after: …`")
        parts = [(folder / f"{part}.lua").read_text() for part in head["parts"].split(", ")]
        self.name = name
        # Redis reads a script's flags from its very first line only.
        self.text = (head["flags"] or "") + "\n".join([*parts, own[head.end() :]])
        # Redis names scripts by SHA-1; nothing is secured by it.
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


@cache
def script(name: str) -> Script:
    """The script of ``lua/<name>.lua``, read once."""
    return Script(name)
