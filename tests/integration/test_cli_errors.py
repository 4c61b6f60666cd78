"""What is wrong is said in one line on stderr, with the fix, and by the exit code."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.support.daemons import CLEAN, Site, skycap

AWAY = {
    "SKYCAP_REDIS_URL": "redis://skycap:geheim@127.0.0.1:1/0",
    "SKYCAP_DATABASE_URL": "postgresql://skycap:geheim@127.0.0.1:1/travel",
}
REDIS = "redis://skycap:***@127.0.0.1:1/0"
DATABASE = "postgresql://skycap:***@127.0.0.1:1/travel"


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        ("queus list", 64, "No such command 'queus'. (Did you mean one of: 'enqueue', 'queues'?) See `skycap --help`"),
        ("jobs lst", 64, "No such command 'lst'. Did you mean 'list'? See `skycap jobs --help`"),
        ("jobs list --stat running", 64, "No such option '--stat'."),
        ("jobs list --state odd", 64, "'odd' is not one of 'scheduled', 'available'"),
        ("jobs list extra", 64, "Got unexpected extra argument (extra) See `skycap jobs list --help`"),
        ("jobs show", 64, "Missing argument 'JOB'. See `skycap jobs show --help`"),
        ("queues pause nowhere", 64, "there is no queue 'nowhere'; configured: "),
        ("enqueue send-welcome-emial", 64, "no plugin handles 'send-welcome-emial'; did you mean"),
        ("enqueue send-email --payload {", 64, "--payload: not JSON: "),
        ("enqueue send-email --payload @/nowhere.json", 64, "--payload: cannot read /nowhere.json: No such file"),
        ("enqueue send-email --delay soon", 64, "'soon' is no duration; give seconds such as 90, or 90s, 15m, 2h"),
        ("breakers open nobody", 64, "there is no breaker 'nobody'; known: "),
        ("schedules run never", 64, "there is no schedule 'never'; known: "),
        ("plugins new Loyalty", 64, "'Loyalty' cannot be a plugin's name: give small letters"),
        ("queues list", 69, f"redis: Connection refused; is it running, and is {REDIS} right?"),
        ("cache stats", 69, f"redis: Connection refused; is it running, and is {REDIS} right?"),
        ("limits hold --help-me", 64, "No such option '--help-me'."),
        ("mail ledger", 69, f"database: Connection refused; is it running, and is {DATABASE} right?"),
        ("db report", 69, f"database: Connection refused; is it running, and is {DATABASE} right?"),
        ("db migrate", 69, f"and is {DATABASE} right?"),
        ("queues list --config /proc/self/mem", 78, "/proc/self/mem: cannot be read (Input/output error)"),
        ("queues list --config /nowhere.toml", 78, "/nowhere.toml: there is no such file; correct --config"),
    ],
)
async def test_a_wrong_call_is_told_in_one_line(words: str, code: int, problem: str) -> None:
    done = await skycap(*words.split(), environ=AWAY)
    assert (done.code, done.out) == (code, ""), done.err
    assert problem in done.err
    assert done.err.startswith("skycap: ")
    assert len(done.err.splitlines()) == 1
    assert "geheim" not in done.err


async def test_a_wrong_configuration_is_exit_78_with_its_line(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[redis\n")
    unknown = tmp_path / "unknown.toml"
    unknown.write_text('[redis]\nurll = "redis://localhost"\n')
    folder = tmp_path / "folder.toml"
    folder.mkdir()
    for file, problem in ((wrong, "wrong.toml:1: "), (unknown, "redis.urll: is no setting; did you mean url?")):
        done = await skycap("queues", "list", "--config", file)
        assert (done.code, len(done.err.splitlines())) == (78, 1), done.err
        assert problem in done.err
    assert (await skycap("queues", "list", "--config", folder)).code == 64


async def test_without_a_redis_the_setting_is_named(tmp_path: Path) -> None:
    done = await skycap("queues", "list", environ={"XDG_STATE_HOME": str(tmp_path)})
    assert done.code == 78
    assert "redis.url: is not set; give it as redis://host:6379/0, here or in SKYCAP_REDIS_URL" in done.err


async def test_a_redis_that_says_nothing_is_given_up_within_seconds(tmp_path: Path) -> None:
    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            writer.close()

    server = await asyncio.start_unix_server(silent, tmp_path / "silent.sock")
    began = time.monotonic()
    done = await skycap("queues", "list", environ={"SKYCAP_REDIS_URL": f"unix://{tmp_path}/silent.sock"})
    server.close()
    assert done.code == 69
    assert f"unix://{tmp_path}/silent.sock" in done.err
    assert time.monotonic() - began < 20, "one time limit of 3 s, and the start of a process on a busy machine"


async def test_a_reader_that_leaves_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "skycap", "config", "reference"),
        env=CLEAN,
        stdout=writing,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writing)
    _, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")


async def test_ctrl_c_is_exit_130(redis_url: str, tmp_path: Path) -> None:
    site = Site(folder=tmp_path, redis_url=redis_url)
    await skycap("enqueue", "cleanup-old-data", "--config", site.config)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "skycap", "events", "--last", "1", "--config", str(site.config)),
        env=CLEAN,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    await process.stdout.readline()  # it follows by now
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in err
