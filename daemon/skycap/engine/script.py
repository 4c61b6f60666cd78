"""Script: a Lua script of the queue engine, as Redis gets it."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files


class Script:
    """One Lua script, after the shared part of all queue scripts."""

    def __init__(self, name: str) -> None:
        folder = files("skycap.engine") / "lua"
        own, shared = (folder / f"{name}.lua").read_text(), (folder / "queue.lua").read_text()
        # Redis reads a script's flags from its very first line only.
        flags, newline, rest = own.partition("\n") if own.startswith("#!") else ("", "", own)
        self.name = name
        self.text = f"{flags}{newline}{shared}\n{rest}"
        # Redis names scripts by SHA-1; nothing is secured by it.
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


@cache
def script(name: str) -> Script:
    """The script of ``lua/<name>.lua``, read once."""
    return Script(name)
