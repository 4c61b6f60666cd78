"""skycap's own plugin: what its tables keep, for how long, and that statistics are made fresh."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from email import message_from_bytes
from email.policy import default as default_policy
from pathlib import Path

import asyncpg
import pytest
from pydantic import ValidationError

from skycap import AsyncClient, JobState
from skycap.demo.mailbox import Mailbox
from skycap.housekeeping import (
    AnalyzeStaleTables,
    HousekeepingSettings,
    MakeDatabaseReport,
    TidyRecords,
    analyze_stale_tables,
    make_database_report,
    tidy_records,
)
from skycap.services.database import DatabasePool
from skycap.services.migrations import migrate
from skycap.testing import Performed, perform
from tests.support.daemons import Site
from tests.support.mails import TEMPLATES
from tests.support.workers import PATIENCE

ADD_MAIL = """
    INSERT INTO skycap.mail_ledger
        (key, message_id, kind, job_id, claim, recipient_hash, template, state, smtp_text, locale, updated_at)
    VALUES ($1, $1, 'send-email', 'j', 1, 'hash', 't', $2, '250 queued', 'tr', now() - $3::interval)
"""


@pytest.fixture
async def database(database_url: str) -> AsyncGenerator[DatabasePool]:
    pool = DatabasePool(dsn=database_url, size=2)
    yield pool
    await pool.close()


@pytest.fixture
async def migrated(database: DatabasePool, database_url: str) -> DatabasePool:
    connection = await asyncpg.connect(database_url)
    await migrate(connection)
    await connection.close()
    return database


async def tidy(database: DatabasePool, **settings: float) -> Performed:
    configured = HousekeepingSettings.model_validate(settings)
    return await perform(tidy_records, TidyRecords(), settings=configured, db=database)


async def test_of_an_old_mail_its_outcome_is_kept_and_of_a_very_old_one_nothing(migrated: DatabasePool) -> None:
    for name, state, days in (
        ("young", "sent", 89),
        ("old", "failed", 91),
        ("very old", "sent", 731),
        ("in doubt", "unknown", 5000),
        ("under way", "dot", 5000),
        ("put off", "deferred", 5000),
    ):
        await migrated.execute(ADD_MAIL, name, state, timedelta(days=days))
    done = await tidy(migrated)
    assert done.result == {
        "mailsForgotten": 1,
        "mailsBlanked": 1,
        "linksForgotten": 0,
        "suppressionsForgotten": 0,
    }
    rows = await migrated.fetch("SELECT key, smtp_text, locale, recipient_hash, state FROM skycap.mail_ledger")
    left = {row["key"]: (row["smtp_text"], row["locale"], row["recipient_hash"], row["state"]) for row in rows}
    kept = ("250 queued", "tr", "hash")
    assert left == {
        "young": (*kept, "sent"),
        "old": (None, None, "hash", "failed"),
        "in doubt": (*kept, "unknown"),
        "under way": (*kept, "dot"),
        "put off": (*kept, "deferred"),
    }
    assert sum((await tidy(migrated)).result.values()) == 0


async def test_more_than_one_batch_goes_and_nothing_where_records_are_kept_for_ever(migrated: DatabasePool) -> None:
    await migrated.execute(
        """
        INSERT INTO skycap.unsubscribe_links (token_hash, plugin, who, created_at)
        SELECT n::text, 'p', '{}', now() - CASE WHEN n <= 2500 THEN INTERVAL '4 years' ELSE INTERVAL '1 day' END
        FROM generate_series(1, 2600) AS n
        """
    )
    assert (await tidy(migrated, unsubscribe_links_days=0)).result["linksForgotten"] == 0
    assert (await tidy(migrated)).result["linksForgotten"] == 2500
    assert await migrated.fetchval("SELECT count(*) FROM skycap.unsubscribe_links") == 100


async def test_a_suppression_that_ended_long_ago_is_forgotten_and_one_without_an_end_never(
    migrated: DatabasePool,
) -> None:
    await migrated.execute(
        """
        INSERT INTO skycap.mail_suppressions (recipient_hash, reason, is_effective, expires_at)
        VALUES ('ended', 'bounce', TRUE, now() - INTERVAL '91 days'),
            ('lately', 'bounce', TRUE, now() - INTERVAL '1 day'), ('for ever', 'complaint', TRUE, NULL)
        """
    )
    assert (await tidy(migrated)).result["suppressionsForgotten"] == 1
    left = {row["recipient_hash"] for row in await migrated.fetch("SELECT * FROM skycap.mail_suppressions")}
    assert left == {"lately", "for ever"}


async def test_without_skycaps_tables_there_is_nothing_to_tidy(database: DatabasePool) -> None:
    assert (await tidy(database)).result == {}


async def analyze(database: DatabasePool) -> Performed:
    return await perform(analyze_stale_tables, AnalyzeStaleTables(), settings=HousekeepingSettings(), db=database)


async def change_much(database: DatabasePool, table: str) -> None:
    await database.execute(f'CREATE TABLE "{table}" (id INTEGER) WITH (autovacuum_enabled = off)')
    # One connection at a time, so that both statements have the same: what it counted must be known to the others.
    async with database.transaction() as transaction:
        await transaction.execute(f'INSERT INTO "{table}" SELECT generate_series(1, 20000)')
        await transaction.execute("SELECT pg_stat_force_next_flush()")


async def test_a_table_that_changed_much_is_analysed_once(database: DatabasePool) -> None:
    await change_much(database, "Odd table")
    assert (await analyze(database)).result == {"analyzed": ['public."Odd table"'], "skipped": []}
    assert await database.fetchval("SELECT reltuples FROM pg_class WHERE relname = 'Odd table'") == 20_000
    assert (await analyze(database)).result == {"analyzed": [], "skipped": []}


async def test_a_table_that_somebody_is_at_is_skipped(database: DatabasePool) -> None:
    await change_much(database, "busy")
    async with database.transaction() as theirs:
        await theirs.execute("LOCK TABLE busy IN SHARE UPDATE EXCLUSIVE MODE")
        assert (await analyze(database)).result == {"analyzed": [], "skipped": ["public.busy"]}


async def report(database: DatabasePool, *to: str) -> Performed:
    settings = HousekeepingSettings(report_to=to)
    return await perform(make_database_report, MakeDatabaseReport(), settings=settings, db=database)


async def test_the_report_is_mailed_to_nobody_who_did_not_ask_for_it(migrated: DatabasePool) -> None:
    done = await report(migrated)
    assert done.mails == []
    assert done.result["databaseBytes"] > 0


async def test_whoever_asked_gets_one_mail_a_day_with_queues_mails_and_the_database(migrated: DatabasePool) -> None:
    await migrated.execute(ADD_MAIL, "failed today", "failed", timedelta(hours=1))
    await migrated.execute(ADD_MAIL, "failed long ago", "failed", timedelta(days=2))
    await migrated.execute(ADD_MAIL, "in doubt", "unknown", timedelta(days=2))
    await migrated.execute("CREATE TABLE <script> (id INTEGER)".replace("<script>", '"<script>"'))
    await migrated.execute('CREATE INDEX "<b>" ON "<script>" (id); CREATE INDEX "<i>" ON "<script>" (id)')
    done = await report(migrated, "ops@example.com", "dba@example.com")
    assert [mail.to for mail in done.mails] == ["ops@example.com", "dba@example.com"]
    mail, other = done.mails
    assert mail.key is not None
    assert mail.key.startswith("operations-report:20")
    assert mail.key != other.key
    rendered = TEMPLATES.render(mail.template, locale=mail.locale, variables=mail.variables)
    assert "Dead letters: 0. Mails that failed since yesterday: 1, in doubt: 1." in rendered.text
    assert "- scheduled: 0 waiting, 0 later, 1 running, 0 dead letters" in rendered.text
    assert '- "<i>": does the same as "<b>"' in rendered.text
    assert "<i>" not in rendered.html
    assert "&lt;i&gt;" in rendered.html
    assert "Not seen: slow statements: run CREATE EXTENSION" in rendered.text


async def test_a_daemon_mails_how_its_queues_stand(
    migrated: DatabasePool, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with Mailbox(tmp_path / "m", username="u", password="p") as mailbox, AsyncClient(redis_url) as client:
        site = Site(folder=tmp_path, redis_url=redis_url, database_url=database_url, mailbox=mailbox)
        site.extra["plugins.housekeeping"] = {"report_to": ["ops@example.com"]}
        await client.queue("processing").pause()
        async with site.daemon():
            enqueued = await client.enqueue(MakeDatabaseReport())
            job = await client.wait(enqueued.job_id, queue="scheduled", timeout=PATIENCE)
        assert job is not None
        assert job.state is JobState.COMPLETED, job.errors
    (received,) = mailbox.received
    assert received.recipient == "ops@example.com"
    message = message_from_bytes(received.file.read_bytes(), policy=default_policy)
    body = message.get_body(("plain",))
    assert body is not None
    text = str(body.get_content())
    assert "- processing: 0 waiting, 0 later, 0 running, 0 dead letters, paused" in text
    assert "- scheduled: 0 waiting, 0 later, 1 running, 0 dead letters" in text


@pytest.mark.parametrize("address", ["ops", "Ops <ops@example.com>", "a@example.com, b@example.com", ""])
def test_what_is_no_address_is_refused_at_the_start(address: str) -> None:
    with pytest.raises(ValidationError):
        HousekeepingSettings(report_to=(address,))
