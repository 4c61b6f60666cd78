"""What `skycap check` says of Redis, on real servers with right and with wrong settings."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from skycap.checks.installation import Installation
from skycap.checks.redis import redis
from skycap.engine.fleet import Fleet, Presence
from skycap.engine.link import Link
from skycap.engine.rights import DIRECT, needed_commands
from skycap.exits import Exit
from tests.support.checks import installation, told
from tests.support.redis import redis_at
from tests.support.redis_servers import RedisServer, cluster, free_port, proxy, redis_server, sentinel, tls_redis
from tests.support.redis_users import RULE_OF_DAEMONS

ROOT = Path(__file__).resolve().parents[2]
SECRET = "s3cret-of-redis"
DURABLE = ("--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory", "100mb")


def at(url: str, **variables: str) -> Installation:
    return installation({"SKYCAP_REDIS_URL": url, **variables})


def as_user(server: RedisServer, name: str) -> str:
    return f"redis://{name}:{SECRET}@127.0.0.1:{server.port}"


async def make_user(server: RedisServer, name: str, *rule: str) -> None:
    async with redis_at(server.url) as admin:
        await admin.execute_command("ACL", "SETUSER", name, "on", f">{SECRET}", *rule)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[RedisServer]:
    async with redis_server(tmp_path / "redis", *DURABLE) as server:
        yield server


async def test_a_server_as_it_should_be_is_ok(server: RedisServer) -> None:
    await make_user(server, "skycap", *RULE_OF_DAEMONS.split())
    found = await told(redis, at(as_user(server, "skycap")))
    assert {name for name in found if found.status(name) != "ok"} == {"certificate", "cache"}
    assert {found.status(name) for name in ("certificate", "cache")} == {"skipped"}
    assert found.line("persistence") == "ok: appendonly is yes"  # CONFIG is not for daemons
    assert SECRET not in repr(found)


async def test_settings_that_lose_jobs_are_warned_of(server: RedisServer) -> None:
    async with redis_at(server.url) as admin:
        await admin.config_set("maxmemory-policy", "allkeys-lru")
        await admin.config_set("appendfsync", "no")
        await admin.config_set("maxmemory", 1_200_000)
        lax = await told(redis, at(server.url))
        await admin.config_set("appendonly", "no")
        none = await told(redis, at(server.url))
    assert lax.line("eviction").startswith("warn: maxmemory-policy is allkeys-lru")
    assert lax.line("persistence").startswith("warn: appendfsync is no")
    assert lax.line("memory").startswith("warn: uses 1 MiB of 1 (maxmemory)")
    assert none.line("persistence").startswith("warn: appendonly is no")
    assert lax.line("rights") == (
        "warn: its user may do what no daemon does: ACL, CONFIG, DEBUG, FLUSHALL, SHUTDOWN, writing keys outside of "
        "skycap:* -> give its user the rights that config/README.md lists (ACL SETUSER)"
    )


async def test_a_user_without_rights_is_told_which(server: RedisServer) -> None:
    rule = [word for word in RULE_OF_DAEMONS.split() if word != "+info"]
    await make_user(server, "small", *rule, "-blpop", "-zpopmin")
    found = await told(redis, at(as_user(server, "small")))
    assert found.line("rights").startswith("fail: its user may not give BLPOP, ZPOPMIN -> ")
    assert found.one("rights").exit_code is Exit.CONFIGURATION
    assert found.line("version") == "skipped: this user of Redis may not give INFO"


async def test_a_wrong_password_is_a_mistake_in_the_configuration(server: RedisServer) -> None:
    found = await told(redis, at(f"redis://skycap:{SECRET}@127.0.0.1:{server.port}"))
    assert found.line("connection").startswith("fail: redis: its user or password is refused -> correct the user")
    assert found.one("connection").exit_code is Exit.CONFIGURATION
    assert found.line("rights") == "skipped: redis.connection failed"
    assert SECRET not in repr(found)


async def test_a_server_that_is_away_or_silent_is_unreachable(server: RedisServer) -> None:
    away = await told(redis, at(f"redis://127.0.0.1:{free_port()}"))
    async with proxy(server.url) as between:
        between.go_silent()
        silent = await told(redis, at(between.url), limit_seconds=0.3)
        between.speak()
    assert away.line("connection").startswith("fail: redis: Connection refused -> start it")
    assert silent.line("connection").startswith("fail: no answer within 0.3 s")
    assert {each.one("connection").exit_code for each in (away, silent)} == {Exit.UNAVAILABLE}


async def test_what_is_slow_and_what_another_version_runs_is_warned_of(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = Link.to(server.url)
    other = Presence(
        id="web-2:1:a", host="web-2", process=1, version="99.0", python="3.13", started_at=datetime.now(UTC)
    )
    await Fleet(link).tell(other)
    await link.close()
    monkeypatch.setattr("skycap.checks.redis._SLOW", timedelta(0))
    found = await told(redis, at(server.url))
    assert found.line("fleet").startswith("warn: daemons of 99.0 run beside ")
    assert found.status("latency") == "warn"


async def test_another_topology_than_the_address_says_is_a_mistake(tmp_path: Path) -> None:
    async with sentinel(tmp_path) as guarded:
        by_sentinel = await told(redis, at(guarded.url))
        to_the_sentinel = await told(redis, at(guarded.sentinel_url))
        replica = await told(redis, at(f"redis://:secret@127.0.0.1:{guarded.replica.port}"))
        async with redis_at(f"redis://:secret@127.0.0.1:{guarded.master.port}") as admin:
            await admin.config_set("min-replicas-to-write", 1)
        safe = await told(redis, at(guarded.url))
    assert by_sentinel.line("topology") == "ok: a master that Sentinel names"
    assert by_sentinel.line("replication").startswith("warn: min-replicas-to-write is 0")
    assert safe.line("replication") == "ok: 1 replicas, 1 of them in step"
    assert replica.line("topology").startswith("fail: redis.url leads to a replica")
    assert to_the_sentinel.status("connection") == "fail"


async def test_a_cluster_is_understood_and_a_node_alone_is_not(tmp_path: Path) -> None:
    async with cluster(tmp_path) as sharded:
        found = await told(redis, at(sharded.url))
        node = await told(redis, at(sharded.nodes[0].url))
    assert (found.line("topology"), found.status("rights")) == ("ok: a cluster", "warn")
    assert "node of a cluster" in repr(node)
    assert "redis+cluster://" in repr(node)


async def test_certificates_and_what_goes_over_the_wire(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tls_redis(server.url, tmp_path) as encrypted:
        address = f"{encrypted.address}?ssl_ca_certs={encrypted.ca_file}"
        good = await told(redis, at(address))
        strange = await told(redis, at(encrypted.address))
        monkeypatch.setattr("skycap.checks.redis.is_loopback", str.isspace)  # no host is
        bare = await told(redis, at(server.url))
    assert (good.status("encryption"), good.status("certificate")) == ("ok", "ok")
    assert good.line("connection") == "ok: answers over TLS"
    assert strange.line("connection").startswith("fail: redis: its certificate is refused")
    assert bare.line("encryption").startswith("warn: every job goes over the network unencrypted")


async def test_a_certificate_that_ends_soon_is_warned_of(server: RedisServer, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate: Any = authority.issue_cert("127.0.0.1", not_after=datetime.now(UTC) + timedelta(days=5))
    certificate.configure_cert(context)
    async with proxy(server.url, context=context) as front:
        found = await told(redis, at(f"{front.url}?ssl_ca_certs={tmp_path / 'ca.pem'}"))
    assert "Redis: the certificate ends on" in found.line("certificate")
    assert found.line("certificate").startswith("warn")


async def test_a_cache_of_its_own_is_looked_at(server: RedisServer) -> None:
    there = await told(redis, at(server.url, SKYCAP_CACHE_URL=server.url))
    away = await told(redis, at(server.url, SKYCAP_CACHE_URL=f"redis://127.0.0.1:{free_port()}"))
    assert there.line("cache") == "ok: answers"
    assert away.line("cache").startswith("fail: the cache's redis: Connection refused")


def test_what_daemons_ask_of_redis_is_what_their_rights_are_held_to() -> None:
    """In scripts, and outside of them, where commands are written in capitals."""
    without_keys = {"CLUSTER", "EVAL", "EVALSHA", "INFO", "SCRIPT"}
    asked = re.compile(r'(?:command|blocking)\(\s*"([A-Z]+)"|\[\("([A-Z]+)",')
    files = [*(ROOT / "daemon" / "skycap" / "engine").glob("*.py"), ROOT / "daemon/skycap/services/cache_store.py"]
    found = {name for file in files for names in asked.findall(file.read_text()) for name in names if name}
    assert {"BLPOP", "HGETALL", "XREAD"} <= found
    assert found - without_keys <= {*needed_commands()}
    assert {"HSET", "ZADD", "XADD"} <= {*needed_commands()} - {*DIRECT}
