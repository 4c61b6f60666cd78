"""What `skycap check` says of files, settings, plugins, templates, units and the host; no server is needed."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from skycap.checks.catalogue import GROUPS
from skycap.checks.configuration import configuration
from skycap.checks.finding import CannotLook, Finding, ok
from skycap.checks.group import Group
from skycap.checks.host import host
from skycap.checks.installation import Installation
from skycap.checks.plugins import plugins
from skycap.checks.running import chosen, run
from skycap.checks.secrets import secrets
from skycap.checks.systemd import Unit
from skycap.checks.templates import templates
from skycap.checks.unit import unit
from skycap.errors import Unavailable
from skycap.exits import Exit
from skycap.signing import Signer
from tests.support.checks import Told, installation, told

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "systemd" / "skycap@.service"
REDIS = {"SKYCAP_REDIS_URL": "redis://:s3cret@127.0.0.1:6379"}
PRODUCTION = {**REDIS, "SKYCAP_ENV": "production"}


def written(file: Path, text: str, mode: int = 0o600) -> Path:
    file.write_text(text)
    file.chmod(mode)
    return file


def lines(found: Told, check: str) -> list[str]:
    return [f"{each.status}: {each.says}" for each in found[check]]


# Running


async def test_what_goes_wrong_in_one_check_is_its_own_finding() -> None:
    closed: list[str] = []

    @asynccontextmanager
    async def opened(_: Installation) -> AsyncGenerator[str]:
        yield "view"
        closed.append("closed")

    group: Group[str] = Group("things", opened)

    @group.check
    async def away(_: str) -> Finding:
        """One."""
        raise Unavailable("thing", "Connection refused")

    @group.check
    def broken(_: str) -> Finding:
        """Two."""
        raise KeyError("redis://:s3cret@host")

    @group.check
    async def endless(_: str) -> Finding:
        """Three."""
        await asyncio.Event().wait()
        raise AssertionError

    @group.check
    def fine(view: str) -> list[Finding]:
        """Four."""
        return [ok(view), ok("as well")]

    found = await told(group, installation(REDIS), limit_seconds=0.2)
    assert found.line("away").startswith("fail: thing: Connection refused -> ")
    assert found.line("broken").startswith("fail: this check itself failed with KeyError")
    assert found.line("endless").startswith("fail: no answer within 0.2 s")
    assert lines(found, "fine") == ["ok: view", "ok: as well"]
    assert closed == ["closed"]


async def test_without_a_view_the_first_check_says_why_and_the_others_are_skipped() -> None:
    def nothing() -> str:
        raise CannotLook("there is none")

    @asynccontextmanager
    async def opened(_: Installation) -> AsyncGenerator[str]:
        yield nothing()

    group: Group[str] = Group("things", opened)

    @group.check
    def first(_: str) -> Finding:
        """One."""
        return ok("never")

    @group.check
    def second(_: str) -> Finding:
        """Two."""
        return ok("never")

    found = await told(group, installation(REDIS))
    assert {found.line(name) for name in ("first", "second")} == {"skipped: there is none"}


def test_groups_and_checks_can_be_chosen_by_name() -> None:
    names = [
        f"{group.name}.{check.name}" for group in chosen(GROUPS, {"dns", "redis.rights"}) for check in group.checks
    ]
    assert names == ["redis.rights", "dns.mx", "dns.spf", "dns.dkim", "dns.dmarc"]
    assert len([*chosen(GROUPS, ())]) == len(GROUPS)


def test_the_table_of_checks_is_complete() -> None:
    table = (ROOT / "config" / "CHECKS.md").read_text()
    documented = re.findall(r"^\| `([a-z-]+\.[a-z-]+)` \| (.+) \|$", table, re.MULTILINE)
    assert documented == [(f"{group.name}.{each.name}", each.looks_at) for group in GROUPS for each in group.checks]
    assert all(each.looks_at for group in GROUPS for each in group.checks)


# Configuration


async def test_a_configuration_as_it_should_be_is_ok(tmp_path: Path) -> None:
    tokens = written(tmp_path / "tokens.toml", f'[ops]\nsha256 = "{"0" * 64}"\nscopes = ["admin"]\n')
    file = written(tmp_path / "main.toml", f'[http]\ntokens_file = "{tokens}"\n', 0o644)
    environ = {
        **PRODUCTION,
        "SKYCAP_DATABASE_URL": "postgresql://localhost/travel",
        "SKYCAP_SMTP_URL": "smtp://localhost",
        "SKYCAP_SMTP_SENDER": "a@travel.example.org",
        "SKYCAP_SIGNING_KEYS": Signer.new("one").text(),
    }
    found = await told(configuration, installation(environ, config=file))
    assert {name: found.status(name) for name in found if found.status(name) != "ok"} == {}
    assert found.line("read") == f"ok: {file} is understood"
    assert found.line("signing") == "ok: 1 keys, send-email must be signed"


async def test_every_mistake_of_a_file_is_named_and_what_needs_it_is_skipped(tmp_path: Path) -> None:
    file = written(tmp_path / "main.toml", "[queues.email]\nconcurrency = -3\n[redis]\nulr = 1\n", 0o644)
    found = await told(configuration, installation(config=file))
    assert [each.exit_code for each in found["read"]] == [Exit.CONFIGURATION] * 2
    assert found["read"][0].fix or found["read"][1].fix
    assert {found.line(name) for name in found if name != "read"} == {"skipped: the configuration cannot be used"}


async def test_a_missing_file_and_a_missing_redis_are_mistakes(tmp_path: Path) -> None:
    missing = await told(configuration, installation(config=tmp_path / "none.toml"))
    empty = await told(configuration, installation({}))
    assert "there is no such file" in missing.line("read")
    assert empty.one("servers").exit_code is Exit.CONFIGURATION
    assert empty.line("contradictions") == "skipped: redis.url is not set"


async def test_what_is_not_for_production_is_warned_of() -> None:
    found = await told(configuration, installation(PRODUCTION | {"SKYCAP_LOG_LEVEL": "debug"}))
    bare = {"SKYCAP_SMTP_URL": "smtp://localhost", "SKYCAP_SMTP_STARTTLS": "off", "SKYCAP_SIGNING_VERIFY": "require"}
    unencrypted = await told(configuration, installation(PRODUCTION | bare))
    development = await told(configuration, installation(REDIS))
    assert found.line("environment").startswith("warn: log.level is debug in production")
    assert unencrypted.line("environment").startswith("warn: smtp.starttls is off in production")
    assert development.line("environment").startswith("warn: SKYCAP_ENV is development")
    assert found.line("servers").startswith("warn: database.url and smtp.url: not set")
    assert found.line("signing").startswith("fail: signing.keys: there is none, and send-email must be signed")
    assert unencrypted.line("signing").startswith("fail: signing.keys: there is none, and every kind must be signed")
    assert development.line("signing") == "ok: no job must be signed"


async def test_contradictions_of_plugins_and_settings_are_mistakes(plugins_folder: Path) -> None:
    environ = {**REDIS, "SKYCAP_JOBS_SEND_NOTHING_ATTEMPTS": "3"}
    found = await told(configuration, installation(environ))
    assert found.line("contradictions").startswith("fail: jobs.send-nothing: no plugin handles this kind")


async def test_tokens_are_looked_at(tmp_path: Path) -> None:
    table = f'[old]\nsha256 = "{"0" * 64}"\nscopes = ["read"]\nexpires = 2020-01-01\n'
    tokens = written(tmp_path / "tokens.toml", table, 0o644)
    environ = {**REDIS, "SKYCAP_HTTP_TOKENS_FILE": str(tokens), "SKYCAP_HTTP_BIND": "0.0.0.0:8600"}
    found = await told(configuration, installation(environ))
    assert lines(found, "tokens") == [
        "warn: the token old has expired",
        f"fail: {tokens} is open to everybody on this host (0644)",
        "warn: no token has the admin scope: nobody can act over HTTP",
    ]
    assert found.line("http") == "ok: listens on 0.0.0.0:8600 for other hosts, and asks for tokens"
    tokens.unlink()
    assert (await told(configuration, installation(environ))).one("tokens").exit_code is Exit.CONFIGURATION
    disabled = await told(configuration, installation({**REDIS, "SKYCAP_HTTP_ENABLED": "false"}))
    assert disabled.line("http") == "ok: does not listen"


# Secrets


async def test_secrets_that_are_kept_well_are_ok(tmp_path: Path) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir(mode=0o700)
    written(folder / "redis_url", REDIS["SKYCAP_REDIS_URL"])
    written(folder / "smtp_password", "s3cret")
    authority, key = trustme.CA(), written(tmp_path / "dkim.pem", "key")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    environ = {
        "CREDENTIALS_DIRECTORY": str(folder),
        "SKYCAP_ENV": "production",
        "SKYCAP_SMTP_URL": "smtp://user@mail.example.org",
        "SKYCAP_SMTP_CA_FILE": str(tmp_path / "ca.pem"),
        "SKYCAP_MAIL_DKIM_DOMAIN": "example.org",
        "SKYCAP_MAIL_DKIM_SELECTOR": "jobs",
        "SKYCAP_MAIL_DKIM_KEY_FILE": str(key),
    }
    found = await told(secrets, installation(environ))
    assert {found.status(name) for name in found} == {"ok"}
    assert found.line("files") == "ok: 2 files are closed to others"


async def test_secrets_that_others_can_read_are_named_and_not_shown(tmp_path: Path) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir(mode=0o755)
    written(folder / "signing_keys", Signer.new("one").text(), 0o640)
    password = written(tmp_path / "password", "s3cret-of-smtp", 0o644)
    file = written(tmp_path / "main.toml", '[redis]\nurl = "redis://:s3cret-of-redis@127.0.0.1"\n', 0o644)
    environ = {
        "CREDENTIALS_DIRECTORY": str(folder),
        "SKYCAP_ENV": "production",
        "SKYCAP_SMTP_URL": "smtp://user@mail.example.org",
        "SKYCAP_SMTP_PASSWORD_FILE": str(password),
        "SKYCAP_DATABASE_URL": "postgresql://skycap:s3cret-of-postgresql@127.0.0.1/travel",
        "SKYCAP_PLUGINS_PARTNERS_API_KEY": "s3cret-of-partners",
    }
    found = await told(secrets, installation(environ, config=file))
    assert sorted(lines(found, "files")) == [
        f"fail: {file} is open to everybody on this host (0644)",
        f"fail: {password} is open to everybody on this host (0644)",
        f"warn: {folder}/signing_keys is open to a group (0640)",
    ]
    assert lines(found, "credentials")[0] == f"fail: {folder} is open to everybody on this host (0755)"
    assert found.line("variables").startswith("warn: SKYCAP_DATABASE_URL, SKYCAP_PLUGINS_PARTNERS_API_KEY: in the env")
    assert "s3cret" not in repr(found)


async def test_keys_and_authorities_that_are_not_good_are_named(tmp_path: Path) -> None:
    authority = trustme.CA()
    leaf: Any = authority.issue_cert("mail.example.org")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "leaf.pem")
    key = written(tmp_path / "redis.key", "key", 0o644)
    redis_url = f"rediss://127.0.0.1?ssl_ca_certs={tmp_path / 'none.pem'}&ssl_keyfile={key}&ssl_certfile=/x"
    environ = {"SKYCAP_REDIS_URL": redis_url, "SKYCAP_SMTP_CA_FILE": str(tmp_path / "leaf.pem")}
    found = await told(secrets, installation(environ))
    assert lines(found, "authorities") == [
        f"fail: smtp.ca_file: {tmp_path / 'leaf.pem'} has no certificate of an authority",
        f"fail: ssl_ca_certs: {tmp_path / 'none.pem'} cannot be used: No such file or directory",
    ]
    assert lines(found, "keys") == [f"fail: {key} is open to everybody on this host (0644)"]
    missing = await told(secrets, installation({"SKYCAP_DATABASE_URL": "postgresql://h/d?sslkey=/none&sslcert=/none"}))
    assert missing.line("keys").startswith("fail: /none is not there")


@pytest.mark.parametrize(("days", "said"), [(100, "ok"), (13, "warn"), (-1, "fail")])
async def test_certificates_that_end_are_told_in_time(days: int, said: str) -> None:
    from skycap.checks.certificates import finding_of_end

    assert finding_of_end("it", datetime.now(UTC) + timedelta(days=days)).status == said


# Plugins and templates


async def test_plugins_that_are_left_out_are_named(plugins_folder: Path) -> None:
    written(plugins_folder / "broken.py", "import nothing_of_this_name", 0o666)
    environ = {**PRODUCTION, "SKYCAP_PLUGINS_DIR": str(plugins_folder), "SKYCAP_QUEUES_LONELY_CONCURRENCY": "1"}
    found = await told(plugins, installation(environ))
    assert found.line("loaded").startswith(f"warn: broken ({plugins_folder}/broken.py) was left out: ModuleNotFound")
    assert found.line("required").startswith("warn: required_plugins is empty")
    assert found.line("folder").startswith(f"fail: {plugins_folder}/broken.py: others can write it")
    assert found.line("queues").startswith("warn: no plugin has a kind for lonely")
    needed = await told(plugins, installation({**environ, "SKYCAP_REQUIRED_PLUGINS": "broken"}))
    assert needed.one("loaded").exit_code is Exit.CONFIGURATION
    assert needed.line("required") == "skipped: the plugins cannot be loaded"


async def test_plugins_as_they_should_be_are_ok(plugins_folder: Path) -> None:
    written(plugins_folder / "quiet.py", "from skycap import Plugin\nplugin = Plugin('quiet')")
    environ = {**PRODUCTION, "SKYCAP_PLUGINS_DIR": str(plugins_folder), "SKYCAP_REQUIRED_PLUGINS": "bookings"}
    found = await told(plugins, installation(environ))
    assert {found.status(name) for name in found} == {"ok"}


async def test_templates_are_compiled_and_samples_written(tmp_path: Path) -> None:
    few = {**REDIS, "SKYCAP_LOAD_PLUGINS": "accounts", "SKYCAP_MAIL_TEMPLATES_DIR": str(tmp_path)}
    good = await told(templates, installation(few))
    assert {good.status(name) for name in good} == {"ok"}
    assert good.line("samples") == "ok: 5 mails of 1 samples were written"
    name = "accounts/welcome/body.txt.j2"
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text("{% if %}")
    refused = await told(templates, installation(few))
    (tmp_path / name).write_text("{{ nothing_of_this_name }}")
    undefined = await told(templates, installation(few))
    assert refused.line("overrides").startswith(f"fail: {name} is refused, and the shipped one used: ")
    assert refused.status("samples") == "ok"
    assert "nothing_of_this_name" in undefined["samples"][0].says
    assert undefined["samples"][0].status == "fail"


async def test_a_template_that_is_missing_is_a_failure(plugins_folder: Path) -> None:
    plugin = """
from jinja2 import DictLoader
from skycap import Plugin
plugin = Plugin("odd", templates=DictLoader({"odd/subject.txt.j2": "x"}))
"""
    written(plugins_folder / "odd.py", plugin)
    found = await told(templates, installation({**REDIS, "SKYCAP_PLUGINS_DIR": str(plugins_folder)}))
    assert found.line("compiled").startswith("fail: odd: the mail has no body.txt.j2")


# The unit: what systemd says is text, and a booted one is in tests/systemd


def shown(file: Path, **properties: str) -> Unit:
    usual = {
        "LoadState": "loaded",
        "ActiveState": "active",
        "UnitFileState": "enabled",
        "FragmentPath": str(file),
        "DropInPaths": "",
        "NeedDaemonReload": "no",
        "TimeoutStopUSec": "1min",
        "WatchdogUSec": "30s",
        "NRestarts": "0",
        "Environment": "SKYCAP_ENV=production 'SKYCAP_SMTP_SENDER=A <a@b.c>'",
        "LoadCredential": "",
        "LimitNOFILE": "65536",
        "MemoryMax": "infinity",
        "MemoryCurrent": "[not set]",
    }
    text = "".join(f"{name}={value}\n" for name, value in {**usual, **properties}.items())
    return Unit.parse("skycap@main.service", text)


@pytest.fixture
def unit_file(tmp_path: Path) -> Path:
    return Path(shutil.copy(SHIPPED, tmp_path))


async def test_a_unit_as_it_should_be_is_ok(unit_file: Path, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir(mode=0o700)
    usual = shown(unit_file, LoadCredential=f"skycap:{credentials}", MemoryMax="1073741824", MemoryCurrent="1000000")
    found = await told(unit, installation(REDIS, unit=usual))
    assert {name: found.line(name) for name in found if found.status(name) != "ok"} == {}
    assert usual.environment == {"SKYCAP_ENV": "production", "SKYCAP_SMTP_SENDER": "A <a@b.c>"}


async def test_a_unit_out_of_step_is_told(unit_file: Path, tmp_path: Path) -> None:
    written(unit_file, SHIPPED.read_text().replace("WatchdogSec=30", "#"), 0o644)
    secret = written(tmp_path / "main.env", "SKYCAP_REDIS_URL=x", 0o644)
    odd = shown(
        unit_file,
        ActiveState="failed",
        UnitFileState="disabled",
        NeedDaemonReload="yes",
        TimeoutStopUSec="1min 30s",
        WatchdogUSec="0",
        NRestarts="4",
        LimitNOFILE="1024",
        MemoryMax="1000000",
        MemoryCurrent="990000",
        LoadCredential=f"skycap:{tmp_path / 'none'}",
        EnvironmentFiles=f"{secret} (ignore_errors=no)",
    )
    found = await told(unit, installation({**REDIS, "SKYCAP_WORKER_GRACE_SECONDS": "85"}, unit=odd))
    assert {name: found.status(name) for name in found if found.status(name) == "ok"} == {}
    assert found.line("stop").startswith("warn: a stop is cut off after 90 s, and a drain may take 95 s")
    assert "differs from the shipped one in 2 lines, as in '-WatchdogSec=30'" in found.line("shipped")
    assert found.line("environment-files").startswith(f"fail: {secret} is open to everybody")
    assert found.line("credentials").startswith(f"warn: {tmp_path / 'none'} is not there")


async def test_without_a_unit_what_needs_it_is_skipped(unit_file: Path) -> None:
    unknown = await told(unit, installation(REDIS, unit=shown(unit_file, LoadState="not-found", FragmentPath="")))
    elsewhere = await told(unit, installation(REDIS))
    assert unknown.line("installed").startswith("warn: systemd knows no unit skycap@main.service")
    assert {unknown.status(name) for name in unknown if name != "installed"} == {"skipped"}
    assert {elsewhere.line(name) for name in elsewhere} == {"skipped: systemd does not run this host"}


# The host


async def test_a_host_short_of_everything_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("skycap.checks.host._LITTLE_DISK", 1 << 60)
    monkeypatch.setattr("skycap.checks.host._NO_DISK", 1 << 59)
    monkeypatch.setattr("skycap.checks.host._FEWEST_FILES", 1 << 40)
    monkeypatch.setattr("skycap.checks.host._LITTLE_MEMORY", 1)
    monkeypatch.setattr(sys, "version_info", (3, 99, 0))
    found = await told(host, installation({**REDIS, "SKYCAP_DATA_DIR": str(tmp_path / "state")}))
    assert lines(found, "disk")[0].startswith(f"fail: {tmp_path}: ")
    assert {found.status(name) for name in ("memory", "python")} == {"warn"}


async def test_a_host_with_enough_of_everything_is_ok(monkeypatch: pytest.MonkeyPatch, unit_file: Path) -> None:
    for name in ("_LITTLE_DISK", "_NO_DISK", "_LITTLE_MEMORY", "_FEWEST_FILES"):
        monkeypatch.setattr(f"skycap.checks.host.{name}", 0)
    found = await told(host, installation(REDIS))
    by_unit = await told(host, installation(REDIS, unit=shown(unit_file)))
    assert {each.status for name in ("python", "disk", "memory", "files") for each in found[name]} == {"ok"}
    assert by_unit.line("files") == "skipped: the unit says it: unit.files"


@pytest.mark.parametrize(("state", "said"), [(0, "ok"), (5, "warn"), (-1, "skipped")])
async def test_a_clock_that_nobody_keeps_is_told(monkeypatch: pytest.MonkeyPatch, state: int, said: str) -> None:
    """Whether this machine's is kept, no test can say."""

    def answer() -> int:
        return state

    monkeypatch.setattr("skycap.checks.host._state_of_clock", answer)
    assert (await told(host, installation(REDIS))).status("clock") == said


async def test_the_real_clock_can_be_asked() -> None:
    (result,) = await run([*chosen([host], {"host.clock"})], installation(REDIS))
    assert result.finding.status != "fail"
