"""`skycap check` as an admin types it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import structlog

from skycap.embedded import EmbeddedServers
from skycap.exits import Exit
from tests.support.commands import command
from tests.support.daemons import Finished, skycap
from tests.support.faketime import clock_off_by
from tests.support.redis_servers import free_port, proxy
from tests.support.servers import LineServer

BY_EVERYBODY = "ACL, CONFIG, DEBUG, FLUSHALL, SHUTDOWN, writing keys outside of skycap:*"
PASSWORDS = ("s3cret-of-redis", "s3cret-of-postgresql", "s3cret-of-smtp")


@pytest.fixture(autouse=True)
def _silence(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As the command makes it; what it does to logging itself is for a process of its own, and would stay."""

    def leave_as_it_is(**_: object) -> None: ...

    monkeypatch.setattr("skycap.observe.logs.configure", leave_as_it_is)
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.reset_defaults()


def config(folder: Path, *, redis: str, database: str, smtp: str) -> Path:
    file = folder / "main.toml"
    file.write_text(
        f'[redis]\nurl = "{redis}"\n[database]\nurl = "{database}"\n'
        f'[smtp]\nurl = "{smtp}"\nsender = "bookings@travel.example.org"\nstarttls = "off"\n'
    )
    file.chmod(0o600)
    return file


@pytest.fixture
async def mail_port() -> AsyncGenerator[int]:
    async with LineServer() as server:
        yield server.port


def statuses(done: Finished) -> dict[str, str]:
    return {each["name"]: each["status"] for each in done.json["checks"]}


async def test_it_tells_of_everything_and_of_no_secret(
    redis_url: str, database_url: str, mail_port: int, tmp_path: Path
) -> None:
    file = config(tmp_path, redis=redis_url, database=database_url, smtp=f"smtp://127.0.0.1:{mail_port}")
    nameserver = f"127.0.0.1:{free_port()}"
    done = await command("check", "--config", file, "--nameserver", nameserver, "--json")
    found = statuses(done)
    assert {name: status for name, status in found.items() if status == "fail"} == {}
    assert (done.code, sum(done.json["summary"].values())) == (Exit.DONE, len(done.json["checks"]))
    assert {found[name] for name in ("redis.rights", "postgresql.tables", "configuration.environment")} == {"warn"}
    assert {found[name] for name in ("redis.persistence", "postgresql.direct", "mail.login", "plugins.loaded")} == {
        "ok"
    }
    assert found["dns.spf"] == "skipped"


async def test_a_warning_counts_only_where_it_is_to(redis_url: str, tmp_path: Path) -> None:
    file = config(tmp_path, redis=redis_url, database="postgresql://h/d", smtp="smtp://localhost")
    words = ("check", "--config", file, "--only", "redis.rights,redis.eviction")
    lax, strict = await command(*words), await command(*words, "--strict")
    assert (lax.code, strict.code) == (Exit.DONE, Exit.NOT_DONE)
    assert re.sub(r"\d\.\d s", "0.1 s", lax.out).splitlines() == [
        "redis",
        "  ok       eviction  maxmemory-policy is noeviction",
        "  warn     rights    its user may do what no daemon does: " + BY_EVERYBODY,
        "                     → give its user the rights that config/README.md lists (ACL SETUSER)",
        "",
        "1 ok, 1 warnings, 0 failures, 0 skipped, in 0.1 s",
    ]
    clean = await command("check", "--config", file, "--only", "redis.eviction", "--strict")
    assert clean.code == Exit.DONE


async def test_each_way_to_fail_has_its_exit_code(redis_url: str, tmp_path: Path) -> None:
    down = f"redis://:{PASSWORDS[0]}@127.0.0.1:{free_port()}"
    file = config(tmp_path, redis=down, database="postgresql://h/d", smtp="smtp://localhost")
    away = await command("check", "--config", file, "--only", "redis")
    file.chmod(0o644)
    readable = await command("check", "--config", file, "--only", "secrets.files")
    worst = await command("check", "--config", file, "--only", "redis,configuration.read")
    file.write_text("[redis]\nulr = 1\n")
    wrong = await command("check", "--config", file, "--only", "redis,configuration.read")
    unknown = await command("check", "--config", file, "--only", "radish")
    assert (away.code, readable.code, worst.code) == (Exit.UNAVAILABLE, Exit.NOT_DONE, Exit.UNAVAILABLE)
    assert (wrong.code, unknown.code) == (Exit.CONFIGURATION, Exit.USAGE)
    assert "redis.connection failed (so are certificate, version" in " ".join(away.out.split())
    assert "\x1b[" not in away.out


async def test_it_takes_at_most_ten_seconds_whatever_is_down(
    redis_url: str, tmp_path: Path, plugins_folder: Path
) -> None:
    """Servers that take the connection and say nothing are the worst."""
    async with AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(proxy(redis_url)) for _ in range(3)]
        for each in silent:
            each.go_silent()
        redis, database, smtp = (f"127.0.0.1:{each.port}" for each in silent)
        file = config(
            tmp_path,
            redis=f"redis://:{PASSWORDS[0]}@{redis}",
            database=f"postgresql://skycap:{PASSWORDS[1]}@{database}/travel",
            smtp=f"smtp://user:{PASSWORDS[2]}@{smtp}",
        )
        done = await command("check", "--config", file, "--nameserver", f"{redis}", "--json")
        for each in silent:
            each.speak()
    found = statuses(done)
    assert {found[name] for name in ("redis.connection", "postgresql.connection", "mail.login")} == {"fail"}
    assert found["plugins.loaded"] == "ok"
    assert done.code == Exit.UNAVAILABLE
    assert done.json["seconds"] < 10
    assert not any(password in done.out + done.err for password in PASSWORDS)


async def test_a_plugin_that_never_loads_holds_nobody_up(redis_url: str, tmp_path: Path, plugins_folder: Path) -> None:
    """Nor does its thread keep the command from ending."""
    (plugins_folder / "endless.py").write_text("import threading\nthreading.Event().wait()\n")
    environ = {"SKYCAP_REDIS_URL": redis_url, "SKYCAP_PLUGINS_DIR": str(plugins_folder)}
    done = await skycap("check", "--only", "plugins.loaded,redis.connection", "--json", environ=environ)
    loaded, connection = done.json["checks"]
    assert loaded["says"] == "the plugins are not loaded within 4 s"
    assert connection["status"] == "ok"
    assert done.code == Exit.CONFIGURATION


async def test_clocks_that_differ_from_ours_are_warned_of(redis_url: str, database_url: str, tmp_path: Path) -> None:
    file = config(tmp_path, redis=redis_url, database=database_url, smtp="smtp://localhost")
    words = ("check", "--config", file, "--only", "redis.clock,postgresql.clock", "--json")
    done = await skycap(*words, environ=clock_off_by(timedelta(seconds=10)))
    assert (done.code, done.err) == (Exit.DONE, "")
    redis, postgresql = done.json["checks"]
    assert re.match(r"its host's clock is (9\.9|10\.\d) s behind ours", redis["says"])
    assert re.match(r"its clock and ours are (9\.9|10\.\d) s apart", postgresql["says"])


async def test_in_development_the_embedded_servers_are_found(servers: EmbeddedServers, tmp_path: Path) -> None:
    file = tmp_path / "skycap.toml"
    folder = Path(urlsplit(servers.redis_url).path).parents[1]
    await asyncio.to_thread(file.write_text, f'data_dir = "{folder}"\n')
    done = await command("check", "--config", file, "--only", "redis.connection,postgresql.connection", "--json")
    assert [each["status"] for each in done.json["checks"]] == ["ok", "ok"]
