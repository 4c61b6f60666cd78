"""ReloadRecord: how the last reload of a daemon went, for the command that has asked for it and waits."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Reloaded:
    """``number`` counts the reloads of one process, refused ones too."""

    process: int
    number: int
    refusal: str | None


class ReloadRecord:
    """A file in the daemon's runtime directory, which only its own user reads."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @classmethod
    def here(cls, environ: Mapping[str, str] = os.environ) -> Self | None:
        """That of this unit; None where systemd gives no ``RuntimeDirectory=``."""
        folder = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        return cls(Path(folder) / "reload.json") if folder else None

    def write(self, reloaded: Reloaded) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(vars(reloaded)))
        new.replace(self._file)

    def read(self, process: int) -> Reloaded | None:
        """None when this process has not been reloaded yet."""
        try:
            found: dict[str, Any] = json.loads(self._file.read_text())
        except FileNotFoundError:
            return None
        return Reloaded(**found) if found["process"] == process else None
