"""PostgreSQL: reachable, with a role that may do what is needed, and all that is needed there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from skycap.absent_tables import AbsentTables
from skycap.checks.finding import CannotLook, Finding, misconfigured, of_error, ok, warn
from skycap.checks.group import Group
from skycap.checks.installation import Installation
from skycap.errors import Unavailable
from skycap.services.database import DatabasePool
from skycap.services.index_builder import Server
from skycap.services.indexes import IndexState, standings
from skycap.services.migrations import pending
from skycap.services.pooler import ADVICE
from skycap.settings import DatabaseAddress, Settings

OLDEST_POSTGRESQL = 130_000
"""As server_version_num says it."""

_PATIENCE = timedelta(seconds=3)
_SKEW = timedelta(seconds=1)
_LISTENERS = 1
"""Connections of a daemon beside its pool: the one that hears of new rows in the outbox."""

_ROLE = """
    SELECT current_user AS name, rolsuper AS is_super, rolcreatedb OR rolcreaterole AS makes_others,
           has_schema_privilege('public', 'USAGE') AS sees_public,
           has_schema_privilege('public', 'CREATE') AS makes_tables,
           has_database_privilege(current_database(), 'CREATE') AS makes_schemas,
           coalesce(has_schema_privilege(to_regnamespace('skycap'), 'USAGE'), TRUE) AS uses,
           (SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tableowner = current_user) AS owns
    FROM pg_roles WHERE rolname = current_user
"""
_CONNECTIONS = """
    SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS most,
           (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'
                AND application_name NOT LIKE 'skycap%') AS others,
           (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS of_role
"""
_ENCRYPTION = """
    SELECT s.ssl AS is_encrypted, s.version, inet_client_addr() IS NULL OR inet_client_addr() <<= '127.0.0.0/8'
           OR inet_client_addr() = '::1' AS is_here
    FROM pg_stat_ssl AS s WHERE s.pid = pg_backend_pid()
"""
_CLOSED = """
    SELECT name FROM unnest($1::text[]) AS name
    WHERE to_regclass(name) IS NOT NULL AND NOT has_table_privilege(to_regclass(name), 'SELECT')
"""
_STATISTICS = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_stat_statements')"


@dataclass(frozen=True, kw_only=True)
class Postgres:
    """A server that answers; ``direct`` is None where only a transaction pooler is known."""

    installation: Installation
    settings: Settings
    pool: DatabasePool
    is_pooled: bool
    direct: Server | None

    def require_direct(self) -> Server:
        if self.direct is None:
            raise CannotLook("only a pooler is known (database.direct_url is not set)")
        return self.direct

    async def row(self, query: str) -> dict[str, Any]:
        found = await self.pool.fetchrow(query)
        if found is None:
            raise CannotLook("the server says nothing of it")
        return found


@asynccontextmanager
async def _opened(installation: Installation) -> AsyncGenerator[Postgres]:
    settings = installation.require_settings()
    address = settings.database.url
    if address is None:
        raise CannotLook("database.url is not set: jobs that need it wait")
    pool, direct = _pool(address, settings), settings.database.direct
    try:
        is_pooled = await pool.leads_to_a_pooler()
        await pool.ping()
        yield Postgres(
            installation=installation,
            settings=settings,
            pool=pool,
            is_pooled=is_pooled,
            direct=None if direct is None else Server(dsn=direct.dsn, connect_timeout=_PATIENCE, schema=direct.schema),
        )
    finally:
        await pool.close(patience=timedelta(milliseconds=500))


postgresql = Group("postgresql", _opened)


@postgresql.check
async def connection(server: Postgres) -> Finding:
    """It can be reached, and lets us in."""
    took = await server.pool.ping()
    return ok(f"answers within {took.total_seconds() * 1000:.2g} ms")


@postgresql.check
async def direct(server: Postgres) -> Finding:
    """Where a pooler lends sessions, it is named as one, and database.direct_url leads past it."""
    configured = server.settings.database
    if not server.is_pooled:
        return ok("no transaction pooler is in between")
    if configured.direct_url is None:
        return warn("a transaction pooler is in between, and database.direct_url is not set", ADVICE)
    async with server.require_direct().connected():
        pass
    return ok("through a transaction pooler, and past it by database.direct_url")


@postgresql.check
async def version(server: Postgres) -> Finding:
    """It is PostgreSQL 13 or later, and no standby."""
    number, name = (
        int(await server.pool.fetchval("SHOW server_version_num")),
        await server.pool.fetchval("SHOW server_version"),
    )
    if number < OLDEST_POSTGRESQL:
        return misconfigured(f"this is PostgreSQL {name}", "skycap needs 13 or later")
    if await server.pool.fetchval("SELECT pg_is_in_recovery()"):
        return misconfigured(
            "database.url leads to a standby, which takes no writes", "name the primary; standbys are replica_urls"
        )
    return ok(f"PostgreSQL {name}")


@postgresql.check
async def encryption(server: Postgres) -> Finding:
    """A password goes over TLS, or does not leave this host."""
    if server.is_pooled:
        raise CannotLook("a pooler is in between, and only it knows")
    found = await server.row(_ENCRYPTION)
    if not found["is_encrypted"] and not found["is_here"]:
        return warn("the connection is unencrypted", "sslmode=verify-full in database.url, and ssl = on in PostgreSQL")
    return ok(found["version"] if found["is_encrypted"] else "does not leave this host")


@postgresql.check
async def role(server: Postgres) -> list[Finding]:
    """Its role may use the schema skycap, is no superuser, and cannot change the backend's tables."""
    is_ = await server.row(_ROLE)
    found: list[Finding] = []
    if not is_["uses"]:
        found.append(
            misconfigured("the role may not use the schema skycap", "GRANT USAGE ON SCHEMA skycap, and on its tables")
        )
    if not is_["sees_public"]:
        found.append(misconfigured("the role may not use the schema public", "GRANT USAGE ON SCHEMA public TO …"))
    if is_["is_super"]:
        return [*found, warn("the role is a superuser", "CREATE ROLE skycap LOGIN, and GRANT it what it needs")]
    if is_["makes_others"]:
        found.append(warn("the role may create databases or roles", "ALTER ROLE … NOCREATEDB NOCREATEROLE"))
    if is_["makes_tables"]:
        found.append(
            warn(
                "the role may create tables in public", "REVOKE CREATE ON SCHEMA public FROM PUBLIC, and from the role"
            )
        )
    if is_["owns"]:
        found.append(
            warn(f"the role owns {is_['owns']} tables in public, and could drop them", "give skycap a role of its own")
        )
    return found or [ok("no superuser, and changes nothing in public but rows")]


@postgresql.check
async def schema(server: Postgres) -> Finding:
    """The schema skycap is there, and up to date."""
    async with server.require_direct().connected() as connection:
        missing = await pending(connection)
        may_create = await connection.fetchval("SELECT has_database_privilege(current_database(), 'CREATE')")
        is_there = await connection.fetchval("SELECT to_regnamespace('skycap') IS NOT NULL")
    if not missing:
        return ok("up to date")
    if not is_there and not may_create:
        return misconfigured(
            "there is no schema skycap, and the role may not create it", "GRANT CREATE ON DATABASE … TO …"
        )
    if server.settings.database.migrate:
        return ok(f"lacks {len(missing)} migrations, which the next start of a daemon applies")
    return misconfigured(f"lacks {', '.join(missing)}, and database.migrate is false", "run `skycap db migrate`")


@postgresql.check
async def tables(server: Postgres) -> list[Finding]:
    """The backend's tables that kinds of jobs need are there."""
    job_types = server.installation.require_registry().job_types
    absent = AbsentTables(job_types, server.pool)
    await absent.look()
    found = [(each.kind, why) for each in job_types if (why := absent.why_off(each.kind)) is not None]
    if found:
        fix = "let the backend's next release bring it, correct ?schema= in database.url, or leave the kind off"
        return [warn(f"{kind} is off: {why}", fix) for kind, why in found]
    return [ok(f"{len({table for each in job_types for table in each.tables})} tables are there")]


@postgresql.check
async def grants(server: Postgres) -> Finding:
    """Its role may read the backend's tables that kinds of jobs need."""
    job_types = server.installation.require_registry().job_types
    names = sorted({table for each in job_types for table in each.tables})
    closed = [row["name"] for row in await server.pool.fetch(_CLOSED, names)]
    if closed:
        listed = ", ".join(closed)
        return misconfigured(
            f"the role may not read {listed}", f"GRANT SELECT, INSERT, UPDATE, DELETE ON {listed} TO …"
        )
    return ok("what is there may be read")


@postgresql.check
async def indexes(server: Postgres) -> Finding:
    """The indexes that plugins' queries need are there."""
    wanted = server.installation.require_registry().indexes()
    async with server.require_direct().connected(lock_timeout="1s") as connection:
        found = await standings(connection, wanted)
    missing = [each.index.name for each in found if not each.state.is_served]
    if missing:
        return warn(
            f"{len(missing)} of {len(found)} indexes are missing: {', '.join(missing)}", "skycap db indexes --apply"
        )
    there = sum(each.state is not IndexState.NO_TABLE for each in found)
    return ok(f"all {there} are there")


@postgresql.check
async def statistics(server: Postgres) -> Finding:
    """pg_stat_statements is there, by which `skycap db report` finds slow statements."""
    if await server.pool.fetchval(_STATISTICS):
        return ok("pg_stat_statements is there")
    return warn(
        "pg_stat_statements is not there: `skycap db report` cannot name slow statements",
        "shared_preload_libraries = 'pg_stat_statements', restart, and CREATE EXTENSION pg_stat_statements",
    )


@postgresql.check
async def budget(server: Postgres) -> Finding:
    """max_connections has room for the pool of a daemon, and for a second one while they are replaced."""
    if server.is_pooled:
        raise CannotLook("a pooler is in between, which lends sessions")
    found = await server.row(_CONNECTIONS)
    most = found["most"] - found["others"]
    if found["of_role"] >= 0:
        most = min(most, found["of_role"])
    each = server.settings.database.pool_size + _LISTENERS
    says = f"{max(0, most)} connections are free for daemons of {each}"
    if most < 2 * each:
        return warn(says, "raise max_connections, lower database.pool_size, or put a pooler in between")
    return ok(f"{says}: room for {most // each}")


@postgresql.check
async def clock(server: Postgres) -> list[Finding]:
    """Its clock and ours differ by less than a second, and its time zone is UTC, as the backend's columns are."""
    async with server.require_direct().connected() as connection:
        zone = await connection.fetchval("SHOW timezone")
        before = datetime.now(UTC)
        theirs: datetime = await connection.fetchval("SELECT clock_timestamp()")
    skew = theirs - (before + (datetime.now(UTC) - before) / 2)
    found: list[Finding] = []
    if abs(skew) > _SKEW:
        found.append(warn(f"its clock and ours are {abs(skew).total_seconds():.1f} s apart", "keep both in time (NTP)"))
    if zone not in {"UTC", "Etc/UTC", "GMT"}:
        fix = "ALTER DATABASE … SET timezone = 'UTC'"
        found.append(warn(f"its time zone is {zone}, and the backend's columns hold UTC without saying so", fix))
    return found or [ok("in time, and in UTC")]


@postgresql.check
async def replicas(server: Postgres) -> list[Finding]:
    """The standbys of database.replica_urls can be reached, and are standbys."""
    addresses = server.settings.database.replica_urls
    if not addresses:
        raise CannotLook("database.replica_urls is not set")
    return await asyncio.gather(
        *(_replica(f"replica-{number}", each, server.settings) for number, each in enumerate(addresses, 1))
    )


async def _replica(name: str, address: DatabaseAddress, settings: Settings) -> Finding:
    pool = _pool(address, settings)
    try:
        is_standby = await pool.fetchval("SELECT pg_is_in_recovery()")
    except Unavailable as error:
        return of_error(Unavailable(name, error.problem))
    finally:
        await pool.close(patience=timedelta(milliseconds=500))
    if not is_standby:
        return warn(f"{name} is no standby", "name standbys only: what is read there must be the primary's")
    return ok(f"{name} is a standby")


def _pool(address: DatabaseAddress, settings: Settings) -> DatabasePool:
    return DatabasePool(
        dsn=address.dsn,
        size=3,
        connect_timeout=min(_PATIENCE, timedelta(seconds=settings.database.connect_timeout_seconds)),
        pool_timeout=_PATIENCE,
        statement_timeout=_PATIENCE,
        pooled=address.pgbouncer,
    )
