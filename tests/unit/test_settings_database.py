"""PostgreSQL's address as the backend's admins have it: with Prisma's parameters, which asyncpg would stumble over."""

from __future__ import annotations

import asyncpg
import pytest
from pydantic import ValidationError

from skycap.settings import DatabaseAddress, DatabaseSettings

PASTED = (
    "postgresql://user:pass@host:5432/db"
    "?connection_limit=7&pool_timeout=11&connect_timeout=6&statement_cache_size=1000&pgbouncer=true"
)


def test_prismas_parameters_are_understood_and_taken_out() -> None:
    address = DatabaseAddress.parse(PASTED)
    assert address.dsn == "postgresql://user:pass@host:5432/db"
    assert address.pgbouncer
    assert address.connection_limit == 7
    assert address.pool_timeout_seconds == 11
    assert address.connect_timeout_seconds == 6


def test_a_transaction_pooler_keeps_no_prepared_statement() -> None:
    assert DatabaseAddress.parse(PASTED).statement_cache_size == 0
    assert DatabaseAddress.parse("postgresql://h/db?statement_cache_size=1000").statement_cache_size == 1000
    assert DatabaseAddress.parse("postgresql://h/db").statement_cache_size is None


def test_limits_of_the_address_hold_where_no_key_is_set() -> None:
    url = "postgresql://h/db?connection_limit=7&pool_timeout=11&connect_timeout=6&socket_timeout=12"
    database = DatabaseSettings.model_validate({"url": url, "pool_size": 3})
    assert database.pool_size == 3
    assert database.pool_timeout_seconds == 11
    assert database.connect_timeout_seconds == 6
    assert database.statement_timeout_seconds == 12


def test_no_limit_in_prisma_leaves_skycaps_own() -> None:
    database = DatabaseSettings.model_validate({"url": "postgresql://h/db?connect_timeout=0&pool_timeout=0"})
    assert (database.connect_timeout_seconds, database.pool_timeout_seconds) == (5, 10)


@pytest.mark.parametrize(
    ("text", "dsn"),
    [
        ("postgres://h/db", "postgres://h/db"),
        ("postgresql://h/db?schema=public", "postgresql://h/db"),
        ("postgresql://h/db?sslmode=require&schema=public", "postgresql://h/db?sslmode=require"),
        ("postgresql:///db?host=/run/postgresql", "postgresql:///db?host=%2Frun%2Fpostgresql"),
        ("postgresql://a:5432,b:5433/db?target_session_attrs=primary", None),
        ("postgresql://u:p%40%2F@h/db?application_name=skycap", None),
        ("postgresql://h/db?options=-c%20geqo%3Doff", None),
        # Prisma's sslcert is the authority that signed the server's certificate; libpq's is the client's own.
        ("postgresql://h/db?sslcert=/ca.pem", "postgresql://h/db?sslrootcert=%2Fca.pem"),
        ("postgresql://h/db?sslcert=/me.pem&sslkey=/me.key", "postgresql://h/db?sslcert=%2Fme.pem&sslkey=%2Fme.key"),
    ],
)
def test_what_asyncpg_understands_is_kept(text: str, dsn: str | None) -> None:
    assert DatabaseAddress.parse(text).dsn == (dsn or text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("postgresql://h/db?pgbounce=true", "the parameter pgbounce is not understood; leave it out"),
        ("postgresql://h/db?sslaccept=strict", "sslaccept is not understood; write sslmode=verify-full for strict"),
        (
            "postgresql://h/db?channel_binding=require",
            "channel_binding is not understood; leave it out, asyncpg has no",
        ),
        ("postgresql://h/db?sslmode=on", "sslmode is none of disable, allow, prefer, require, verify-ca, verify-full"),
        ("postgresql://h/db?connection_limit=0", "connection_limit is no whole number from 1"),
        ("postgresql://h/db?connection_limit=many", "connection_limit is no whole number from 1"),
        ("postgresql://h/db?pgbouncer=yes", "pgbouncer is neither true nor false"),
        ("prisma://accelerate.prisma-data.net/?api_key=hunter2", "is spoken by Prisma's own client only"),
        ("sqlite:///db", "the scheme sqlite:// is not understood"),
        ("postgresql://u:hunter/2@h/db", "in a password write"),
    ],
)
def test_what_nobody_understands_is_named(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as raised:
        DatabaseAddress.parse(text)
    assert "hunter" not in str(raised.value)


async def test_postgresql_is_reached_by_what_is_left_for_asyncpg(database_url: str) -> None:
    pasted = f"{database_url}{'&' if '?' in database_url else '?'}connection_limit=7&pgbouncer=true&schema=public"
    connection = await asyncpg.connect(DatabaseAddress.parse(f"{pasted}&application_name=skycap%20test").dsn)
    try:
        assert await connection.fetchval("SHOW application_name") == "skycap test"
    finally:
        await connection.close()


def test_listening_goes_past_the_pooler() -> None:
    pooler, server = "postgresql://h:6543/db?pgbouncer=true", "postgresql://h:5432/db"

    def direct(**urls: str) -> str | None:
        address = DatabaseSettings.model_validate(urls).direct
        return None if address is None else address.dsn

    assert direct() is None
    assert direct(url=server) == server
    assert direct(url=pooler) is None
    assert direct(url=pooler, direct_url=server) == server


def test_a_direct_address_that_is_a_pooler_is_refused() -> None:
    with pytest.raises(ValidationError, match="says pgbouncer=true, so it is not direct"):
        DatabaseSettings.model_validate({"direct_url": "postgresql://h:6543/db?pgbouncer=true"})


def test_the_password_is_not_shown() -> None:
    address = DatabaseAddress.parse("postgresql://app:hunter2@h/db?sslmode=require&sslpassword=hunter2&user=app")
    assert str(address) == "postgresql://app:***@h/db?sslmode=require&sslpassword=***&user=app"
    assert "hunter2" in address.unmasked


def test_replicas_are_a_list_of_addresses_whose_passwords_are_not_shown() -> None:
    database = DatabaseSettings.model_validate(
        {"replica_urls": ["postgresql://app:hunter2@r1/db", "postgresql://r2/db"]}
    )
    assert [address.dsn for address in database.replica_urls] == [
        "postgresql://app:hunter2@r1/db",
        "postgresql://r2/db",
    ]
    assert "hunter2" not in repr(database) + database.model_dump_json()
    with pytest.raises(ValidationError, match="pgbounce is not understood"):
        DatabaseSettings.model_validate({"replica_urls": ["postgresql://r1/db?pgbounce=true"]})


def test_a_pooler_can_be_said_ruled_out_or_left_to_be_found_out() -> None:
    said = {text: DatabaseAddress.parse(f"postgresql://h/db{text}").pgbouncer for text in ("", "?pgbouncer=false")}
    assert said == {"": None, "?pgbouncer=false": False}
