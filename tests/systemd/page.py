"""systemd/README.md, section by section: what an admin types there, and into what."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

README = (Path(__file__).resolve().parents[2] / "systemd" / "README.md").read_text()


@dataclass(frozen=True, kw_only=True)
class Typed:
    """A command, as root; ``stdin`` is the block above it that it reads, if any."""

    command: str
    stdin: str = ""

    @property
    def takes_a_network(self) -> bool:
        return "apt-get" in self.command or "requirements.lock" in self.command

    @property
    def line(self) -> str:
        """As a script has it."""
        return f"{self.command} <<'END-OF-BLOCK'\n{self.stdin}END-OF-BLOCK" if self.stdin else self.command


def commands(section: str) -> list[Typed]:
    """Those of one section in order.

    A command that reads /dev/stdin, and no pipe, is given the nearest block above it that is no console.
    """
    typed: list[Typed] = []
    shown = ""
    for language, text in re.findall(r"^```(\w+)\n(.*?)^```$", _section(section), re.MULTILINE | re.DOTALL):
        if language != "console":
            shown = text
            continue
        for command in re.findall(r"^\$ (.+)$", text, re.MULTILINE):
            reads = "/dev/stdin" in command and "|" not in command
            typed.append(Typed(command=command, stdin=shown if reads else ""))
    return typed


def _section(name: str) -> str:
    (text,) = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    return str(text)
