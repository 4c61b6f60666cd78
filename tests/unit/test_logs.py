"""What the daemon writes to its log, and what it must never write."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from skycap.observe import logs
from skycap.redaction import without_addresses


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def logged(write: Callable[[Any], object], **options: Any) -> str:
    stream = io.StringIO()
    logs.configure(stream=stream, **options)
    write(structlog.get_logger("skycap.test"))
    return stream.getvalue()


def test_a_line_is_one_json_object_with_the_fields_that_were_bound() -> None:
    def write(log: Any) -> None:
        with structlog.contextvars.bound_contextvars(job="0192", kind="say-hello", attempt=1):
            log.info("job completed", duration_ms=1.5)

    line = json.loads(logged(write))
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "job completed",
        "level": "info",
        "logger": "skycap.test",
        "job": "0192",
        "kind": "say-hello",
        "attempt": 1,
        "duration_ms": 1.5,
    }


def test_libraries_log_through_the_same_processors() -> None:
    line = json.loads(logged(lambda _: logging.getLogger("asyncpg").warning("lost %s", "ada@example.com")))
    assert (line["logger"], line["level"], line["event"]) == ("asyncpg", "warning", "lost [address]")


def fail() -> None:
    raise ValueError("550 no such user <ada.lovelace@example.com>")


@pytest.mark.parametrize("style", ["json", "console"])
def test_no_address_and_no_password_is_written_not_even_in_a_traceback(style: str) -> None:
    def write(log: Any) -> None:
        try:
            fail()
        except ValueError:
            log.exception("failed for ada.lovelace@example.com", url="smtp://u:geheim@mail.example.com")

    text = logged(write, style=style)
    assert "550 no such user" in text
    assert "Traceback" in text
    assert "ada.lovelace" not in text
    assert "geheim" not in text


def test_a_long_word_is_looked_through_at_once() -> None:
    """In the square of its length, this takes hours."""
    assert without_addresses("@ " + "x" * 5_000_000).startswith("@ x")


def test_a_message_id_in_its_own_field_is_kept() -> None:
    message_id = "<send-booking-confirmation.abc@travel.example.com>"
    line = json.loads(logged(lambda log: log.info("mail sent", message_id=message_id)))
    assert line["message_id"] == message_id


def test_what_is_below_the_level_is_not_written() -> None:
    assert logged(lambda log: log.info("quiet"), level="warning") == ""


def test_under_journald_a_line_begins_with_its_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    assert logged(lambda log: log.error("oops")).startswith("<3>{")


@given(name=st.from_regex(r"[\w.+-]{1,20}", fullmatch=True), text=st.text(max_size=40))
def test_an_address_never_survives_whatever_stands_around_it(name: str, text: str) -> None:
    address = f"{name}@example.com"
    assert address not in without_addresses(f"{text} <{address}> {text}")
    assert address not in without_addresses(f"{text}{address}{text}")
