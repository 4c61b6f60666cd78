"""What `skycap check` says of PostgreSQL, on real servers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import asyncpg
import pytest

from skycap.checks.installation import Installation
from skycap.checks.postgresql import postgresql
from skycap.demo.travel import create_travel_tables
from skycap.exits import Exit
from skycap.services.migrations import migrate
from tests.support.checks import Told, installation, told
from tests.support.pgbouncer import pgbouncer
from tests.support.postgres_servers import postgres_server

LEAST = """
    CREATE ROLE check_least LOGIN;
    GRANT USAGE ON SCHEMA skycap TO check_least;
    GRANT SELECT ON skycap.migrations TO check_least;
    GRANT USAGE ON SCHEMA public TO check_least;
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO check_least;
"""


def at(url: str, **variables: str) -> Installation:
    return installation({"SKYCAP_DATABASE_URL": url, **variables})


def as_role(url: str, role: str) -> str:
    return url.replace("//skycap@", f"//{role}@", 1)


@pytest.fixture
async def travel(database_url: str) -> AsyncGenerator[Any]:
    """A connection of an admin to a database with all tables; what roles it makes are gone at the end."""
    connection = await asyncpg.connect(database_url)
    try:
        await create_travel_tables(
            connection
        )  # before there is a schema of the role's own name, to which they would go
        await migrate(connection)
        await connection.execute(LEAST)
        yield connection
        await connection.execute("DROP OWNED BY check_least CASCADE; DROP ROLE check_least")
    finally:
        await connection.close()


async def test_a_server_as_it_should_be_is_ok(travel: Any, database_url: str) -> None:
    await travel.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    try:
        found = await told(postgresql, at(as_role(database_url, "check_least")))
    finally:
        await travel.execute("DROP EXTENSION pg_stat_statements")
    not_ok = {name: found.line(name) for name in found if found.status(name) != "ok"}
    assert {*not_ok} == {"replicas", "indexes"}, not_ok
    assert found.line("schema") == "ok: up to date"
    assert found.line("tables").endswith("tables are there")
    assert found.line("encryption") == "ok: does not leave this host"
    assert found.line("replicas") == "skipped: database.replica_urls is not set"


async def test_a_role_that_may_too_much_is_warned_of(travel: Any, database_url: str) -> None:
    by_admin = await told(postgresql, at(database_url))
    await travel.execute(
        "ALTER ROLE check_least CREATEDB; GRANT CREATE ON SCHEMA public TO check_least;"
        "ALTER TABLE users OWNER TO check_least; REVOKE USAGE ON SCHEMA skycap FROM check_least;"
        "REVOKE SELECT ON bookings, hotels FROM check_least"
    )
    found = await told(postgresql, at(as_role(database_url, "check_least")))
    assert by_admin.line("role").startswith("warn: the role is a superuser")
    assert found.line("grants").startswith("fail: the role may not read bookings, hotels -> GRANT SELECT")
    said = [f"{each.status}: {each.says}" for each in found["role"]]
    assert said == [
        "fail: the role may not use the schema skycap",
        "warn: the role may create databases or roles",
        "warn: the role may create tables in public",
        "warn: the role owns 1 tables in public, and could drop them",
    ]


async def test_what_is_missing_in_the_database_is_named(travel: Any, database_url: str) -> None:
    await travel.execute("DROP TABLE price_alerts CASCADE; ALTER DATABASE skycap SET timezone = 'Europe/Istanbul'")
    await travel.execute("DELETE FROM skycap.migrations WHERE name = (SELECT max(name) FROM skycap.migrations)")
    try:
        found = await told(postgresql, at(database_url, SKYCAP_DATABASE_POOL_SIZE="1000"))
        not_by_itself = await told(postgresql, at(database_url, SKYCAP_DATABASE_MIGRATE="false"))
    finally:
        await travel.execute("ALTER DATABASE skycap RESET timezone")
    off = [each.says for each in found["tables"]]
    assert "check-price-alerts is off: the database has no table price_alerts" in off
    assert found.line("indexes").endswith("-> skycap db indexes --apply")
    assert found.line("schema") == "ok: lacks 1 migrations, which the next start of a daemon applies"
    assert found.line("budget").startswith("warn: ")
    assert found.line("statistics").startswith("warn: pg_stat_statements is not there")
    assert found.line("clock").startswith("warn: its time zone is Europe/Istanbul")
    assert not_by_itself.one("schema").exit_code is Exit.CONFIGURATION
    assert "run `skycap db migrate`" in not_by_itself.line("schema")


async def test_a_schema_that_the_role_cannot_make_is_a_mistake(travel: Any, database_url: str) -> None:
    await travel.execute("DROP SCHEMA skycap CASCADE")
    found = await told(postgresql, at(as_role(database_url, "check_least")))
    assert found.line("schema").startswith("fail: there is no schema skycap, and the role may not create it -> GRANT")


async def test_a_server_that_is_away_or_refuses_us_says_so(database_url: str) -> None:
    away = await told(postgresql, at("postgresql://skycap:s3cret@127.0.0.1:1/travel"))
    stranger = await told(postgresql, at(as_role(database_url, "nobody-that-is-known")))
    assert away.line("connection").startswith("fail: database: Connection refused -> start it")
    assert away.one("connection").exit_code is Exit.UNAVAILABLE
    assert stranger.line("connection").startswith("fail: database: the server refused the log-in (28000) -> correct")
    assert stranger.one("connection").exit_code is Exit.CONFIGURATION
    assert {stranger.status(name) for name in stranger if name != "connection"} == {"skipped"}
    assert "s3cret" not in repr(away)


async def test_a_pooler_needs_a_way_past_it(database_url: str) -> None:
    async with pgbouncer(database_url) as pooled:
        alone = await told(postgresql, at(pooled))
        both = await told(postgresql, at(pooled, SKYCAP_DATABASE_DIRECT_URL=database_url))
        marked = await told(postgresql, at(f"{pooled}?pgbouncer=true"))
    assert alone.line("direct").startswith("warn: a transaction pooler is in between")
    assert both.line("direct").startswith("ok: through a transaction pooler, and past it")
    assert (both.status("schema"), both.status("encryption"), both.status("budget")) == ("ok", "skipped", "skipped")
    assert marked.line("schema").startswith("skipped: only a pooler is known")


async def test_an_unencrypted_way_is_warned_of(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers of the tests listen on no network, so the answer is given."""
    far = "SELECT FALSE AS is_encrypted, NULL AS version, FALSE AS is_here"
    monkeypatch.setattr("skycap.checks.postgresql._ENCRYPTION", far)
    assert (await told(postgresql, at(database_url))).line("encryption").startswith("warn: the connection is un")


async def test_an_old_server_is_refused(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skycap.checks.postgresql.OLDEST_POSTGRESQL", 990_000)
    assert (await told(postgresql, at(database_url))).line("version").startswith("fail: this is PostgreSQL")


async def test_standbys_are_told_from_primaries() -> None:
    async with postgres_server() as primary, primary.standby() as standby:
        found = await told(postgresql, at(primary.url, SKYCAP_DATABASE_REPLICA_URLS=f"{standby.url},{primary.url}"))
        await primary.stop()
        backwards = await told(postgresql, at(standby.url, SKYCAP_DATABASE_REPLICA_URLS=primary.url))
    assert _lines(found, "replicas") == ["ok: replica-1 is a standby", "warn: replica-2 is no standby"]
    assert backwards.line("version").startswith("fail: database.url leads to a standby")
    assert backwards.line("replicas").startswith("fail: replica-1: ")


def _lines(found: Told, check: str) -> list[str]:
    return [f"{each.status}: {each.says}" for each in found[check]]
