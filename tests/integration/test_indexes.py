"""``skycap db indexes`` on a real PostgreSQL: while the backend writes, cut off in the midst, and several at once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from skycap.demo.travel import create_travel_tables
from skycap.errors import ConfigurationError, Unavailable
from skycap.index import Index
from skycap.plugin import Plugin
from skycap.registry import Registry
from skycap.services.index_builder import IndexBuilder, Server, Step
from skycap.services.indexes import IndexState, standing, standings
from skycap_travel.indexes import declare_indexes
from tests.support.commands import command
from tests.support.daemons import CLEAN, Site
from tests.support.workers import PATIENCE, eventually

if TYPE_CHECKING:
    from skycap.services.database import Connection

BOOKINGS = Index(name="skycap_test", table="bookings", keys=["userId", "createdAt DESC"], purpose="a test")

ADD_USER = """
    INSERT INTO users (id, email, "updatedAt") VALUES ('u', 'u@example.com', now())
"""
ADD_BOOKING = """
    INSERT INTO bookings (id, "userId", "bookingType", "totalAmount", "paymentMethod", "bookingReference", "updatedAt")
    VALUES ($1, 'u', 'HOTEL', 1, 'CREDIT_CARD', $1, now())
"""


@pytest.fixture
async def backend(database_url: str) -> AsyncGenerator[Connection]:
    connection = await asyncpg.connect(database_url)
    await create_travel_tables(connection)
    await connection.execute(ADD_USER)
    yield connection
    await connection.close()


@pytest.fixture
def site(redis_url: str, database_url: str, tmp_path: Path) -> Site:
    return Site(folder=tmp_path, redis_url=redis_url, database_url=database_url)


@asynccontextmanager
async def transaction_in_the_way(database_url: str) -> AsyncGenerator[asyncio.Event]:
    """A transaction of the backend's that has written; it ends at the end, or when the event is set."""
    release = asyncio.Event()
    connection = await asyncpg.connect(database_url)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(ADD_BOOKING, "in the way")

    async def end() -> None:
        await release.wait()
        await transaction.commit()

    ending = asyncio.create_task(end())
    try:
        yield release
    finally:
        release.set()
        await ending
        await connection.close()


def builder(
    database_url: str, told: list[str] | None = None, *, lock_timeout: timedelta = PATIENCE, attempts: int = 3
) -> IndexBuilder:
    def tell(step: Step) -> None:
        if told is not None:
            told.append(str(step))

    return IndexBuilder(Server(dsn=database_url), lock_timeout=lock_timeout, attempts=attempts, tell=tell)


async def is_waiting_to_build(connection: Connection) -> bool:
    return bool(
        await connection.fetchval("SELECT count(*) FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting%'")
    )


async def indexes_of(connection: Connection, table: str) -> list[str]:
    rows = await connection.fetch(
        "SELECT indexrelid::regclass::text AS name FROM pg_index WHERE indrelid = $1::regclass", table
    )
    return [row["name"] for row in rows]


def travel_indexes() -> list[Index]:
    registry = Registry()
    plugin = Plugin("travel")
    declare_indexes(plugin)
    registry.add(plugin, name="travel", origin="this test")
    return registry.indexes()


async def test_all_that_the_travel_plugins_want_can_be_created_and_is_found_again(
    site: Site, backend: Connection
) -> None:
    names = [index.name for index in travel_indexes()]
    before = (await command("db", "indexes", "--json", "--config", site.config)).json
    assert [(each["name"], each["state"]) for each in before] == [(name, "missing") for name in names]
    assert (await command("db", "indexes", "--check", "--config", site.config)).code == 1
    applied = await command("db", "indexes", "--apply", "--json", "--config", site.config)
    assert applied.code == 0, applied.err
    assert {(each["state"], each["bytes"] > 0, each["scans"]) for each in applied.json} == {("present", True, 0)}
    assert (await command("db", "indexes", "--check", "--config", site.config)).code == 0
    assert (await command("db", "indexes", "--show", "--config", site.config)).out == ""


async def test_what_a_dba_ran_from_show_counts_as_ours(site: Site, backend: Connection) -> None:
    shown = (await command("db", "indexes", "--show", "--config", site.config)).out
    for line in shown.splitlines():
        if not line.startswith("--"):
            await backend.execute(line)
    assert (await command("db", "indexes", "--check", "--config", site.config)).code == 0


@pytest.mark.parametrize(
    "there",
    [
        '("userId", "createdAt" DESC)',
        '("userId", "createdAt")',  # read backwards: which way a column that is only compared goes does not matter
        '("userId" DESC, "createdAt" DESC, id) INCLUDE (status)',
    ],
)
async def test_an_index_of_another_name_that_answers_the_same_queries_is_enough(
    backend: Connection, there: str
) -> None:
    await backend.execute(f"CREATE INDEX theirs ON bookings {there}")
    found = await standing(backend, BOOKINGS)
    assert (found.state, found.note) == (IndexState.COVERED, "by theirs")


@pytest.mark.parametrize(
    "there",
    [
        '("userId")',
        '("createdAt", "userId")',
        '("userId", "createdAt" DESC NULLS LAST)',
        """("userId", "createdAt" DESC) WHERE status = 'PENDING'""",
        '("userId" text_pattern_ops, "createdAt" DESC)',
        '("userId" COLLATE "C", "createdAt" DESC)',
    ],
)
async def test_an_index_that_does_not_answer_the_query_is_not_taken_for_one(backend: Connection, there: str) -> None:
    await backend.execute(f"CREATE INDEX theirs ON bookings {there}")
    assert (await standing(backend, BOOKINGS)).state is IndexState.MISSING


@pytest.mark.parametrize(
    ("where", "state"),
    [
        ("", IndexState.COVERED),
        ("""WHERE status = 'ACTIVE'::"PriceAlertStatus" """, IndexState.COVERED),
        ("WHERE status IN ('ACTIVE', 'TRIGGERED')", IndexState.MISSING),
    ],
)
async def test_conditions_are_compared_as_postgresql_understands_them(
    backend: Connection, where: str, state: IndexState
) -> None:
    await backend.execute(f'CREATE INDEX theirs ON price_alerts ("entityType", "entityId", id) {where}')
    wanted = next(index for index in travel_indexes() if index.name == "skycap_active_price_alerts")
    assert (await standing(backend, wanted)).state is state


async def test_an_index_of_our_name_that_is_defined_otherwise_is_never_touched(site: Site, backend: Connection) -> None:
    await backend.execute("CREATE INDEX skycap_bookings_of_user ON bookings (status)")
    before = await backend.fetchval("SELECT 'skycap_bookings_of_user'::regclass::oid")
    applied = await command("db", "indexes", "--apply", "--config", site.config)
    assert applied.code == 1
    assert "name taken (an index that is defined otherwise has this name)" in applied.out
    assert await backend.fetchval("SELECT 'skycap_bookings_of_user'::regclass::oid") == before


async def test_an_invalid_index_that_is_not_ours_stays(database_url: str, backend: Connection) -> None:
    await backend.execute(f"CREATE INDEX theirs ON bookings {BOOKINGS.definition}")
    await backend.execute("UPDATE pg_index SET indisvalid = FALSE WHERE indexrelid = 'theirs'::regclass")
    assert (await builder(database_url).build(BOOKINGS)).state is IndexState.PRESENT
    assert "theirs" in await indexes_of(backend, "bookings")


async def test_a_table_or_a_column_that_the_backend_does_not_have_is_said_and_stops_nothing(
    site: Site, backend: Connection
) -> None:
    await backend.execute('DROP TABLE hotel_rooms, hotels; ALTER TABLE notifications RENAME "isRead" TO seen')
    applied = await command("db", "indexes", "--apply", "--json", "--config", site.config)
    found = {each["name"]: (each["state"], each["note"]) for each in applied.json}
    assert found["skycap_hotel_search"] == ("no table", "there is none that this role can see")
    assert found["skycap_unread_notifications"] == ("does not fit", 'notifications: column "isRead" does not exist')
    assert found["skycap_bookings_of_user"][0] == "present"
    assert applied.code == 1


async def test_looking_leaves_nothing_behind(database_url: str, backend: Connection) -> None:
    everything = "SELECT count(*) FROM pg_class"
    before = await backend.fetchval(everything)
    async with Server(dsn=database_url).connected() as connection:
        await standings(connection, travel_indexes())
    assert await backend.fetchval(everything) == before


async def test_an_index_is_built_while_the_backend_writes_and_has_every_row(
    database_url: str, backend: Connection
) -> None:
    writing = await asyncpg.connect(database_url)
    count = 0

    async def write_until_built(building: asyncio.Task[Any]) -> None:
        nonlocal count
        while not building.done() or count < 100:
            await writing.execute(ADD_BOOKING, f"b-{count}")
            count += 1

    building = asyncio.create_task(builder(database_url).build(BOOKINGS))
    await write_until_built(building)
    assert (await building).state is IndexState.PRESENT
    await writing.close()
    await backend.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
    by_index = """SELECT count(*) FROM bookings WHERE "userId" = 'u'"""
    assert "skycap_test" in str(await backend.fetch(f"EXPLAIN {by_index}"))
    assert await backend.fetchval(by_index) == count


async def test_a_session_that_is_ended_in_the_midst_leaves_an_invalid_index_which_is_built_anew(
    database_url: str, backend: Connection
) -> None:
    told: list[str] = []
    async with transaction_in_the_way(database_url) as release:
        building = asyncio.create_task(builder(database_url, told).build(BOOKINGS))
        await eventually(lambda: is_waiting_to_build(backend))
        await backend.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_progress_create_index")
        await eventually(lambda: _is(backend, IndexState.INVALID))
        release.set()
        assert (await building).state is IndexState.PRESENT
    assert "skycap_test: drops what an earlier build left behind" in told
    assert any("attempt 1 failed" in each for each in told)
    assert sorted(await indexes_of(backend, "bookings")) == [
        '"bookings_bookingReference_key"',
        "bookings_pkey",
        "skycap_test",
    ]


async def _is(connection: Connection, state: IndexState) -> bool:
    return (await standing(connection, BOOKINGS)).state is state


async def test_a_command_that_is_killed_leaves_the_server_building_and_the_next_one_waits_for_it(
    site: Site, database_url: str, backend: Connection
) -> None:
    first = travel_indexes()[0]
    async with transaction_in_the_way(database_url) as release:
        killed = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "skycap", "db", "indexes", "--apply", "--config", str(site.config)),
            env=CLEAN,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await eventually(lambda: is_waiting_to_build(backend))
        killed.kill()
        await killed.wait()
        assert (await standing(backend, first)).state is IndexState.BUILDING
        before = await backend.fetchval(f"SELECT '{first.name}'::regclass::oid")
        told: list[str] = []
        waiting = asyncio.create_task(builder(database_url, told).build(first))

        async def is_told() -> bool:
            return bool(told)

        await eventually(is_told)
        assert not waiting.done()
        release.set()
        assert (await waiting).state is IndexState.PRESENT
    assert await backend.fetchval(f"SELECT '{first.name}'::regclass::oid") == before


async def test_a_transaction_that_stays_in_the_way_is_named_and_the_build_can_be_resumed(
    database_url: str, backend: Connection
) -> None:
    told: list[str] = []
    hasty = builder(database_url, told, lock_timeout=timedelta(seconds=1), attempts=1)
    async with transaction_in_the_way(database_url):
        with pytest.raises(Unavailable, match="another transaction was in the way for longer than the lock timeout"):
            await hasty.build(BOOKINGS)
    assert any("is in the way" in each for each in told)
    assert await _is(backend, IndexState.INVALID)
    assert (await hasty.build(BOOKINGS)).state is IndexState.PRESENT


async def test_of_several_at_once_one_builds_and_none_stands_in_anothers_way(
    database_url: str, backend: Connection
) -> None:
    other = replace(BOOKINGS, name="skycap_other", keys=["status"])
    wanted = [BOOKINGS, other, BOOKINGS, other]
    found = await asyncio.gather(*(builder(database_url).build(index) for index in wanted))
    assert {each.state for each in found} == {IndexState.PRESENT}


async def test_a_role_that_does_not_own_the_table_is_told_what_to_do(database_url: str, backend: Connection) -> None:
    await backend.execute(
        "CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA public TO reader; "
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader"
    )
    try:
        theirs = database_url.replace("skycap@", "reader@")
        with pytest.raises(ConfigurationError, match=r"must be owner of table bookings.*--show.*as the owner"):
            await builder(theirs).build(BOOKINGS)
    finally:
        await backend.execute("DROP OWNED BY reader; DROP ROLE reader")


async def test_behind_a_pooler_alone_the_direct_address_is_asked_for(site: Site, tmp_path: Path) -> None:
    site.database_url = "postgresql://skycap@localhost:6543/travel?pgbouncer=true"
    refused = await command("db", "indexes", "--config", site.config)
    assert refused.code == 78
    assert "set database.direct_url (DIRECT_URL)" in refused.err
