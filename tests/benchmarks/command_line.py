"""How long the command line takes to answer: ``python -m tests.benchmarks.command_line``.

Each command runs several times in a process of its own, as an admin's would; the quickest and the middle one count, and
the processor's time of the middle one, which a busy machine changes least. Status calls ask a private Valkey.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click

from skycap.embedded import EmbeddedServers
from tests.benchmarks.tables import table

RUNS = 9
HELP = ("--help", "queues --help", "enqueue --help", "db indexes --help", "mail ledger --help", "run --help")
STATUS = ("queues list", "jobs list", "dead list", "cache stats", "alerts list", "schedules list", "breakers list")
LIMITS = {"help": 0.3, "status": 0.5}


@dataclass(frozen=True, kw_only=True)
class Took:
    wall: float
    processor: float


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        servers = EmbeddedServers(Path(folder))
        asyncio.run(servers.start())
        try:
            environ = {**os.environ, "SKYCAP_REDIS_URL": servers.redis_url}
            rows = [_row("help", words, environ) for words in HELP] + [
                _row("status", words, environ) for words in STATUS
            ]
        finally:
            asyncio.run(servers.stop())
    click.echo(table(("command", "limit s", "quickest s", "median s", "processor s"), rows))


def _row(what: str, words: str, environ: dict[str, str]) -> tuple[str, ...]:
    took = [_run(words, environ) for _ in range(RUNS)]
    walls = [each.wall for each in took]
    processor = statistics.median(each.processor for each in took)
    return (words, f"{LIMITS[what]}", f"{min(walls):.2f}", f"{statistics.median(walls):.2f}", f"{processor:.2f}")


def _run(words: str, environ: dict[str, str]) -> Took:
    command = [str(Path(sys.executable).with_name("skycap")), *words.split()]
    before, began = os.times(), time.perf_counter()
    subprocess.run(command, env=environ, check=True, capture_output=True)
    after, ended = os.times(), time.perf_counter()
    processor = (after.children_user - before.children_user) + (after.children_system - before.children_system)
    return Took(wall=ended - began, processor=processor)


if __name__ == "__main__":
    main()
