"""PgBouncer in transaction mode before the test's PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg

from skycap.embedded.privileges import choose_identity, give
from tests.support.redis_servers import free_port
from tests.support.skips import skip
from tests.support.workers import eventually

_CONFIGURATION = """
[databases]
* = host={host} port={port} user=skycap
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
"""


@asynccontextmanager
async def pgbouncer(database_url: str) -> AsyncGenerator[str]:
    """The address of the same database behind a transaction pooler."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        skip("pgbouncer is not installed (Debian's package pgbouncer)")
    query = parse_qs(urlsplit(database_url).query)
    sockets = Path(query["host"][0])
    own_port = free_port()
    file = sockets / f"pgbouncer-{own_port}.ini"
    file.write_text(_CONFIGURATION.format(host=sockets, port=query["port"][0], own_port=own_port))
    # PgBouncer refuses to run as root: it runs as PostgreSQL does, which lets it in.
    identity = await asyncio.to_thread(choose_identity, sockets, Path(program))
    give(sockets, identity)
    command = identity.launch_command(program, file, death_signal=signal.SIGKILL)
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    url = f"postgresql://skycap@127.0.0.1:{own_port}/skycap"

    async def answers() -> bool:
        assert process.returncode is None, "pgbouncer ended"
        try:
            connection = await asyncpg.connect(url, statement_cache_size=0, timeout=1)
        except (OSError, asyncpg.PostgresError):
            return False
        await connection.close()
        return True

    try:
        await eventually(answers)
        yield url
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        file.unlink()
