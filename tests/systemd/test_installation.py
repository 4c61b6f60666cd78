"""The page that leads from a bare machine to a running daemon, and back: every command of it, really typed.

Redis, PostgreSQL, nginx and Prometheus are Debian's own units. Not typed is what takes a network: `apt-get`, whose
packages are there already, and pip's index, instead of which libraries.pth leads to the libraries of this test.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.skips import skip
from tests.support.workers import eventually
from tests.systemd import page
from tests.systemd.machine import ROOT, Machine, booted, obstacle

pytestmark = pytest.mark.timeout(480)

PAGE_SECONDS = 200
"""A bound on half the page, where other tests are busy."""
PROGRAMS = ("redis-server", "pg_ctlcluster", "nginx", "prometheus", "promtool", "curl", "openssl")
TABLES = ROOT / "daemon" / "skycap" / "demo" / "sql" / "travel_tables.sql"
TO_A_DAEMON = ("Redis", "PostgreSQL", "Configure", "Run", "Proxy", "Monitor")
WITH_A_DAEMON = (
    *("Stop and change", "Upgrade and roll back", "Several daemons", "The endpoint during restarts"),
    *("Drop-ins", "Schedules by timers", "Back up"),
)


@pytest.fixture(scope="module")
def bare(wheel: Path) -> Iterator[Machine]:
    """A machine of its own, since it is emptied at the end."""
    missing = [program for program in PROGRAMS if shutil.which(program, path="/usr/sbin:/usr/bin") is None]
    why_not = obstacle() or (f"there is no {missing[0]} of Debian's on this machine" if missing else None)
    if why_not:
        skip(why_not)
    with booted(wheel) as machine:
        asyncio.run(_as_apt_leaves_it(machine))
        yield machine


async def _as_apt_leaves_it(machine: Machine) -> None:
    """With the logs' folders, of which a boot here makes none, and the backend's database."""
    for owner, folder in (("redis", "redis"), ("root", "nginx"), ("postgres", "postgresql")):
        await machine.run(f"install -d -o {owner} /var/log/{folder}")
    # Or a copy of what Redis has begins only after seconds, in which more replicas may come.
    await machine.run("echo 'repl-diskless-sync-delay 0' >>/etc/redis/redis.conf")
    await machine.run("systemctl start postgresql@15-main")
    await machine.psql("CREATE DATABASE travel")
    await machine.psql(TABLES.read_text(), database="travel")


def script(*sections: str) -> str:
    """What is typed in these sections, in one shell that says each command, and ends at the first failure."""
    lines = [typed.line for section in sections for typed in page.commands(section) if not typed.takes_a_network]
    return "\n".join(("cd /shared; set -x", *lines))


async def test_the_page_leads_from_a_bare_machine_to_a_watched_daemon_and_back(bare: Machine) -> None:
    await bare.install(as_typed=True)
    said = await bare.run(script(*TO_A_DAEMON), seconds=PAGE_SECONDS)
    for expected in (
        "PONG",
        "applied: 0001_mail_ledger.sql",
        "Active: active (running)",
        'Status: "default 0/5, email 0/3',
        "daemon started: ",
        "tidy-records",
        '"jobId"',
        "SUCCESS: /etc/prometheus/prometheus.yml is valid",
        "SUCCESS: 1 rule files found",
        "Checking /opt/skycap/share/skycap/config/prometheus/alerts.yml",
    ):
        assert expected in said.out

    async def is_watched() -> bool:
        query = "http://127.0.0.1:9090/api/v1/query?query=up%7Bjob%3D%22skycap%22%7D"
        answer = await bare.run(f"curl --silent --fail '{query}'", check=False)
        return bool(answer.out) and [each["value"][1] for each in json.loads(answer.out)["data"]["result"]] == ["1"]

    await eventually(is_watched)
    rules = json.loads((await bare.run("curl --silent --fail http://127.0.0.1:9090/api/v1/rules")).out)["data"]
    assert "/opt/skycap/share/skycap/config/prometheus/alerts.yml" in {group["file"] for group in rules["groups"]}
    await _has_least_rights(bare)
    await bare.run(script(*WITH_A_DAEMON), seconds=PAGE_SECONDS)
    await bare.run("systemctl is-active skycap@main")
    kept = (await bare.run("ls /root")).out.split()
    assert {"skycap.rdb", "skycap.sql", "skycap.tar"} <= {*kept}
    await bare.run(script("Uninstall"))
    left = await bare.run(
        "find /etc/{systemd,sysusers.d,tmpfiles.d} /usr/local/lib/systemd /var/lib /opt/skycap* -name '*skycap*'",
        check=False,
    )
    assert left.out == ""
    assert "skycap" not in (await bare.run("journalctl --list-catalog")).out
    running = await bare.run("systemctl list-units --plain --no-legend 'skycap*'")
    assert running.out == ""


async def _has_least_rights(machine: Machine) -> None:
    """Of the daemon's roles and of what others reach."""
    tls = "curl --silent --output /dev/null --write-out '%{http_code} ' --cacert /etc/nginx/skycap.crt"
    there = "--resolve jobs.example.com:443:127.0.0.1 https://jobs.example.com"
    codes = [
        (await machine.run(f"{tls} {there}{path}")).out.strip()
        for path in ("/api/jobs", "/api/health", "/metrics", "/", "/unsubscribe/x")
    ]
    assert codes == ["401", "404", "404", "404", "404"]
    refused = await machine.run("runuser -u skycap -- psql --command 'DELETE FROM users' travel", check=False)
    assert "permission denied for table users" in refused.err
    redis = "REDISCLI_AUTH=$(cat /etc/redis/password.{}) redis-cli --user {} {}"
    for user, name, command, answer in (
        ("PRODUCER", "producer", "keys '*'", "NOPERM"),
        ("DAEMON", "skycap", "flushall", "NOPERM"),
        ("DAEMON", "skycap", "config get maxmemory-policy", "NOPERM"),
        ("ADMIN", "default", "config get maxmemory-policy", "noeviction"),
        ("ADMIN", "default", "config get appendonly", "yes"),
    ):
        said = await machine.run(redis.format(user, name, command), check=False)
        assert answer in said.out + said.err, command
    assert "NOAUTH" in (await machine.run("redis-cli ping", check=False)).out
