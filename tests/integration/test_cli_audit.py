"""The audit log of the command line: every command that changes something is in it, and no secret is."""

from __future__ import annotations

import json
import logging
import os
import pwd
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from skycap.cli import skycap as root
from skycap.observe import logs
from tests.support.commands import command
from tests.support.daemons import Site, skycap

EXAMPLES = Path(__file__).resolve().parents[2] / "plugins" / "examples"
ME = pwd.getpwuid(os.geteuid()).pw_name

READING = {
    *("run", "demo", "check", "completion", "top", "enqueue", "events", "outbox", "privacy export", "audit list"),
    *("jobs list", "jobs show", "queues list", "limits list", "breakers list", "dead list", "dead show"),
    *("mail preview", "mail bounce", "mail ledger", "mail suppressions list", "schedules list", "kinds list"),
    *("tokens list", "plugins list", "plugins new", "cache stats", "alerts list", "alerts test"),
    *("config show", "config reference", "config signing-key", "config check", "config reload"),
    *("db migrate", "db report", "db indexes", "db partition", "db grant"),
}
"""These change nothing that an admin decides on, or the database's structure, whose own logs tell of it."""


def commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        if not isinstance(found, click.Group):
            yield f"{before}{name}", found
            continue
        if found.invoke_without_command:
            yield f"{before}{name}", found
        yield from commands(found, f"{before}{name} ")


def test_every_command_that_changes_something_is_audited() -> None:
    found = dict(commands(root))
    audited = {name for name, each in found.items() if hasattr(each.callback, "audited")}
    assert found.keys() - audited == READING & found.keys()
    assert len(audited) >= 30


@pytest.fixture
def site(redis_url: str, tmp_path: Path) -> Site:
    extra: dict[str, dict[str, Any]] = {
        "limits.crm": {"concurrency": 3},
        "queues.default": {"limits": ["crm"]},
        "schedules.nightly": {"kind": "say-hello", "crontab": "0 2 * * *"},
        "schedules.nightly.payload": {"name": "Ada"},
    }
    return Site(folder=tmp_path, redis_url=redis_url, plugins_dir=EXAMPLES, extra=extra)


async def audited(site: Site, *options: str) -> list[dict[str, Any]]:
    listed = await command("audit", "list", "--json", *options, "--config", site.config)
    assert listed.code == 0, listed.err
    found: list[dict[str, Any]] = listed.json
    return found


async def test_what_commands_did_is_listed_with_who_and_how(site: Site) -> None:
    for line in (
        "queues pause default",
        "queues set default --rate 20/1s --order lifo",
        "queues reset default rate",
        "limits hold crm --for 5m",
        "breakers open stripe --for 10m",
        "schedules run nightly",
        "kinds pause say-hello",
        "jobs cancel none",
        "dead discard a b",
        "tokens new ops --scope admin --rate 5/1s",
    ):
        await command(*line.split(), *(() if line.startswith("tokens") else ("--config", site.config)))
    found = [(each["action"], each["target"], each["asked"], each["code"]) for each in await audited(site)]
    assert found[::-1] == [
        ("queue.pause", "default", {}, None),
        ("queue.set", "default", {"rate": "20/1s", "order": "lifo"}, None),
        ("queue.reset", "default", {"parts": "rate"}, None),
        ("limit.hold", "crm", {"duration": "5m"}, None),
        ("breaker.open", "stripe", {"duration": "10m"}, None),
        ("schedule.run", "nightly", {}, None),
        ("kind.pause", "say-hello", {}, None),
        ("job.cancel", "none", {}, "EXIT_64"),
        ("dead.discard", "a, b", {}, "EXIT_1"),
    ]
    for each in await audited(site):
        assert (each["who"].split()[-1], each["via"], each["host"]) == (ME, "cli", socket.gethostname())
    assert {each["outcome"] for each in await audited(site, "--action", "job")} == {"refused"}
    assert len(await audited(site, "--since", "1h", "--limit", "3")) == 3
    table = (await command("audit", "list", "--action", "queue.set", "--config", site.config)).out
    assert "rate 20/1s, order lifo" in table


async def test_a_new_token_is_noted_and_its_secret_is_not(site: Site, redis_url: str) -> None:
    environ = {"SKYCAP_REDIS_URL": redis_url}
    made = await skycap("tokens", "new", "ops", "--scope", "admin", "--file", site.folder / "t", environ=environ)
    assert made.code == 0
    (entry,) = await audited(site)
    assert (entry["action"], entry["target"], entry["asked"]) == ("token.new", "ops", {"scopes": "admin"})
    assert made.out.strip() not in str(entry) + made.err


async def test_payloads_are_not_noted(site: Site) -> None:
    await command("dead", "redrive", "a", "--payload", '{"name": "private"}', "--config", site.config)
    (entry,) = await audited(site)
    assert "private" not in str(entry)


async def test_without_redis_a_command_says_what_it_always_said(site: Site) -> None:
    away = Site(folder=site.folder, redis_url="redis://127.0.0.1:1", plugins_dir=EXAMPLES)
    done = await command("queues", "pause", "default", "--config", away.config)
    assert done.code == 69
    assert [(line["action"], line["outcome"], line["code"]) for line in done.lines] == [
        ("queue.pause", "failed", "EXIT_69")
    ]
    made = await skycap("tokens", "new", "ops", "--scope", "admin")
    assert (made.code, made.err) == (0, "")


def test_lines_go_to_the_log_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("skycap.tests.audit")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    address = tmp_path / "log"
    logs.to_syslog(logger.name, str(address))  # nothing is there: it stays as it is
    assert logger.propagate
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(address))
        journal.settimeout(5)
        logs.to_syslog(logger.name, str(address))
        logs.to_syslog(logger.name, str(address))
        logger.info("admin action", extra={"action": "queue.pause"})
        line = journal.recv(4096).decode().rstrip("\0")
        journal.setblocking(False)
        with pytest.raises(BlockingIOError):
            journal.recv(4096)
    head, _, document = line.partition("skycap: ")
    assert head == "<86>"  # authpriv, info
    assert json.loads(document)["event"] == "admin action"
    logger.handlers[0].close()
