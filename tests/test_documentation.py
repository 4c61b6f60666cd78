"""Every snippet of every README runs, or is a file that does."""

from __future__ import annotations

import inspect
import io
import json
import re
import shlex
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import asyncpg
import click
import pytest
from babel.messages.pofile import read_po

from skycap import AsyncClient
from skycap.cli import skycap
from skycap.discovery import load
from skycap.envelope import Envelope
from skycap.http.errors import ERROR_TYPES
from skycap.intake import Intake
from skycap.request_document import RequestDocument
from skycap.services.migrations import migrate
from skycap.settings import load_settings
from tests.support.commands import commands_of
from tests.support.redis_users import RULE_OF_DAEMONS, RULE_OF_PRODUCERS

ROOT = Path(__file__).resolve().parents[1]
READMES = sorted(
    [
        *(ROOT / "README.md", ROOT / "config" / "CHECKS.md", ROOT / "daemon" / "CLI.md"),
        *(ROOT / "daemon" / "CONTRACT.md", ROOT / "tests" / "vectors" / "README.md"),
        *ROOT.glob("*/README.md"),
        *ROOT.glob("plugins/*/README.md"),
        *ROOT.glob("config/*/*.md"),
    ]
)
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Snippet:
    file: Path
    number: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}-{self.number}-{self.language}"


SNIPPETS = [
    Snippet(file, number, language, text)
    for file in READMES
    for number, (language, text) in enumerate(FENCE.findall(file.read_text()), 1)
]


def of(*languages: str) -> pytest.MarkDecorator:
    chosen = [snippet for snippet in SNIPPETS if snippet.language in languages]
    assert chosen
    return pytest.mark.parametrize("snippet", chosen, ids=str)


def test_every_folder_explains_itself() -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))}
    assert folders == {"config", "daemon", "plugins", "systemd", "templates", "tests"}
    assert [folder for folder in sorted(folders) if not (ROOT / folder / "README.md").exists()] == []


def test_every_snippet_is_of_a_kind_that_is_checked() -> None:
    checked = {"python", "console", "toml", "ini", "jinja", "po", "mermaid", "text", "json", "sql", "ts", "yaml"}
    assert [str(snippet) for snippet in SNIPPETS if snippet.language not in checked] == []


@of("python")
async def test_python_runs(snippet: Snippet, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYCAP_REDIS_URL", redis_url)
    # A module that can be found by its name, as taskiq's decorator wants it.
    monkeypatch.setitem(sys.modules, "snippet", ModuleType("snippet"))
    module = vars(sys.modules["snippet"])
    # "dont_inherit": this file's own future imports are none of the snippet's business.
    exec(compile(snippet.text, str(snippet), "exec", dont_inherit=True), module)  # noqa: S102 - it is our own text
    tests = [value for name, value in module.items() if name.startswith("test_")]
    for test in tests:
        answer = test()
        if inspect.isawaitable(answer):
            await answer
    if "confirm" in module:
        job_id = await module["confirm"]("b1", "u1", "ada@example.com")
        async with AsyncClient(redis_url) as client:
            job = await client.queue("email").get(job_id)
        assert job is not None
        assert job.payload["userEmail"] == "ada@example.com"
    if "confirm_booking" in module:
        task = await module["confirm_booking"].kiq(
            booking_id="b1", user_id="u1", user_email="ada@example.com", booking_type="HOTEL"
        )
        async with AsyncClient(redis_url) as client:
            assert await client.queue("email").get(task.task_id) is not None
        await module["broker"].shutdown()


def test_the_plugin_in_the_readme_is_the_one_in_the_examples() -> None:
    example = (ROOT / "plugins" / "examples" / "hello.py").read_text()
    assert example in {snippet.text for snippet in SNIPPETS if snippet.file == ROOT / "README.md"}


@of("json")
def test_json_is_a_request_or_an_envelope_that_fits_its_kind(snippet: Snippet) -> None:
    document = json.loads(snippet.text)
    registry = load()
    if "v" in document:
        registry.read(Envelope.from_json(snippet.text.encode()))
    elif {"kind", "payload"} <= document.keys():
        Intake(registry).job_of(RequestDocument.read(document).request())


@of("sql")
async def test_sql_runs(snippet: Snippet, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await migrate(connection)
        for statement in snippet.text.split(";\n"):
            assert await connection.fetch(statement) or not statement.strip()
        requests = [
            {**json.loads(row["options"]), "kind": row["kind"], "payload": json.loads(row["payload"])}
            for row in await connection.fetch("SELECT kind, payload, options FROM skycap.outbox")
        ]
    finally:
        await connection.close()
    for request in requests:
        Intake(load()).job_of(RequestDocument.read(request).request())


def test_the_contract_has_every_error_of_http() -> None:
    table = (ROOT / "daemon" / "CONTRACT.md").read_text().partition("begin -->")[2].partition("<!--")[0]
    documented = set(re.findall(r"^\| `(\w+)` \| (\d+) \| `(\w+)` \|", table, re.MULTILINE))
    assert documented == {(each.code, str(each.status), each.name) for each in ERROR_TYPES}


@of("ts")
def test_typescript_is_of_a_file_that_is_compiled_and_run(snippet: Snippet) -> None:
    files = [*(ROOT / "plugins" / "typescript").glob("*.ts"), *(ROOT / "tests" / "typescript").glob("*.ts")]
    assert [file for file in files if snippet.text in file.read_text()]


@of("toml")
def test_toml_is_valid(snippet: Snippet) -> None:
    tomllib.loads(snippet.text)


@of("ini")
def test_environment_files_and_unit_files_are_understood(snippet: Snippet) -> None:
    lines = [line for line in snippet.text.splitlines() if line and not line.startswith(("#", "["))]
    assert all("=" in line for line in lines)
    variables = dict(line.split("=", 1) for line in lines if line.startswith("SKYCAP_"))
    load_settings(environ=variables)  # raises for a name or a value that it does not understand


@of("po")
def test_translations_are_read(snippet: Snippet) -> None:
    catalogue = read_po(io.StringIO(snippet.text))
    ours = read_po(io.BytesIO((ROOT / "templates/skycap_templates/locale/tr.po").read_bytes()))
    assert [(message.id, message.string) for message in catalogue if message.id] == [
        (message.id, ours[message.id].string) for message in catalogue if message.id
    ]


@of("console")
def test_commands_of_skycap_exist_with_their_options(snippet: Snippet) -> None:
    commands = [line[2:] for line in snippet.text.splitlines() if line.startswith("$ ")]
    assert commands, "a console snippet shows what to type after a $"
    for line in commands:
        words = shlex.split(line)
        while words and words[0] in {"sudo", "curl"}:
            words = words[1:]
        if not words or Path(words[0]).name != "skycap" or words[1:2] == ["test"]:
            continue
        _parse(skycap, words[1:])


def test_every_command_has_an_example() -> None:
    typed = [line[2:] for line in (ROOT / "daemon" / "CLI.md").read_text().splitlines() if line.startswith("$ ")]
    shown = {f"{line} " for line in typed}
    paths = [f"skycap {path} " for path, _ in commands_of(skycap)]
    assert [path for path in paths if not any(line.startswith(path) for line in shown)] == []


@of("console")
def test_what_curl_sends_fits_its_kind(snippet: Snippet) -> None:
    for words in (shlex.split(line[2:]) for line in snippet.text.splitlines() if line.startswith("$ curl ")):
        if "--json" in words:
            document = json.loads(words[words.index("--json") + 1])
            Intake(load()).job_of(RequestDocument.read(document).request())


def test_the_users_of_redis_are_those_that_the_tests_try() -> None:
    text = " ".join((ROOT / "config" / "README.md").read_text().split())
    assert [rule for rule in (RULE_OF_PRODUCERS, RULE_OF_DAEMONS) if rule not in text] == []
    on_debian = (ROOT / "systemd" / "README.md").read_text()
    known_to_redis_7_0 = RULE_OF_PRODUCERS.replace(" +client|setinfo", "")
    assert [rule for rule in (known_to_redis_7_0, RULE_OF_DAEMONS) if rule not in on_debian] == []


def _parse(command: click.Command, words: list[str]) -> None:
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, found, words = command.resolve_command(click.Context(command), words)
        assert found is not None, f"there is no {name}"
        command = found
    command.make_context(command.name, words, resilient_parsing=True)


@pytest.mark.parametrize("readme", READMES, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_somewhere(readme: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", readme.read_text())
    assert [link for link in links if not (readme.parent / link).exists()] == []


def test_the_guarantees_name_tests_that_exist() -> None:
    text = (ROOT / "daemon" / "README.md").read_text()
    names = re.findall(r"`(test_\w+|tests/[\w/]+\.py)`", text)
    assert len(names) > 5
    code = "\n".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    missing = [name for name in names if not ((ROOT / name).exists() if "/" in name else f"def {name}(" in code)]
    assert missing == []
