"""The TypeScript client, compiled and run by a real Node: beside a real daemon, a real PostgreSQL, and faults."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.commands import command
from tests.support.daemons import Site
from tests.support.node import ROOT, NodeSite

PLUGIN = """
import asyncio
from skycap import Context, Discard, Payload, Plugin
plugin = Plugin("greeter")
class SayHello(Payload, kind="say-hello"):
    name: str
    seconds: float = 0
@plugin.job()
async def say_hello(ctx: Context, payload: SayHello) -> dict[str, str]:
    await asyncio.sleep(payload.seconds)
    if not payload.name:
        raise Discard("nobody is greeted")
    return {"greeting": f"Hello {payload.name}"}
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> NodeSite:
    """Making it compiles everything, strictly."""
    return NodeSite.make(tmp_path_factory.mktemp("node"))


@pytest.fixture
def plugins(plugins_folder: Path) -> Path:
    (plugins_folder / "greeter.py").write_text(PLUGIN)
    return plugins_folder


def test_the_client_is_one_file_that_needs_nothing() -> None:
    text = (ROOT / "plugins" / "typescript" / "skycap.ts").read_text()
    assert re.findall(r"^\s*import\b|\brequire\(|\bprocess\.", text, re.MULTILINE) == []


def test_the_client_compiles_where_types_are_a_browsers(node: NodeSite) -> None:
    """As in Next.js, whose code sees the DOM's fetch and not Node's."""
    node.tool("tsc", "--project", "browser.json")


def test_the_lock_names_no_registry() -> None:
    lock = json.loads((ROOT / "tests" / "typescript" / "package-lock.json").read_text())
    assert [name for name, package in lock["packages"].items() if "resolved" in package] == []
    unsure = [name for name, package in lock["packages"].items() if name and "integrity" not in package]
    assert unsure == []


async def test_the_client_where_skycap_is_away(node: NodeSite) -> None:
    await node.test("away")


async def test_the_client_with_a_daemon(node: NodeSite, redis_url: str, plugins: Path, tmp_path: Path) -> None:
    async with Site(folder=tmp_path, redis_url=redis_url, plugins_dir=plugins).daemon() as daemon:
        await node.test("client", SKYCAP_URL=daemon.http_url)


async def test_a_route_of_next_js(node: NodeSite, redis_url: str, tmp_path: Path) -> None:
    async with Site(folder=tmp_path, redis_url=redis_url).daemon() as daemon:
        await node.test("route", SKYCAP_URL=daemon.http_url)


async def test_enqueueing_in_a_transaction(node: NodeSite, redis_url: str, database_url: str, tmp_path: Path) -> None:
    site = Site(folder=tmp_path, redis_url=redis_url, database_url=database_url)
    migrated = await command("db", "migrate", "--config", site.config)
    assert migrated.code == 0, migrated.err
    await node.test("outbox", DATABASE_URL=database_url)


async def test_a_job_from_a_transaction_runs(
    node: NodeSite, redis_url: str, database_url: str, plugins: Path, tmp_path: Path
) -> None:
    site = Site(folder=tmp_path, redis_url=redis_url, database_url=database_url, plugins_dir=plugins)
    async with site.daemon() as daemon:
        await node.test("relay", SKYCAP_URL=daemon.http_url, DATABASE_URL=database_url)


async def test_the_client_makes_the_documents_that_every_client_makes(node: NodeSite) -> None:
    await node.test("documents")
