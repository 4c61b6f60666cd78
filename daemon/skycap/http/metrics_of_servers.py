"""Metrics of the servers that a daemon depends on, as it sees them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from skycap.observe.families import Family, gauge, number

if TYPE_CHECKING:
    from skycap.engine.server_facts import ServerFacts
    from skycap.services.database import PoolFigures
    from skycap.services.replicas import ReplicaStanding


@dataclass(frozen=True, kw_only=True)
class ServersLook:
    """What is None was not answered in time, or there is none."""

    roundtrips: Mapping[str, timedelta | None]
    """Of each server that is configured: None when it did not answer."""
    redis: ServerFacts | None
    replicas: Sequence[ReplicaStanding] | None
    pools: Mapping[str, PoolFigures]
    ledger_rows: Mapping[str, int] | None


def of_servers(look: ServersLook) -> Iterator[Family]:
    replicas = look.replicas or ()
    roundtrips = {**look.roundtrips, **{replica.name: replica.response_time for replica in replicas}}
    yield gauge(
        "skycap_dependency_up",
        "Whether it answers this daemon within two seconds.",
        ("dependency",),
        [((name,), took is not None) for name, took in roundtrips.items()],
    )
    yield gauge(
        "skycap_dependency_roundtrip_seconds",
        "How long it takes to answer the smallest question.",
        ("dependency",),
        [((name,), took.total_seconds()) for name, took in roundtrips.items() if took is not None],
    )
    yield gauge(
        "skycap_db_replica_lag_seconds",
        "How far a standby is behind, by this daemon's clock.",
        ("replica",),
        [((replica.name,), replica.lag.total_seconds()) for replica in replicas if replica.lag is not None],
    )
    yield from _of_redis(look.redis)
    yield from _of_pools(look.pools)
    yield gauge(
        "skycap_email_ledger_rows",
        "Mails in the ledger that are being handed over (dot), that may or may not have arrived (unknown), or failed.",
        ("state",),
        [((state,), rows) for state, rows in (look.ledger_rows or {}).items()],
    )


def _of_redis(facts: ServerFacts | None) -> Iterator[Family]:
    if facts is None:
        return
    yield number("skycap_redis_used_memory_bytes", "Memory that Redis uses.", facts.used_memory_bytes)
    yield number(
        "skycap_redis_maxmemory_bytes", "Memory that Redis may use; 0: as much as there is.", facts.most_memory_bytes
    )
    yield number(
        "skycap_redis_eviction_policy_safe",
        "1 when Redis deletes no job where its memory is full (maxmemory-policy noeviction).",
        facts.keeps_all,
    )
    yield number(
        "skycap_redis_persistence",
        "1 when Redis keeps an append-only file, so that a crash of it loses a second of jobs at most.",
        facts.is_persistent,
    )


def _of_pools(pools: Mapping[str, PoolFigures]) -> Iterator[Family]:
    yield gauge(
        "skycap_db_pool_connections",
        "Connections of this daemon to the database.",
        ("database", "state"),
        [
            ((name, state), connections)
            for name, pool in pools.items()
            for state, connections in (("used", pool.used), ("idle", pool.idle))
        ],
    )
    yield gauge(
        "skycap_db_pool_max_connections",
        "As many as there may be at once; who wants one more waits.",
        ("database",),
        [((name,), pool.most) for name, pool in pools.items()],
    )
