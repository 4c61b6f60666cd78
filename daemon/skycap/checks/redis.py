"""Redis: reachable, safe for jobs, and with the rights that a daemon needs and no more."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata

from skycap.checks.certificates import finding_of_end, moment
from skycap.checks.finding import CannotLook, Finding, misconfigured, of_error, ok, unreachable, warn
from skycap.checks.group import Group
from skycap.checks.installation import Installation
from skycap.engine.durability import concern_of_eviction, concern_of_persistence, refuse_old_redis
from skycap.engine.fleet import Fleet
from skycap.engine.information import information
from skycap.engine.link import Link
from skycap.engine.rights import excessive_rights, missing_rights
from skycap.engine.stored import fields_of, text
from skycap.errors import Unavailable
from skycap.settings import RedisAddress, Settings
from skycap.settings.addresses import is_loopback

_SECTIONS = ("server", "clients", "memory", "persistence", "replication")
_PINGS = 100
_PINGS_TAKE = timedelta(seconds=1)
_SLOW = timedelta(milliseconds=100)
_SKEW = timedelta(seconds=1)
_MUCH_MEMORY = 0.8
_SHOWN = 5
_RULE = "give its user the rights that config/README.md lists (ACL SETUSER)"


@dataclass(frozen=True, kw_only=True)
class Redis:
    """A server that answers; ``facts`` are its INFO, and empty where the user may not ask."""

    settings: Settings
    address: RedisAddress
    link: Link
    facts: Mapping[str, str]

    def require_facts(self) -> Mapping[str, str]:
        if not self.facts:
            raise CannotLook("this user of Redis may not give INFO")
        return self.facts

    @property
    def is_here(self) -> bool:
        """Whether no wire leads to it. Of several servers, the first is looked at."""
        return self.address.path is not None or is_loopback(self.address.host)


@asynccontextmanager
async def _opened(installation: Installation) -> AsyncGenerator[Redis]:
    settings = installation.require_settings()
    address = settings.require_redis()
    link = Link.to(address.unmasked)
    try:
        await link.command("EXISTS", "skycap:{check}:nothing")
        yield Redis(settings=settings, address=address, link=link, facts=await information(link, *_SECTIONS))
    finally:
        await link.close()


redis = Group("redis", _opened)


@redis.check
def connection(server: Redis) -> Finding:
    """It can be reached, and lets us in."""
    kind = server.address.url.scheme.partition("+")[2]
    way = "a unix socket" if server.address.path else "TLS" if server.address.tls else "TCP"
    return ok(f"{f'{kind} answers' if kind else 'answers'} over {way}")


@redis.check
def encryption(server: Redis) -> Finding:
    """A password goes over TLS, or does not leave this host."""
    if server.address.tls or server.is_here:
        return ok("over TLS" if server.address.tls else "does not leave this host")
    what = "the password and every job go" if server.address.password else "every job goes"
    return warn(f"{what} over the network unencrypted", "use rediss://, and TLS in Redis (tls-port)")


@redis.check
async def certificate(server: Redis) -> Finding:
    """Its certificate does not end within 14 days."""
    if not server.address.tls:
        raise CannotLook("it is not asked over TLS")
    return finding_of_end("Redis", await _end_of_certificate(server.address))


@redis.check
def version(server: Redis) -> Finding:
    """It is Redis 7.0, Valkey 7.2 or later."""
    facts = server.require_facts()
    refuse_old_redis(facts)
    name, key = ("Valkey", "valkey_version") if "valkey_version" in facts else ("Redis", "redis_version")
    return ok(f"{name} {facts.get(key, 'of an unknown version')}")


@redis.check
def topology(server: Redis) -> Finding:
    """What answers is what the address says: one server, a Sentinel's master, a cluster; and it can be written to."""
    facts, scheme = server.require_facts(), server.address.url.scheme
    mode, is_cluster = facts.get("server_mode") or facts.get("redis_mode"), scheme.endswith("+cluster")
    if mode == "cluster" and not is_cluster:
        return misconfigured("redis.url names one server, which is a node of a cluster", "write redis+cluster://")
    if mode == "sentinel":
        return misconfigured("redis.url leads to a Sentinel", "write redis+sentinel://host:26379/mymaster/0")
    if facts.get("role") == "slave":
        return misconfigured("redis.url leads to a replica, which takes no jobs", "name the master, or Sentinels")
    if is_cluster and mode != "cluster":
        return misconfigured("redis.url names a cluster, and what answers is one server", "write redis://")
    return ok("a cluster" if is_cluster else "a master that Sentinel names" if "sentinel" in scheme else "one server")


@redis.check
async def persistence(server: Redis) -> Finding:
    """Jobs outlive a crash: appendonly yes, written every second or at once."""
    concern = concern_of_persistence(server.require_facts())
    if concern is not None:
        return warn(concern.problem, concern.fix)
    if server.facts.get("aof_last_write_status", "ok") != "ok":
        return unreachable("the append-only file could not be written", "look at the disk of Redis' host, and its log")
    fsync = await _appendfsync(server.link)
    if fsync == "no":
        return warn("appendfsync is no: a power cut loses up to half a minute of jobs", "set appendfsync to everysec")
    return ok(f"appendonly is yes{f', appendfsync {fsync}' if fsync else ''}")


@redis.check
def eviction(server: Redis) -> Finding:
    """A full Redis refuses new jobs instead of deleting old ones: maxmemory-policy noeviction."""
    concern = concern_of_eviction(server.require_facts())
    return ok("maxmemory-policy is noeviction") if concern is None else warn(concern.problem, concern.fix)


@redis.check
def memory(server: Redis) -> Finding:
    """There is room above what it uses."""
    facts = server.require_facts()
    used, most = int(facts.get("used_memory", "0")), int(facts.get("maxmemory", "0"))
    limit, name = (most, "maxmemory") if most else (int(facts.get("total_system_memory", "0")), "its host has")
    if limit and used > _MUCH_MEMORY * limit:
        return warn(
            f"uses {used >> 20} MiB of {limit >> 20} ({name}); when it is full, no job can be enqueued",
            "raise maxmemory, keep finished jobs for less long, or give the cache a Redis of its own",
        )
    return ok(f"uses {used >> 20} MiB of {limit >> 20} ({name})")


@redis.check
async def rights(server: Redis) -> list[Finding]:
    """Its user may do what daemons do, on skycap:*, and nothing dangerous."""
    missing = await missing_rights(server.link)
    excess = await excessive_rights(server.link)
    found: list[Finding] = []
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        found.append(misconfigured(f"its user may not give {', '.join(missing[:_SHOWN])}{more}", _RULE))
    if excess:
        found.append(warn(f"its user may do what no daemon does: {', '.join(excess)}", _RULE))
    return found or [ok("the user may do what is needed, and nothing dangerous")]


@redis.check
async def clock(server: Redis) -> Finding:
    """Its host's clock and ours differ by less than a second."""
    before = datetime.now(UTC)
    seconds, microseconds = await server.link.command("TIME")
    now = before + (datetime.now(UTC) - before) / 2
    skew = datetime.fromtimestamp(int(seconds) + int(microseconds) / 1e6, UTC) - now
    if abs(skew) > _SKEW:
        side = "ahead of" if skew > timedelta(0) else "behind"
        return warn(
            f"its host's clock is {abs(skew).total_seconds():.1f} s {side} ours",
            "keep both in time (NTP): jobs and schedules go by the clock of Redis, logs by ours",
        )
    return ok(f"{abs(skew).total_seconds() * 1000:.0f} ms apart from ours")


@redis.check
def replication(server: Redis) -> Finding:
    """With Sentinel, a master without a replica takes no jobs that it would forget: min-replicas-to-write 1."""
    facts = server.require_facts()
    replicas = int(facts.get("connected_slaves", "0"))
    if "sentinel" not in server.address.url.scheme:
        return ok(f"{replicas} replicas")
    if "min_slaves_good_slaves" not in facts:
        return warn(
            "min-replicas-to-write is 0: a master that is cut off takes jobs, and forgets them when it is replaced",
            "set min-replicas-to-write 1 and min-replicas-max-lag 10 on every node",
        )
    return ok(f"{replicas} replicas, {facts['min_slaves_good_slaves']} of them in step")


@redis.check
async def latency(server: Redis) -> Finding:
    """99 of 100 round trips take less than 100 ms."""
    took: list[float] = []
    ends = time.perf_counter() + _PINGS_TAKE.total_seconds()
    while len(took) < _PINGS and time.perf_counter() < ends:
        began = time.perf_counter()
        await server.link.command("EXISTS", "skycap:{check}:nothing")
        took.append(time.perf_counter() - began)
    took.sort()
    median, worst = (timedelta(seconds=took[int(share * (len(took) - 1))]) for share in (0.5, 0.99))
    says = f"a round trip takes {_ms(median)} ms, and 99 of 100 less than {_ms(worst)} ms"
    return ok(says) if worst < _SLOW else warn(says, "run skycap near Redis; look for slow commands (SLOWLOG GET)")


@redis.check
async def fleet(server: Redis) -> Finding:
    """The daemons that serve this Redis are of this version."""
    ours = metadata.version("skycap")
    daemons = (await Fleet(server.link).now()).daemons.values()
    others = sorted({each.version for each in daemons} - {ours})
    if others:
        hosts = sorted({each.host for each in daemons if each.version != ours})
        return warn(
            f"daemons of {', '.join(others)} run beside {ours}, on {', '.join(hosts)}",
            "upgrade them too, when this one has proved itself",
        )
    return ok(f"{len(daemons)} daemons run, of {ours}" if daemons else "no daemon runs")


@redis.check
async def cache(server: Redis) -> Finding:
    """The Redis of the cache, where it is another one, can be reached."""
    address = server.settings.cache.url
    if address is None:
        raise CannotLook("cache.url is not set: the cache lies in the queue's Redis")
    link = Link.to(address.unmasked)
    try:
        await link.command("EXISTS", "skycap:cache:nothing")
    except Unavailable as error:
        return of_error(Unavailable("the cache's redis", error.problem))
    finally:
        await link.close()
    return ok("answers")


async def _appendfsync(link: Link) -> str:
    """Empty where the user may not ask, as the daemons' may not."""
    with suppress(Unavailable):
        return text(fields_of(await link.command("CONFIG", "GET", "appendfsync")).get("appendfsync", b""))
    return ""


async def _end_of_certificate(address: RedisAddress) -> datetime:
    query = address.url.query
    context = ssl.create_default_context(cafile=query.get("ssl_ca_certs"))
    if "ssl_certfile" in query:
        context.load_cert_chain(query["ssl_certfile"], query.get("ssl_keyfile"))
    host, port = address.host, address.port
    try:
        _, writer = await asyncio.open_connection(host, port, ssl=context, family=socket.AF_UNSPEC)
    except OSError as error:
        # As of a Sentinel that speaks no TLS, while its master does.
        raise CannotLook("the first host of the address shows no certificate that is valid by itself") from error
    try:
        return moment(str(writer.get_extra_info("peercert")["notAfter"]))
    finally:
        writer.transport.abort()


def _ms(duration: timedelta) -> str:
    return f"{duration.total_seconds() * 1000:.2g}"
