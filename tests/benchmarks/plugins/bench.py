"""The benchmark's five kinds of jobs; their bodies are those of the other systems."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from skycap import Payload, Plugin

plugin = Plugin("bench")
# The benchmark, which is not part of this project, puts its own package on the path.
bodies: dict[str, Any] = import_module("adapters.jobs").async_bodies()


class Noop(Payload, kind="noop"):
    i: int


class Io(Payload, kind="io"):
    i: int


class Stamp(Payload, kind="stamp"):
    i: int


class Crash(Payload, kind="crash"):
    i: int


class Limited(Payload, kind="limited", queue="limited"):
    i: int


@plugin.job()
async def noop(_: Any, payload: Noop) -> None:
    await bodies["noop"](payload.i)


@plugin.job()
async def io(_: Any, payload: Io) -> None:
    await bodies["io"](payload.i)


@plugin.job()
async def stamp(_: Any, payload: Stamp) -> None:
    await bodies["stamp"](payload.i)


@plugin.job()
async def crash(_: Any, payload: Crash) -> None:
    await bodies["crash"](payload.i)


@plugin.job()
async def limited(_: Any, payload: Limited) -> None:
    await bodies["limited"](payload.i)
