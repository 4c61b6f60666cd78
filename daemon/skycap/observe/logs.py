"""Logs: one line per fact, for people, as JSON or for the journal, with the job's fields bound once by the worker."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

import structlog

from skycap.errors import ConfigurationError
from skycap.observe.journal import PRIORITIES, SOCKET, JournalHandler, is_journal, journal_fields
from skycap.redaction import without_addresses

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

job_fields: ContextVar[Mapping[str, object] | None] = ContextVar("job_fields", default=None)
"""The fields that every line has while a job runs: one variable, for binding each of them costs as much as a job."""

LogFormat = Literal["auto", "console", "json", "journal"]

_NEVER_REDACTED = frozenset({"message_id", "level", "logger", "timestamp"})
"""Fields that hold no free text; a Message-ID looks like an address but is none."""

_QUIETENED = {
    # It logs every handler's exception; the worker logs the same once, with the job's fields.
    "taskiq": logging.CRITICAL,
    # It tells of itself that it was started and stopped.
    "apscheduler": logging.WARNING,
}


def configure(*, level: str = "info", style: LogFormat = "auto", stream: TextIO | None = None) -> None:
    """Send skycap's and all libraries' logs to ``stream`` (stderr) or the journal, through one set of processors.

    Raises ConfigurationError where the journal is asked for and is not there.
    """
    target = sys.stderr if stream is None else stream
    chosen = _chosen(style, target)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_job_fields,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        *([] if chosen == "console" else [structlog.processors.format_exc_info]),
        _redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = JournalHandler() if chosen == "journal" else logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_rendering(target, chosen))
    )
    logging.getLogger().handlers[:] = [handler]
    set_level(level)


def _chosen(style: LogFormat, target: TextIO) -> LogFormat:
    if style == "journal" and not SOCKET.is_socket():
        raise ConfigurationError(f'log.format: "journal", and there is no {SOCKET} here; give "auto" or "json"')
    if style != "auto":
        return style
    if is_journal(target):
        return "journal"
    return "console" if target.isatty() else "json"


def set_level(level: str) -> None:
    """The least severe lines to write from now on."""
    root = logging.getLogger()
    root.setLevel(level.upper())
    for name, lowest in _QUIETENED.items():
        logging.getLogger(name).setLevel(max(lowest, root.level))


def to_syslog(name: str, address: str = "/dev/log") -> None:
    """Send what is logged under ``name``, from info on, to the log of the system instead; where there is one."""
    logger = logging.getLogger(name)
    if not logger.propagate or not Path(address).exists():
        return
    from logging.handlers import SysLogHandler

    try:
        handler = SysLogHandler(address, facility=SysLogHandler.LOG_AUTHPRIV)
    except OSError:
        return
    handler.ident = "skycap: "
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ]
        )
    )
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _rendering(stream: TextIO, style: LogFormat) -> list[Processor]:
    without_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if style == "journal":
        return [journal_fields]
    if style == "console":
        console = structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=_redacted_traceback)
        return [without_meta, console]
    to_journal = [_journal_prefix] if "JOURNAL_STREAM" in os.environ else []
    return [without_meta, structlog.processors.JSONRenderer(ensure_ascii=False), *to_journal]


def _add_job_fields(_logger: object, _method: str, event: EventDict) -> EventDict:
    for name, value in (job_fields.get() or {}).items():
        event.setdefault(name, value)
    return event


def _redact(_logger: Any, _method: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if name not in _NEVER_REDACTED and isinstance(value, str) and "@" in value:
            event[name] = without_addresses(value)
    return event


def _redacted_traceback(stream: TextIO, exc_info: Any) -> None:
    stream.write("\n" + without_addresses("".join(traceback.format_exception(*exc_info)).rstrip("\n")))


def _journal_prefix(_logger: Any, _method: str, line: Any) -> str:
    # journald reads "<N>" at the start of a line as its priority (sd-daemon(3)).
    level = str(line).partition('"level": "')[2].partition('"')[0]
    return f"<{PRIORITIES.get(level, 6)}>{line}"
