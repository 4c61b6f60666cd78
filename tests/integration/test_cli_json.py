"""``--json`` of every command: one document in camelCase, whatever else it says on stderr."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import asyncpg

from skycap.cli import skycap as root
from skycap.services.migrations import migrate
from tests.support.commands import command, commands_of
from tests.support.daemons import Site
from tests.support.daemons import skycap as process

EXAMPLES = Path(__file__).resolve().parents[2] / "plugins" / "examples"

PRINTS_NO_DOCUMENT = {
    "run": "it is the daemon, whose log is JSON with log.format",
    "completion": "its script is for a shell",
    "top": "it is a picture that moves",
}
TESTED_ELSEWHERE = {
    "config reload": "test_reload.py has a daemon for it",
    "alerts test": "test_alert_mails.py has somebody to tell",
    "demo": "test_demo.py runs it whole",
    "events": "test_cli_events.py: a document a line, for ever",
    "mail bounce": "test_cli_mail.py has bounces for its stdin",
}
WITH_TESTS_OF_THEIR_OWN = ("check", "audit")
"""Verbs whose own tests parse what they print."""

CALLS = {
    "enqueue": "say-hello --payload {payload} --id one",
    "jobs list": "",
    "jobs show": "one",
    "jobs reschedule": "one --in 2h",
    "jobs retry": "one",
    "jobs run": "one",
    "jobs cancel": "one",
    "queues list": "",
    "queues pause": "email",
    "queues resume": "email",
    "queues set": "email --rate 20/1s",
    "queues reset": "email",
    "limits list": "",
    "limits set": "crm --rate 5/1s",
    "limits reset": "crm",
    "limits hold": "crm --for 5m",
    "limits release": "crm",
    "breakers list": "",
    "breakers open": "stripe --for 5m",
    "breakers close": "stripe",
    "breakers reset": "stripe",
    "dead list": "",
    "dead show": "one",
    "dead redrive": "--all",
    "dead discard": "--all",
    "mail preview": "send-welcome-email --locale tr --out {folder}",
    "mail ledger": "",
    "mail ledger resend": "welcome:ada",
    "mail ledger mark-sent": "welcome:ada",
    "mail suppressions list": "",
    "mail suppressions add": "ada@example.com",
    "mail suppressions remove": "ada@example.com",
    "privacy export": "--user u1",
    "privacy erase": "--user u1 --yes",
    "schedules list": "",
    "schedules pause": "cleanup-old-data --for 5m",
    "schedules resume": "cleanup-old-data",
    "schedules run": "cleanup-old-data",
    "kinds list": "",
    "kinds pause": "say-hello --for 5m",
    "kinds resume": "say-hello",
    "tokens new": "backend --scope enqueue --file {folder}/tokens.toml",
    "tokens list": "--file {folder}/tokens.toml",
    "alerts list": "",
    "plugins list": "",
    "plugins new": "loyalty --into {folder}",
    "config check": "",
    "config show": "",
    "config reference": "",
    "config signing-key": "--id one",
    "outbox": "",
    "outbox replay": "--since 2026-01-01T00:00Z",
    "cache stats": "",
    "cache delete": "hotel:1",
    "cache invalidate": "hotels",
    "db migrate": "",
    "db grant": "backend --show",
    "db partition": "price_history --status",
    "db indexes": "",
    "db report": "",
}
NOT_DONE = {"db partition", "mail ledger mark-sent"}
"""These say by their exit code that there was nothing to do."""
WITHOUT_CONFIG = {"config reference", "config signing-key", "plugins new", "tokens new"}
CHANGES_ITS_PROCESS = {"config check", "plugins list"}
"""They quieten the log, which would stay so for all other tests."""
FREE_FORM = {
    *("payload", "schema", "result", "namespaces", "changed", "plugins", "settings"),
    *("config show", "config reference"),
}
"""Members, and commands, whose names are somebody else's."""


def test_every_command_that_prints_has_json() -> None:
    without = {
        path for path, leaf in commands_of(root) if not any("--json" in parameter.opts for parameter in leaf.params)
    }
    assert without <= PRINTS_NO_DOCUMENT.keys()


def test_every_command_is_called_here_or_elsewhere() -> None:
    known = CALLS.keys() | PRINTS_NO_DOCUMENT.keys() | TESTED_ELSEWHERE.keys()
    assert {path for path, _ in commands_of(root) if not path.startswith(WITH_TESTS_OF_THEIR_OWN)} - known == set()


async def test_every_document_parses_and_is_in_camel_case(redis_url: str, database_url: str, tmp_path: Path) -> None:
    site = Site(folder=tmp_path, redis_url=redis_url, database_url=database_url, plugins_dir=EXAMPLES)
    site.extra = {"limits.crm": {"rate_max": 10, "rate_seconds": 1}, "queues.default": {"limits": ["crm"]}}
    site.extra |= {"http": {"tokens_file": str(tmp_path / "tokens.toml")}}
    await _prepare(database_url)
    config = site.config
    wrong: list[str] = []
    for path, arguments in CALLS.items():
        words = [each.format(payload='{"name":"Ada"}', folder=tmp_path) for each in arguments.split()]
        where = () if path in WITHOUT_CONFIG else ("--config", config)
        run = process if path in CHANGES_ITS_PROCESS else command
        done = await run(*path.split(), *words, *where, "--json")
        if done.code != (1 if path in NOT_DONE else 0):
            wrong.append(f"{path}: exit {done.code}: {done.err}")
        elif path not in FREE_FORM:
            wrong += [f"{path}: {name}" for name in _names_not_in_camel_case(done.json)]
    assert not wrong, "\n".join(wrong)


async def test_an_error_is_a_document_too() -> None:
    done = await process("queues", "lst", "--json")
    assert (done.code, done.out, len(done.err.splitlines())) == (64, "", 1)
    assert '"error": "USAGE"' in done.err
    assert '"exitCode": 64' in done.err


async def _prepare(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await migrate(connection)
        await connection.execute(
            """
            INSERT INTO skycap.mail_ledger (key, message_id, kind, job_id, recipient_hash, template, state, claim)
            VALUES ('welcome:ada', '<welcome.ada@x>', 'send-welcome-email', 'm1', 'h', 'accounts/welcome', 'unknown', 1)
            """
        )
    finally:
        await connection.close()


def _names_not_in_camel_case(value: object) -> Iterator[str]:
    if isinstance(value, list):
        for each in cast("list[object]", value):
            yield from _names_not_in_camel_case(each)
    elif isinstance(value, dict):
        for name, member in cast("dict[str, object]", value).items():
            if not re.fullmatch(r"[a-z][A-Za-z0-9]*", name):
                yield name
            if name not in FREE_FORM:
                yield from _names_not_in_camel_case(member)
