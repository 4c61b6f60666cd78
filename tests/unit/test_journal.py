"""What reaches systemd's journal, as the datagrams that it would get."""

from __future__ import annotations

import array
import logging
import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from skycap.errors import ConfigurationError
from skycap.observe import journal, logs
from skycap.observe.operator_events import MESSAGE_IDS
from tests.support.skips import skip

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = ROOT / "systemd" / "skycap.catalog"

Entry = dict[str, str]


class Receiver:
    """Takes journald's place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(str(path))

    def entries(self) -> list[Entry]:
        found: list[Entry] = []
        while True:
            try:
                data, ancillary, _, _ = self.socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
            except BlockingIOError:
                return found
            found.append(decoded(_of_file(ancillary) if ancillary else data))


def _of_file(ancillary: list[Any]) -> bytes:
    (file,) = array.array("i", ancillary[0][2])
    try:
        with pytest.raises(PermissionError):
            os.pwrite(file, b"x", 0)  # journald takes it only when it is sealed
        return os.pread(file, 1 << 24, 0)
    finally:
        os.close(file)


def decoded(data: bytes) -> Entry:
    """By the rules of the protocol."""
    entry: Entry = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, is_short, value = line.partition(b"=")
        if not is_short:
            length = int.from_bytes(data[:8], "little")
            value, data = data[8 : 8 + length], data[9 + length :]
        assert re.fullmatch(rb"[A-Z][A-Z0-9_]{0,63}", name)
        entry[name.decode()] = value.decode()
    return entry


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with tempfile.TemporaryDirectory() as folder:  # pytest's own may be too long for the path of a socket
        found = Receiver(Path(folder) / "socket")
        monkeypatch.setattr(logs, "SOCKET", found.path)
        monkeypatch.setattr(logs, "JournalHandler", lambda: journal.JournalHandler(found.path))
        logs.configure(style="journal")
        yield found
        root.handlers[0].close()
        found.socket.close()
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def test_a_record_has_its_fields_and_where_it_was_written(receiver: Receiver) -> None:
    fields = {"job": "0192", "kind": "say-hello", "queue": "default", "attempt": 1, "plugin": "hello"}
    with structlog.contextvars.bound_contextvars(**fields):
        structlog.get_logger("skycap.test").warning("job snoozed", delay_seconds=1.5, reason="redis: away")
    (entry,) = receiver.entries()
    assert int(entry.pop("CODE_LINE")) > 0
    said = entry.pop("MESSAGE")
    assert said.startswith("job snoozed: delay_seconds=1.5 reason=redis: away ")
    assert set(said.split()[5:]) == {f"{name}={value}" for name, value in fields.items()}
    assert entry == {
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "skycap",
        "CODE_FILE": __file__,
        "CODE_FUNC": "test_a_record_has_its_fields_and_where_it_was_written",
        "SKYCAP_EVENT": "job snoozed",
        "SKYCAP_LOGGER": "skycap.test",
        "SKYCAP_JOB_ID": "0192",
        "SKYCAP_KIND": "say-hello",
        "SKYCAP_QUEUE": "default",
        "SKYCAP_ATTEMPT": "1",
        "SKYCAP_PLUGIN": "hello",
        "SKYCAP_DELAY_SECONDS": "1.5",
        "SKYCAP_REASON": "redis: away",
    }


def test_libraries_log_in_the_same_way(receiver: Receiver) -> None:
    logging.getLogger("asyncpg").error("lost %s", "ada@example.com")
    (entry,) = receiver.entries()
    assert (entry["MESSAGE"], entry["PRIORITY"], entry["SKYCAP_LOGGER"]) == ("lost [address]", "3", "asyncpg")


def test_a_value_cannot_bring_fields_of_its_own(receiver: Receiver) -> None:
    structlog.get_logger("skycap.test").info("said", text="a\nPRIORITY=0\nMESSAGE=b", **{"x=y\n": 1})
    (entry,) = receiver.entries()
    assert (entry["PRIORITY"], entry["SKYCAP_TEXT"]) == ("6", "a\nPRIORITY=0\nMESSAGE=b")
    assert entry["SKYCAP_X_Y_"] == "1"


def fail() -> None:
    raise ValueError("550 no such user <ada.lovelace@example.com>")


def test_no_address_and_no_password_is_written_not_even_in_a_traceback(receiver: Receiver) -> None:
    log = structlog.get_logger("skycap.test")
    try:
        fail()
    except ValueError:
        log.exception("failed for ada.lovelace@example.com", url="smtp://u:geheim@mail.example.com", to=["ada@x.org"])
    (entry,) = receiver.entries()
    said = "\n".join(entry.values())
    assert "550 no such user" in said
    assert "Traceback" in entry["MESSAGE"]
    assert not re.search("ada|geheim", said)


def test_what_is_too_large_for_a_datagram_comes_as_a_sealed_file(receiver: Receiver) -> None:
    structlog.get_logger("skycap.test").info("large", text="x" * 2_000_000)
    (entry,) = receiver.entries()
    assert len(entry["SKYCAP_TEXT"]) == 2_000_000


def test_a_journal_that_takes_nothing_holds_nobody_up_and_hears_how_much_was_lost(receiver: Receiver) -> None:
    log = structlog.get_logger("skycap.test")
    for number in range(2000):
        log.info("line", number=number)
    taken = len(receiver.entries())
    assert taken < 2000, "it has taken all"
    log.info("after it")
    after, lost = receiver.entries()
    assert (after["MESSAGE"], lost["MESSAGE"]) == ("after it", f"log lines lost: {2000 - taken}")


def test_a_journal_that_is_gone_ends_nobody(receiver: Receiver) -> None:
    receiver.path.unlink()
    structlog.get_logger("skycap.test").error("nobody hears it")


def test_it_is_chosen_where_stderr_is_the_journals_own(tmp_path: Path, receiver: Receiver) -> None:
    with (tmp_path / "stream").open("w") as stream:
        found = os.fstat(stream.fileno())
        mine, others = f"{found.st_dev}:{found.st_ino}", f"{found.st_dev}:{found.st_ino + 1}"
        assert journal.is_journal(stream, {"JOURNAL_STREAM": mine}, receiver.path)
        assert not journal.is_journal(stream, {"JOURNAL_STREAM": others}, receiver.path)
        assert not journal.is_journal(stream, {}, receiver.path)
        assert not journal.is_journal(stream, {"JOURNAL_STREAM": mine}, tmp_path / "none")


def test_a_journal_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "SOCKET", tmp_path / "none")
    with pytest.raises(ConfigurationError, match=r"^log\.format: "):
        logs.configure(style="journal")


def test_an_operator_event_has_its_id(receiver: Receiver) -> None:
    structlog.get_logger("skycap.test").error("reload refused", problem="x")
    (entry,) = receiver.entries()
    assert entry["MESSAGE_ID"] == MESSAGE_IDS["reload refused"]


def test_each_operator_event_is_logged_somewhere_and_explained() -> None:
    source = "\n".join(
        file.read_text() for file in (ROOT / "daemon").rglob("*.py") if file.name != "operator_events.py"
    )
    assert [event for event in MESSAGE_IDS if f'"{event}"' not in source] == []
    assert len(set(MESSAGE_IDS.values())) == len(MESSAGE_IDS)
    assert all(re.fullmatch("[0-9a-f]{32}", message_id) for message_id in MESSAGE_IDS.values())
    explained = re.findall(r"^-- ([0-9a-f]{32})$", CATALOGUE.read_text(), re.MULTILINE)
    assert sorted(explained) == sorted(MESSAGE_IDS.values())


def test_journalctl_takes_the_catalogue(tmp_path: Path) -> None:
    folder = tmp_path / "usr" / "lib" / "systemd" / "catalog"
    folder.mkdir(parents=True)
    (folder / "skycap.catalog").write_bytes(CATALOGUE.read_bytes())
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    try:
        made = subprocess.run(
            ("journalctl", "--update-catalog", f"--root={tmp_path}"), capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        skip("there is no journalctl here")
    assert (made.returncode, made.stderr) == (0, "")
    listed = subprocess.run(
        ("journalctl", "--list-catalog", f"--root={tmp_path}"), capture_output=True, text=True, check=True
    ).stdout
    assert len(listed.splitlines()) == len(MESSAGE_IDS)
