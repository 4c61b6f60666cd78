"""Alarms by mail, and the whole way: a daemon as it is run, its alarms, and the command line."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from skycap import AsyncClient, Payload
from skycap.alerts.notice import Notice
from skycap.alerts.ways import MailWay
from skycap.demo.mailbox import Mailbox
from skycap.exits import Exit
from skycap.services.admin_mail import AdminMail
from skycap.services.composer import Composer, Letterhead, Renderer
from skycap.services.database import DatabasePool
from skycap.services.ledger import MailLedger
from skycap.services.mailer import MailService
from skycap.services.message import RenderedMail
from skycap.services.migrations import migrate
from tests.support.commands import command
from tests.support.daemons import Site, skycap
from tests.support.hooks import hook
from tests.support.mails import TEMPLATES
from tests.support.servers import PASSWORD, USERNAME, pool_to
from tests.support.workers import eventually

OPS = "ops@example.com"
SINCE = datetime(2026, 11, 28, 18, 30, tzinfo=UTC)

PLUGIN = """
from skycap import Payload, PermanentError, Plugin

plugin = Plugin("fragile")


class Fragile(Payload, kind="fragile"):
    is_good: bool = False


@plugin.job()
async def fragile(ctx, payload: Fragile) -> None:
    if not payload.is_good:
        raise PermanentError("no")
"""


class Fragile(Payload, kind="fragile"):
    """As the plugin has it."""

    is_good: bool = False


@pytest.fixture
async def mailbox(tmp_path: Path) -> AsyncGenerator[Mailbox]:
    async with Mailbox(tmp_path, username=USERNAME, password=PASSWORD) as mailbox:
        yield mailbox


@asynccontextmanager
async def admin_mail(mailbox: Mailbox, dsn: str, templates: Renderer = TEMPLATES) -> AsyncGenerator[AdminMail]:
    database = DatabasePool(dsn=dsn, prepare=migrate)
    composer = Composer(templates, Letterhead(sender="Travel <bookings@travel.example.com>"))
    async with pool_to(mailbox) as smtp:
        yield AdminMail(MailService(composer=composer, ledger=MailLedger(database), smtp=smtp), smtp)
    await database.close()


def notice(**changes: Any) -> Notice:
    said: dict[str, Any] = {
        "event": "firing",
        "rule": "queue_failures",
        "subject": "email",
        "severity": "critical",
        "value": 12,
        "text": "12 jobs of queue email were discarded within 10 min",
        "since": SINCE,
        "daemon": "host:1:abc",
    }
    return Notice(**{**said, **changes})


def mails(mailbox: Mailbox) -> list[EmailMessage]:
    return [message_from_bytes(mail.file.read_bytes(), policy=policy.default) for mail in mailbox.received]


def words_of(mail: EmailMessage) -> str:
    body = mail.get_body(("plain",))
    assert body is not None
    return str(body.get_content())


async def test_a_mail_says_what_how_bad_and_since_when(mailbox: Mailbox, database_url: str) -> None:
    async with admin_mail(mailbox, database_url) as mail:
        await MailWay(mail, OPS, place=1).deliver(notice(), claim=1)
    (arrived,) = mails(mailbox)
    assert (arrived["To"], arrived["Subject"]) == (OPS, "[critical] queue failures (email)")
    words = words_of(arrived)
    assert "12 jobs of queue email were discarded within 10 min" in words
    assert "Nov 28, 2026" in words
    html = arrived.get_body(("html",))
    assert html is not None
    assert "12 jobs of queue email were discarded within 10 min" in html.get_content()


async def test_a_notice_is_one_mail_whoever_tells_it_again(mailbox: Mailbox, database_url: str) -> None:
    async with admin_mail(mailbox, database_url) as mail, admin_mail(mailbox, database_url) as heir:
        await MailWay(mail, OPS, place=1).deliver(notice(), claim=1)
        await MailWay(heir, OPS, place=1).deliver(notice(daemon="heir:1:abc"), claim=2)
        assert len(mailbox.received) == 1
        await MailWay(heir, OPS, place=1).deliver(notice(event="recovered", recovered_at=SINCE, number=2), claim=3)
    assert [mail["Subject"] for mail in mails(mailbox)] == [
        "[critical] queue failures (email)",
        "[recovered] queue failures (email)",
    ]


async def test_without_the_database_it_arrives_nevertheless(mailbox: Mailbox) -> None:
    async with admin_mail(mailbox, "postgresql://nobody@127.0.0.1:1/nothing") as mail:
        await MailWay(mail, OPS, place=1).deliver(notice(rule="postgresql_unreachable", subject=""), claim=1)
    (arrived,) = mails(mailbox)
    assert arrived["Subject"] == "[critical] postgresql unreachable"


class NoTemplates:
    """Of an installation without the shipped templates."""

    def render(self, template: str, *, locale: str | None, variables: Mapping[str, object]) -> RenderedMail:
        return TEMPLATES.render(f"nowhere/{template}", locale=locale, variables=variables)


async def test_without_its_template_it_is_written_plainly(mailbox: Mailbox, database_url: str) -> None:
    async with admin_mail(mailbox, database_url, NoTemplates()) as mail:
        await MailWay(mail, OPS, place=1).deliver(notice(), claim=1)
    (arrived,) = mails(mailbox)
    assert arrived["Subject"] == "[critical] queue failures (email)"
    assert "12 jobs of queue email were discarded within 10 min" in words_of(arrived)


# As it is run


@pytest.fixture
def site(redis_url: str, database_url: str, tmp_path: Path, plugins_folder: Path, mailbox: Mailbox) -> Site:
    (plugins_folder / "fragile.py").write_text(PLUGIN)
    return Site(
        folder=tmp_path, redis_url=redis_url, database_url=database_url, mailbox=mailbox, plugins_dir=plugins_folder
    )


async def test_a_failing_kind_raises_an_alarm_that_arrives_and_then_recovers(
    site: Site, mailbox: Mailbox, redis_url: str
) -> None:
    async with hook() as receiver:
        site.extra |= {
            "alerts": {
                "mail_to": [OPS],
                "webhook_url": receiver.url,
                "interval_seconds": 0.1,
                "recover_seconds": 0.1,
            },
            "alerts.rules.queue_failures": {"threshold": 3, "window_seconds": 3},
        }
        async with site.daemon(), AsyncClient(redis_url) as client:

            async def is_looked_at() -> bool:
                listed = (await command("alerts", "list", "--json", "--config", site.config)).json["alerts"]
                return any(each["rule"] == "queue_failures" and each["state"] == "ok" for each in listed)

            await eventually(is_looked_at)
            await client.enqueue_many([Fragile() for _ in range(3)])
            await receiver.has("firing")
            assert receiver.taken[0]["summary"] == "3 jobs of queue default were discarded within 3 s"
            listed = (await command("alerts", "list", "--json", "--config", site.config)).json["alerts"]
            (alarm,) = (each for each in listed if (each["rule"], each["subject"]) == ("queue_failures", "default"))
            assert alarm["firedAt"] is not None
            await receiver.has("firing", "recovered")

            async def both_arrived() -> bool:
                return len(mailbox.received) == 2

            await eventually(both_arrived)
    assert [mail["Subject"] for mail in mails(mailbox)] == [
        "[warning] queue failures (default)",
        "[recovered] queue failures (default)",
    ]
    log = site.log.read_text()
    assert '"alarm"' in log
    assert OPS not in log


async def test_a_test_notice_goes_by_every_way_and_says_what_happened(
    site: Site, mailbox: Mailbox, database_url: str
) -> None:
    await (await connected(database_url)).close()
    async with hook() as receiver:
        site.extra["alerts"] = {"mail_to": [OPS], "webhook_url": receiver.url}
        done = await skycap("alerts", "test", "--json", "--config", site.config)
        assert (done.code, done.err) == (Exit.DONE, "")
        assert json.loads(done.out) == [
            {"way": "mail-1", "delivered": True, "problem": None},
            {"way": "webhook", "delivered": True, "problem": None},
        ]
        assert receiver.events == ["test"]
    assert [mail["Subject"] for mail in mails(mailbox)] == ["[test] test"]
    done = await command("alerts", "test", "--config", site.config)
    assert done.code == Exit.UNAVAILABLE
    assert "cannot be reached" in done.out


async def connected(database_url: str) -> DatabasePool:
    """A database with skycap's tables."""
    database = DatabasePool(dsn=database_url, prepare=migrate)
    await database.ping()
    return database


async def test_without_anybody_to_tell_a_test_is_refused_and_the_list_says_so(redis_url: str, tmp_path: Path) -> None:
    site = Site(folder=tmp_path, redis_url=redis_url)
    assert (await command("alerts", "test", "--config", site.config)).code == Exit.CONFIGURATION
    listed = await command("alerts", "list", "--config", site.config)
    assert listed.code == Exit.DONE
    assert "nobody is told" in listed.err
    assert "queue_failures" in listed.out


async def test_mails_to_admins_need_a_mail_server(redis_url: str, tmp_path: Path) -> None:
    site = Site(folder=tmp_path, redis_url=redis_url, extra={"alerts": {"mail_to": [OPS]}})
    config = str(site.config)
    for done in (await skycap("run", "--config", config), await command("alerts", "test", "--config", config)):
        assert done.code == Exit.CONFIGURATION
