"""Writes down in PostgreSQL who ran which job, each time; with NOVEL in the environment it knows one kind more."""

from __future__ import annotations

import asyncio
import os
import socket
from importlib.metadata import version

from skycap import Context, Payload, Plugin

plugin = Plugin("runs")


class NoteRun(Payload, kind="note-run"):
    seconds: float = 0.05


class NoteNovelty(Payload, kind="note-novelty"):
    pass


@plugin.job()
async def note_run(ctx: Context, payload: NoteRun) -> None:
    await _begin(ctx)
    await asyncio.sleep(payload.seconds)


async def _begin(ctx: Context) -> None:
    host, daemon = socket.gethostname(), os.environ.get("STATE_DIRECTORY", "").rpartition("/")[2]
    await ctx.db.execute(
        "INSERT INTO runs (job, host, daemon, version) VALUES ($1, $2, $3, $4)",
        *(ctx.job.id, host, daemon, version("skycap")),
    )


if "NOVEL" in os.environ:

    @plugin.job()
    async def note_novelty(ctx: Context, payload: NoteNovelty) -> None:
        await _begin(ctx)
