"""Real daemons in processes of their own, on the test's servers."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skycap.demo.daemon import DaemonProcess
from skycap.demo.mailbox import Mailbox

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("SKYCAP_", "NOTIFY_", "WATCHDOG_"))}
"""The environment of a command that is to see only what the test gives it."""


@dataclass(kw_only=True)
class Site:
    """One installation: a folder with a configuration file and the daemons' logs."""

    folder: Path
    redis_url: str
    database_url: str | None = None
    mailbox: Mailbox | None = None
    extra: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    plugins_dir: Path | None = None
    load_plugins: tuple[str, ...] | None = None
    """Those alone."""

    @property
    def config(self) -> Path:
        """The configuration file, written anew."""
        tables: dict[str, dict[str, Any]] = {
            "redis": {"url": self.redis_url},
            "http": {"bind": "127.0.0.1:0"},
            "worker": {"lease_seconds": 2.0},
        }
        if self.database_url is not None:
            tables["database"] = {"url": self.database_url}
        if self.mailbox is not None:
            tables["smtp"] = {
                "url": self.mailbox.smtp_url,
                "ca_file": str(self.mailbox.ca_file),
                "sender": "Travel <bookings@travel.example.com>",
            }
        for name, table in self.extra.items():
            tables[name] = tables.get(name, {}) | table
        lines = [] if self.plugins_dir is None else [f"plugins_dir = {json.dumps(str(self.plugins_dir))}"]
        if self.load_plugins is not None:
            lines.append(f"load_plugins = {json.dumps(self.load_plugins)}")
        for name, table in tables.items():
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
        path = self.folder / "skycap.toml"
        path.write_text("\n".join(lines) + "\n")
        return path

    @property
    def log(self) -> Path:
        return self.folder / "daemon.log"

    def daemon(self) -> DaemonProcess:
        return DaemonProcess(self.log, "--config", str(self.config))


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a command printed, and its exit code; ``lines`` is what it logged, if it ran in the test's own process."""

    code: int
    out: str
    err: str
    lines: Sequence[Mapping[str, Any]] = ()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


async def skycap(*arguments: str | Path, environ: dict[str, str] | None = None, cwd: Path | None = None) -> Finished:
    """Run the command line as a user would, without any of this machine's settings."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "skycap",
        *map(str, arguments),
        env={**CLEAN, **(environ or {})},
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return Finished(code=process.returncode, out=out.decode(), err=err.decode())
