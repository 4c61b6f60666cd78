"""What `skycap check` says of the mail server and of the sender's domain, on a real server of each kind."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from skycap.checks.dns import dns
from skycap.checks.installation import Installation
from skycap.checks.mail import mail
from skycap.demo.mailbox import Mailbox
from skycap.exits import Exit
from tests.support.checks import Told, installation, told
from tests.support.nameserver import Records, nameserver
from tests.support.redis_servers import free_port
from tests.support.servers import PASSWORD, USERNAME, LineServer

SENDER = "Travel <bookings@travel.example.org>"


@pytest.fixture
async def mailbox(tmp_path: Path) -> AsyncGenerator[Mailbox]:
    async with Mailbox(tmp_path / "mails", username=USERNAME, password=PASSWORD) as mailbox:
        yield mailbox


def at(mailbox: Mailbox, **variables: str) -> Installation:
    return to(mailbox.smtp_url, SKYCAP_SMTP_CA_FILE=str(mailbox.ca_file), **variables)


def to(url: str, **variables: str) -> Installation:
    return installation({"SKYCAP_SMTP_URL": url, "SKYCAP_SMTP_SENDER": SENDER, **variables})


async def test_a_server_as_it_should_be_is_ok_and_gets_no_mail(mailbox: Mailbox) -> None:
    asked: list[str] = []
    mailbox.replies = lambda phase, _: asked.append(phase)
    found = await told(mail, at(mailbox, SKYCAP_MAIL_PUBLIC_URL="https://jobs.example.com"))
    not_ok = {name: found.line(name) for name in found if found.status(name) != "ok"}
    assert {*not_ok} == {"signature"}, not_ok
    assert found.line("encryption") == "ok: TLSv1.3"
    assert (asked, mailbox.received, mailbox.connections) == ([], [], 1)


async def test_what_mails_lack_is_warned_of(mailbox: Mailbox) -> None:
    example = at(mailbox, SKYCAP_ENV="production")
    found = await told(mail, example)
    assert found.line("sender").startswith("warn: brand.support_email and brand.website: an example")
    assert found.line("unsubscribe").startswith("warn: mail.public_url is not set")
    sample = installation({"SKYCAP_SMTP_URL": mailbox.smtp_url, "SKYCAP_SMTP_SENDER": "bookings@example.com"})
    nobody = installation({"SKYCAP_SMTP_URL": mailbox.smtp_url})
    assert (await told(mail, sample)).line("sender").startswith("fail: smtp.sender is an example")
    assert (await told(mail, nobody)).one("sender").exit_code is Exit.CONFIGURATION


async def test_a_wrong_password_is_a_mistake_and_is_not_told(mailbox: Mailbox) -> None:
    found = await told(mail, at(mailbox, SKYCAP_SMTP_PASSWORD="wr0ng-password"))
    assert found.one("login").status == "fail"
    assert found.one("login").exit_code is Exit.CONFIGURATION
    assert "correct the user in smtp.url, and its password" in found.line("login")
    assert found.line("certificate") == "skipped: mail.login failed"
    assert found.status("sender") == "ok"
    assert not any(word in repr(found) for word in ("wr0ng-password", USERNAME, PASSWORD))


async def test_a_server_that_is_away_or_not_trusted_cannot_be_used(mailbox: Mailbox) -> None:
    away = await told(mail, to(f"smtp://127.0.0.1:{free_port()}"))
    strange = await told(mail, to(mailbox.smtp_url))
    assert away.line("login").startswith("fail: mail: no connection to the mail server: Connection refused")
    assert "its certificate is not valid" in strange.line("login")
    assert {each.one("login").exit_code for each in (away, strange)} == {Exit.UNAVAILABLE}


async def test_a_server_without_encryption_and_with_little_room_is_warned_of() -> None:
    async with LineServer() as server:
        found = await told(mail, to(f"smtp://127.0.0.1:{server.port}", SKYCAP_SMTP_STARTTLS="off"))
        server.answers["EHLO"] = "250-localhost\r\n250 SIZE 0"
        boundless = await told(mail, to(f"smtp://127.0.0.1:{server.port}", SKYCAP_SMTP_STARTTLS="off"))
    assert found.line("login") == "ok: greets us; no user is configured"
    assert found.line("encryption").startswith("warn: mails are handed over unencrypted")
    assert found.line("size").startswith("warn: takes mails up to 1.0 MB")
    assert boundless.line("size") == "ok: it names no limit"
    assert {line.split()[0] for line in server.heard} == {"EHLO", "QUIT"}


@pytest.mark.parametrize(("days", "said"), [(5, "warn: the mail server: the certificate ends"), (-1, None)])
async def test_a_certificate_that_ends_is_told(tmp_path: Path, days: int, said: str | None) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certified: Any = authority.issue_cert("127.0.0.1", not_after=datetime.now(UTC) + timedelta(days=days))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certified.configure_cert(context)
    async with LineServer(context=context) as server:
        found = await told(mail, to(f"smtps://127.0.0.1:{server.port}", SKYCAP_SMTP_CA_FILE=str(tmp_path / "ca.pem")))
    if said is None:
        assert "certificate has expired" in found.line("login")
    else:
        assert found.line("certificate").startswith(said)


async def test_a_dkim_key_that_cannot_sign_is_a_mistake(mailbox: Mailbox, tmp_path: Path) -> None:
    key = tmp_path / "dkim.pem"
    key.write_text("no key")
    found = await told(mail, at(mailbox, **_signing(key)))
    assert found.one("signature").exit_code is Exit.CONFIGURATION


GOOD: Records = {
    ("travel.example.org", "MX"): ["10 mx.example.org."],
    ("travel.example.org", "TXT"): ['"google-site-verification=x"', '"v=spf1 include:_spf.example.org " "-all"'],
    ("jobs._domainkey.travel.example.org", "TXT"): ['"v=DKIM1; k=rsa; p=MIIB" "IjAN"'],
    ("_dmarc.example.org", "TXT"): ['"v=DMARC1; p=reject; rua=mailto:dmarc@example.org"'],
}


async def domain(records: Records, **variables: str) -> Told:
    async with nameserver(records) as address:
        environ = {"SKYCAP_SMTP_SENDER": SENDER, **_signing(Path("/nowhere")), **variables}
        return await told(dns, installation(environ, nameserver=address))


async def test_a_domain_as_it_should_be_is_ok() -> None:
    found = await domain(GOOD)
    assert {found.status(name) for name in found} == {"ok"}
    assert found.line("spf") == "ok: v=spf1 include:_spf.example.org -all"
    assert found.line("dmarc") == "ok: example.org has p=reject"


async def test_an_empty_domain_is_told_what_to_publish() -> None:
    found = await domain({})
    assert found.line("mx").startswith("warn: travel.example.org has no MX record")
    assert found.line("spf").startswith("fail: travel.example.org has no SPF record")
    assert found.line("dkim").startswith("fail: jobs._domainkey.travel.example.org has no key")
    assert found.line("dmarc").startswith("warn: travel.example.org has no DMARC record")


@pytest.mark.parametrize(
    ("name", "kind", "records", "check", "said"),
    [
        ("travel.example.org", "MX", ["0 ."], "mx", "fail: travel.example.org says that it takes no mail"),
        ("travel.example.org", "TXT", ['"v=spf1 -all"', '"v=spf1 mx -all"'], "spf", "fail: travel.example.org has 2"),
        ("travel.example.org", "TXT", ['"v=spf1 +all"'], "spf", "fail: the SPF record of travel.example.org allows"),
        ("jobs._domainkey.travel.example.org", "TXT", ['"v=DKIM1; p="'], "dkim", "fail: the key at jobs._domainkey"),
        ("_dmarc.example.org", "TXT", ['"v=DMARC1; rua=mailto:a@b.c"'], "dmarc", "fail: the DMARC record of"),
        ("_dmarc.example.org", "TXT", ['"v=DMARC1; p=none"'] * 2, "dmarc", "ok: example.org has p=none"),
        ("_dmarc.travel.example.org", "TXT", ['"v=DMARC1; p=none"', '"v=DMARC1;p=reject"'], "dmarc", "fail: _dmarc."),
    ],
)
async def test_records_that_do_not_count_are_told(
    name: str, kind: str, records: list[str], check: str, said: str
) -> None:
    assert (await domain({**GOOD, (name, kind): records})).line(check).startswith(said)


async def test_bounces_go_to_the_domain_whose_spf_counts_and_signatures_must_be_of_the_senders() -> None:
    found = await domain(GOOD, SKYCAP_MAIL_BOUNCE_ADDRESS="b@bounces.example.org", SKYCAP_MAIL_DKIM_DOMAIN="other.org")
    other = await domain(
        {**GOOD, ("jobs._domainkey.other.org", "TXT"): ['"p=MIIB"']}, SKYCAP_MAIL_DKIM_DOMAIN="other.org"
    )
    assert found.line("spf").startswith("fail: bounces.example.org has no SPF record")
    assert other.line("dkim").startswith("warn: mails are signed for other.org, and come from travel.example.org")


async def test_without_an_answer_all_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skycap.checks.dns._PATIENCE_SECONDS", 0.3)
    environ = {"SKYCAP_SMTP_SENDER": SENDER}
    found = await told(dns, installation(environ, nameserver=f"127.0.0.1:{free_port()}"))
    lines = {found.line(name) for name in found if name != "dkim"}
    assert len(lines) == 1
    assert lines.pop().startswith("skipped: DNS did not answer")
    assert found.line("dkim").startswith("skipped: mail.dkim_selector is not set")


def _signing(key: Path) -> dict[str, str]:
    return {
        "SKYCAP_MAIL_DKIM_DOMAIN": "travel.example.org",
        "SKYCAP_MAIL_DKIM_SELECTOR": "jobs",
        "SKYCAP_MAIL_DKIM_KEY_FILE": str(key),
    }
