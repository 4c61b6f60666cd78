"""A Redis that answers, and says no: what may be over soon is Unavailable, with Redis' own reason and no address."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from skycap.engine.link import Link
from skycap.errors import ConfigurationError, Unavailable
from tests.support.redis import redis_at
from tests.support.redis_servers import RedisServer, free_port, redis_server

PREFIX = "skycap:{tests}:"
WRITE = ("EVAL", "return redis.call('SET', KEYS[1], ARGV[1])", 1, f"{PREFIX}a", "1")
"""Scripts are how skycap writes, and their errors have a shape of their own."""

RIGHTS = (
    "resetkeys ~skycap:* resetchannels -@all "
    "+@read +@write +@connection -@dangerous +eval +evalsha +time +info +cluster|slots"
)
"""What the README lists for an ACL."""


@asynccontextmanager
async def refusing(folder: Path, *options: str | Path) -> AsyncGenerator[tuple[Link, Any]]:
    """A link to a server of its own, and a plain client to change that server with."""
    async with redis_server(folder, *options) as server, redis_at(server.url) as admin:
        link = Link.to(server.url)
        yield link, admin
        await link.close()


async def test_a_full_redis_is_unavailable_for_writes_and_tells_why(tmp_path: Path) -> None:
    async with refusing(tmp_path / "redis", "--maxmemory-policy", "noeviction") as (link, admin):
        assert await link.command(*WRITE) == b"OK"
        await admin.config_set("maxmemory", "1mb")
        for words in (WRITE, ("SET", "a", 1)):
            with pytest.raises(Unavailable, match=r"^redis: OOM command not allowed when used memory > 'maxmemory'"):
                await link.command(*words)
        assert await link.command("GET", f"{PREFIX}a") == b"1"
        await admin.config_set("maxmemory", 0)
        assert await link.command(*WRITE) == b"OK"


async def test_a_replica_is_unavailable_for_writes_and_its_connection_is_dropped(tmp_path: Path) -> None:
    async with redis_server(tmp_path / "master") as master, refusing(tmp_path / "redis") as (link, admin):
        first = await link.command("CLIENT", "ID")
        await admin.replicaof("127.0.0.1", master.port)
        with pytest.raises(Unavailable, match=r"^redis: READONLY You can't write against a read only replica"):
            await link.command(*WRITE)
        assert await link.command("CLIENT", "ID") != first
        await admin.replicaof("NO", "ONE")
        assert await link.command(*WRITE) == b"OK"


async def test_a_command_that_blocks_on_a_master_that_becomes_a_replica_is_unavailable(tmp_path: Path) -> None:
    async with redis_server(tmp_path / "master") as master, refusing(tmp_path / "redis") as (link, admin):
        blocked = asyncio.create_task(link.blocking("BLPOP", "x", 60, timeout=timedelta(minutes=1)))
        while (await admin.info("clients"))["blocked_clients"] == 0:
            pass
        await admin.replicaof("127.0.0.1", master.port)
        with pytest.raises(Unavailable, match="UNBLOCKED"):
            async with asyncio.timeout(5):
                await blocked


async def test_a_redis_that_cannot_save_is_unavailable_for_writes(tmp_path: Path) -> None:
    async with refusing(tmp_path / "redis", "--save", "3600 1") as (link, admin):
        shutil.rmtree(tmp_path / "redis")
        await admin.bgsave()
        while (await admin.info("persistence"))["rdb_bgsave_in_progress"]:
            pass
        with pytest.raises(Unavailable, match=r"^redis: MISCONF "):
            await link.command(*WRITE)
        assert await link.command("GET", f"{PREFIX}a") is None


async def test_a_redis_that_still_loads_its_data_is_unavailable(tmp_path: Path) -> None:
    async with redis_server(tmp_path / "redis") as server:
        async with redis_at(server.url) as admin:
            await admin.mset({f"key{number}": "x" * 100 for number in range(400)})
            await admin.save()
        await server.kill()
        slow = RedisServer(server.folder, port=server.port)
        # 5 ms for each key, and a look at the clients after each 1024 bytes.
        await slow.start("--key-load-delay", "5000", "--loading-process-events-interval-bytes", "1024", wait="-LOADING")
        link = Link.to(server.url)
        with pytest.raises(Unavailable, match=r"^redis: .*loading the dataset in memory"):
            await link.command("GET", "key1")
        await link.close()
        await slow.kill()


async def test_a_redis_that_runs_a_long_script_is_unavailable(tmp_path: Path) -> None:
    async with refusing(tmp_path / "redis", "--busy-reply-threshold", "50") as (link, admin):
        endless = asyncio.create_task(admin.eval("while true do end", 0))

        async def until_refused() -> None:
            while await link.command("GET", "a") is None:
                pass

        with pytest.raises(Unavailable, match=r"^redis: BUSY "):
            await until_refused()
        await link.command("SCRIPT", "KILL")
        await asyncio.wait([endless])
        assert endless.exception() is not None
        assert await link.command(*WRITE) == b"OK"


async def test_a_redis_without_enough_replicas_is_unavailable_for_writes(tmp_path: Path) -> None:
    async with refusing(tmp_path / "redis", "--min-replicas-to-write", "1") as (link, _):
        with pytest.raises(Unavailable, match=r"^redis: NOREPLICAS "):
            await link.command(*WRITE)


async def test_a_replica_that_has_lost_its_master_is_unavailable(tmp_path: Path) -> None:
    options = ("--replicaof", "127.0.0.1 1", "--replica-serve-stale-data", "no")
    server = RedisServer(tmp_path / "redis")
    await server.start("--save", "", *options, wait="-MASTERDOWN")
    link = Link.to(server.url)
    with pytest.raises(Unavailable, match=r"^redis: MASTERDOWN "):
        await link.command("GET", "a")
    await link.close()
    await server.kill()


async def test_a_redis_with_too_many_clients_is_unavailable(tmp_path: Path) -> None:
    async with refusing(tmp_path / "redis") as (link, admin):
        await admin.config_set("maxclients", 1)
        # The server closes the connection behind its answer, and sometimes only that is seen.
        with pytest.raises(Unavailable, match=r"^redis: (max number of clients reached|[\w ]+)$"):
            await link.command("PING")
        await admin.config_set("maxclients", 10)
        assert await link.command("PING") == b"PONG"


async def test_a_password_that_is_refused_is_unavailable_and_is_not_told(tmp_path: Path) -> None:
    async with redis_server(tmp_path / "redis", "--requirepass", "right") as server:
        urls = (server.url, server.url.replace("//", "//:hunter2@"), server.url.replace("//", "//me:hunter2@"))
        for url in urls:
            link = Link.to(url)
            with pytest.raises(Unavailable, match=r"^redis: its user or password is refused$"):
                await link.command("PING")
            await link.close()


async def test_the_rights_that_the_readme_lists_are_enough_and_no_more(tmp_path: Path) -> None:
    in_scripts = _commands_in_scripts()
    by_itself = {"xadd", "xread", "xrange", "xrevrange", "blpop", "ping", "info", "hgetall", "get", "set", "del"}
    async with redis_server(tmp_path / "redis") as server, redis_at(server.url) as admin:
        await admin.execute_command("ACL", "SETUSER", "skycap", "on", ">secret", *RIGHTS.split())

        async def is_allowed(name: str) -> bool:
            arity = abs((await admin.execute_command("COMMAND", "INFO", name))[name]["arity"])
            words = [name, *[f"{PREFIX}a"] * (arity - 1)]
            return bool(await admin.execute_command("ACL", "DRYRUN", "skycap", *words) == b"OK")

        assert [name for name in sorted(in_scripts | by_itself) if not await is_allowed(name)] == []
        assert [name for name in ("flushall", "keys", "shutdown", "sort", "monitor") if await is_allowed(name)] == []
        link = Link.to(server.url.replace("//", "//skycap:secret@") + "?client_name=skycap&db=1")
        assert await link.call("beat", PREFIX, 1000, "nobody", 1) == [b"lost"]
        assert await link.command(*WRITE) == b"OK"
        assert await link.blocking("BLPOP", f"{PREFIX}x", 0.01, timeout=timedelta(seconds=0.01)) is None
        await link.close()


def _commands_in_scripts() -> set[str]:
    folder = files("skycap.engine") / "lua"
    lua = "".join(script.read_text() for script in folder.iterdir())
    found = {name.lower() for name in re.findall(r"redis\.p?call\('(\w+)'", lua)}
    assert {"hset", "zadd", "time"} <= found
    return found


async def test_a_right_that_is_missing_is_named(tmp_path: Path) -> None:
    async with redis_server(tmp_path / "redis") as server, redis_at(server.url) as admin:
        await admin.execute_command("ACL", "SETUSER", "skycap", "on", ">secret", "~skycap:*", "+ping", "+@scripting")
        link = Link.to(server.url.replace("//", "//skycap:secret@"))
        for words, problem in (
            (
                ("GET", "skycap:a"),
                r"GET: NOPERM .* has no permissions to run the 'get' command; grant its user",
            ),
            (WRITE, r"EVAL: .*script.*; grant its user"),
            (("EVAL", "return 1", 1, "others:a"), r"EVAL: .*; grant its user"),
        ):
            with pytest.raises(Unavailable, match=problem):
                await link.command(*words)
        await link.close()


async def test_a_node_of_a_cluster_and_a_server_that_is_none_are_told_apart(tmp_path: Path) -> None:
    async with (
        redis_server(tmp_path / "node", "--cluster-enabled", "yes", "--cluster-port", str(free_port())) as node,
        redis_server(tmp_path / "alone") as alone,
    ):
        link = Link.to(alone.url.replace("redis://", "redis+cluster://"))
        with pytest.raises(ConfigurationError, match=r"this server is no node of a cluster; write redis://"):
            await link.command("GET", f"{PREFIX}a")
        await link.close()
        link = Link.to(node.url.replace("redis://", "redis+cluster://"))
        with pytest.raises(Unavailable, match=r"no node of the cluster owns slot \d+"):
            await link.command("GET", f"{PREFIX}a")
        await link.close()
        link = Link.to(node.url)
        with pytest.raises(Unavailable, match="CLUSTERDOWN"):
            await link.command("GET", f"{PREFIX}a")
        await link.close()
