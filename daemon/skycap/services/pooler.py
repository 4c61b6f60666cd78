"""A transaction pooler (PgBouncer, pgcat, Supavisor) between us and the server: how it is found, and what to write."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skycap.services.database_failures import Connection

ADVICE = (
    "write pgbouncer=true in database.url, and the server's own address in database.direct_url: "
    "LISTEN, migrations and CREATE INDEX CONCURRENTLY need it (pgbouncer=false if it keeps sessions together)"
)


async def is_pooled(connection: Connection) -> bool:
    """Whether sessions of the server are lent to us, and perhaps others' next; ``connection`` must cache no statement.

    A server greets with the number of the very process that then tells its own. A pooler greets by itself, before it
    has a session for us, and with a number of its own, since a cancel request has to find the client and not the
    session. What only forwards bytes (HAProxy, a cloud's proxy) passes the server's greeting on, and is none.
    """
    return bool(connection.get_server_pid() != await connection.fetchval("SELECT pg_backend_pid()"))
