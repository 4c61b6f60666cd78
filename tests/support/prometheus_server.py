"""A real Prometheus in a process of its own."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession

from tests.support.redis_servers import free_port
from tests.support.skips import skip
from tests.support.workers import eventually


class Prometheus:
    """Its HTTP API."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session

    async def ask(self, path: str, **parameters: str) -> Any:
        """The data of its answer; fails with its reason for what it does not understand."""
        async with self._session.get(f"/api/v1/{path}", params=parameters) as response:
            document = await response.json()
        assert document["status"] == "success", f"{parameters}: {document['error']}"
        return document["data"]

    async def value(self, query: str) -> float | None:
        """Of the one series that there is; None when there is none."""
        found = (await self.ask("query", query=query))["result"]
        return float(found[0]["value"][1]) if found else None

    async def is_ready(self) -> bool:
        try:
            async with self._session.get("/-/ready") as response:
                return response.status == 200
        except ClientError:
            return False


@asynccontextmanager
async def prometheus(config: Path, folder: Path) -> AsyncGenerator[Prometheus]:
    """With this configuration, and its data in ``folder``."""
    program = shutil.which("prometheus")
    if program is None:
        skip("there is no prometheus here (apt install prometheus)")
    address = f"127.0.0.1:{free_port()}"
    log = folder / "prometheus.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
            stdout=output,
            stderr=output,
        )
        try:
            async with ClientSession(f"http://{address}") as session:
                server = Prometheus(session)
                await eventually(server.is_ready)
                yield server
        finally:
            process.terminate()
            await process.wait()
