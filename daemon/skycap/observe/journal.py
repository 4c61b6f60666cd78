"""Journal: log records to systemd's journal with their fields, one datagram each, without ever waiting for it.

The protocol is systemd's own: https://systemd.io/JOURNAL_NATIVE_PROTOCOL.
"""

from __future__ import annotations

import array
import errno
import fcntl
import json
import logging
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from skycap.observe.operator_events import MESSAGE_IDS
from skycap.redaction import without_addresses

SOCKET = Path("/run/systemd/journal/socket")

PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}

_ENTRY = "skycap_journal_entry"
_IN_FIELDS_OF_ITS_OWN = frozenset({"event", "level", "timestamp", "exception", "_record", "_from_structlog", _ENTRY})
_LONGEST_NAME = 64
_TOO_LARGE = frozenset({errno.EMSGSIZE, errno.ENOBUFS})
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def is_journal(stream: TextIO, environ: Mapping[str, str] = os.environ, path: Path = SOCKET) -> bool:
    """Whether what is written to ``stream`` arrives in the journal anyway, and the journal can be told directly."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}" and path.is_socket()


def journal_fields(_logger: object, _method: str, event: Any) -> str:
    """The last processor of structlog: the message, and beside it the fields, which the handler finds at the record."""
    record: logging.LogRecord = event["_record"]
    entry = entry_of(event, record)
    getattr(record, _ENTRY).update(entry)
    return entry["MESSAGE"]


class JournalHandler(logging.Handler):
    """For a formatter that ends with ``journal_fields``. What the journal does not take at once is lost and counted."""

    def __init__(self, path: Path = SOCKET) -> None:
        super().__init__()
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            entry: dict[str, str] = {}
            setattr(record, _ENTRY, entry)  # what is formatted is a copy of the record, yet with this very dict
            self.format(record)
        except Exception:  # noqa: BLE001 - as every handler of logging: it must not end who logs
            self.handleError(record)
            return
        if not self._send(entry):
            self._lost += 1
        elif self._lost and self._send({"MESSAGE": f"log lines lost: {self._lost}", "PRIORITY": "4"}):
            self._lost = 0

    def close(self) -> None:
        self._socket.close()
        super().close()

    def _send(self, entry: Mapping[str, str]) -> bool:
        datagram = encoded(entry)
        try:
            self._socket.sendto(datagram, self._path)
        except OSError as error:
            return error.errno in _TOO_LARGE and self._send_by_file(datagram)
        return True

    def _send_by_file(self, datagram: bytes) -> bool:
        """What is too large for a datagram is handed over as a file in memory that nobody can change any more."""
        file = os.memfd_create("skycap log record", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(file, "wb", closefd=False) as writing:
                writing.write(datagram)
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
            handed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))]
            self._socket.sendmsg([b""], handed, 0, self._path)
        except OSError:
            return False
        finally:
            os.close(file)
        return True


def encoded(entry: Mapping[str, str]) -> bytes:
    """Fields with a line break have their length before them, so that no value can bring fields of its own."""
    parts: list[bytes] = []
    for name, value in entry.items():
        data = value.encode("utf-8", "replace")
        if b"\n" in data:
            parts.append(b"%b\n%b%b\n" % (name.encode(), len(data).to_bytes(8, "little"), data))
        else:
            parts.append(b"%b=%b\n" % (name.encode(), data))
    return b"".join(parts)


def entry_of(event: Mapping[str, Any], record: logging.LogRecord) -> dict[str, str]:
    """The fields of a journal entry for a structlog ``event``, whose strings are without addresses already."""
    said = str(event.get("event", ""))
    rest = {name: _text(value) for name, value in event.items() if name not in _IN_FIELDS_OF_ITS_OWN}
    told = " ".join(f"{name}={value}" for name, value in rest.items() if name != "logger")
    lines = [f"{said}: {told}" if told else said, *filter(None, (event.get("exception"),))]
    entry = {
        "MESSAGE": "\n".join(lines),
        "PRIORITY": str(PRIORITIES.get(str(event.get("level")), 6)),
        "SYSLOG_IDENTIFIER": "skycap",
        "CODE_FILE": record.pathname,
        "CODE_LINE": str(record.lineno),
        "CODE_FUNC": record.funcName,
        "SKYCAP_EVENT": said,
        **{_field(name): value for name, value in rest.items()},
    }
    return entry | ({"MESSAGE_ID": MESSAGE_IDS[said]} if said in MESSAGE_IDS else {})


def _field(name: str) -> str:
    return "SKYCAP_JOB_ID" if name == "job" else f"SKYCAP_{re.sub('[^A-Z0-9_]', '_', name.upper())}"[:_LONGEST_NAME]


def _text(value: object) -> str:
    return value if isinstance(value, str) else without_addresses(json.dumps(value, ensure_ascii=False, default=str))
