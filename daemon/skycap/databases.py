"""What a daemon has of databases, by its settings: the pool, its standbys, and how a job sees them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skycap.services.database import DatabasePool
    from skycap.services.job_database import JobDatabases
    from skycap.services.replicas import Replicas
    from skycap.settings import DatabaseSettings
    from skycap.settings.database import DatabaseAddress

_STATEMENTS = 1000
"""Prepared statements that a connection remembers: the backend's own figure."""


@dataclass(frozen=True, kw_only=True)
class Databases:
    """The daemon's own services ask ``primary`` only; ``replicas`` is None where there are none."""

    primary: DatabasePool
    replicas: Replicas | None
    for_jobs: JobDatabases

    async def close(self) -> None:
        if self.replicas is not None:
            await self.replicas.close()
        await self.primary.close()


def databases_of(configured: DatabaseSettings) -> Databases | None:
    """None where no database is configured; nothing connects before it is used."""
    if configured.url is None:
        return None
    # An installation without PostgreSQL does not pay for asyncpg.
    from skycap.services.database import DatabasePool
    from skycap.services.job_database import JobDatabases
    from skycap.services.migrations import migrate, migrations_over
    from skycap.services.replicas import Replicas

    limits: dict[str, Any] = {
        "size": configured.pool_size,
        "connect_timeout": timedelta(seconds=configured.connect_timeout_seconds),
        "pool_timeout": timedelta(seconds=configured.pool_timeout_seconds),
        "statement_timeout": timedelta(seconds=configured.statement_timeout_seconds),
        "lock_timeout": timedelta(seconds=configured.lock_timeout_seconds),
    }
    direct = configured.direct_url
    prepare = migrate if direct is None else migrations_over(direct.dsn, connect_timeout=limits["connect_timeout"])
    primary = DatabasePool(
        **_way(configured.url),
        **limits,
        slow_query=timedelta(milliseconds=configured.slow_query_ms),
        prepare=prepare if configured.migrate else None,
    )
    standbys = {
        f"replica-{number}": DatabasePool(
            **_way(address), **limits, slow_queries=primary.slow_queries, is_primary=False
        )
        for number, address in enumerate(configured.replica_urls, start=1)
    }
    max_lag = timedelta(seconds=configured.replica_max_lag_seconds)
    replicas = Replicas(primary, standbys, max_lag=max_lag) if standbys else None
    return Databases(primary=primary, replicas=replicas, for_jobs=JobDatabases(primary, replicas))


def _way(address: DatabaseAddress) -> dict[str, Any]:
    size = address.statement_cache_size
    return {
        "dsn": address.dsn,
        "pooled": address.pgbouncer,
        "statement_cache_size": _STATEMENTS if size is None else size,
    }
