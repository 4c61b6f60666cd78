"""skycap beside its peers: the whole daemon as the worker, AsyncClient as the producer."""

from __future__ import annotations

import asyncio
import os
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

TITLE, PACKAGES = "skycap", ["skycap"]
SETTINGS = (
    "skycap run: leases, retries, limits, events, HTTP side on; queues.default.keep_finished_count=0, "
    "log WARNING, uvloop (automatic)"
)
BULK = "enqueue_many of 1,000, two calls in flight"

HERE = Path(__file__).resolve().parent
PYTHON = HERE.parents[1] / ".venv" / "bin" / "python"
_AT_ONCE = 1000

ENV = {"SKYCAP_LOG_LEVEL": "warning", "SKYCAP_LOAD_PLUGINS": "bench"}

_env: Any = import_module("adapters.env")
_made: dict[str, Any] = {}


def worker_cmd() -> list[str]:
    folder = tempfile.mkdtemp(prefix="skycap-bench-")
    return [
        "/usr/bin/env",
        "--unset=PYTHONDONTWRITEBYTECODE",  # what pip installs is compiled, and so is every peer
        f"SKYCAP_REDIS_URL={_env.REDIS}",
        f"SKYCAP_HTTP_BIND=unix:{folder}/http.sock",
        f"SKYCAP_QUEUES_DEFAULT_CONCURRENCY={_env.C}",
        "SKYCAP_QUEUES_DEFAULT_KEEP_FINISHED_COUNT=0",
        f"SKYCAP_QUEUES_LIMITED_CONCURRENCY={_env.C}",
        f"SKYCAP_QUEUES_LIMITED_RATE_MAX={os.environ.get('BENCH_LIMIT', '10')}",
        "SKYCAP_QUEUES_LIMITED_RATE_SECONDS=1",
        str(PYTHON),
        "-m",
        "skycap",
        "run",
        "--plugins-dir",
        str(HERE / "plugins"),
    ]


def producer_python() -> str:
    return str(PYTHON)


async def start() -> None:
    import importlib.util

    from skycap import AsyncClient

    spec = importlib.util.spec_from_file_location("bench_payloads", HERE / "plugins" / "bench.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kinds = {"noop": module.Noop, "io": module.Io, "stamp": module.Stamp}
    client = AsyncClient(_env.REDIS)
    await client.queue("default").counts()  # connected, as the peers are when they have started
    _made.update(kinds, crash=module.Crash, limited=module.Limited, client=client)


async def stop() -> None:
    await _made["client"].close()


async def add(kind: str, arg: int) -> None:
    await _made["client"].enqueue(_made[kind](i=arg))


async def add_bulk(kind: str, args: list[int]) -> None:
    client, make = _made["client"], _made[kind]
    two_calls = asyncio.Semaphore(2)

    async def add_some(some: list[int]) -> None:
        async with two_calls:
            await client.enqueue_many([make(i=arg) for arg in some])

    await asyncio.gather(*(add_some(args[at : at + _AT_ONCE]) for at in range(0, len(args), _AT_ONCE)))
