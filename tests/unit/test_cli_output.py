"""Tables: how wide characters are, what stands right, how long ago something was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from skycap.cli.cells import Cell, age_text, cell_of, shortened, size_text, state_cell, width_of
from skycap.cli.documents import document_of, json_text
from skycap.cli.output import print_fields, print_table, wants_color
from skycap.engine.queue import Counts

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


def test_columns_are_aligned_by_what_a_terminal_shows(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("guest", "bookings", "size"), [("京都", 5, "1.0 MiB"), ("Ada", 12, "712 B"), ("e\u0301", None, None)])
    assert capsys.readouterr().out.splitlines() == [
        "guest  bookings     size",
        "京都          5  1.0 MiB",
        "Ada          12    712 B",
        "e\u0301             -        -",
    ]


def test_an_empty_table_says_so_to_people_and_nothing_to_programs(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("job", "kind"), [], empty="no such job")
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "no such job\n")


def test_what_comes_from_outside_cannot_speak_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("error",), [("\x1b[2Jtwo\nlines\u202e",)])
    print_fields({"error": "\x1b[2Jtwo\nlines"})
    assert capsys.readouterr().out == "error\n [2Jtwo lines\nerror   [2Jtwo lines\n"


@pytest.mark.parametrize(
    ("age", "said"),
    [
        (timedelta(milliseconds=300), "now"),
        (timedelta(milliseconds=-300), "now"),
        (timedelta(seconds=59), "59 s ago"),
        (timedelta(seconds=200), "3 m ago"),
        (timedelta(hours=25), "1 d ago"),
        (timedelta(minutes=-61), "in 1 h"),
        (timedelta(days=100), "2026-08-20"),
    ],
)
def test_ages_are_said_as_people_say_them(age: timedelta, said: str) -> None:
    assert age_text(NOW - age, NOW) == said
    assert age_text((NOW - age).replace(tzinfo=None), NOW) == said


def test_one_job_shows_its_moments_exactly(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields({"at": datetime.now(UTC) - timedelta(minutes=3)})
    assert capsys.readouterr().out.endswith(" UTC (3 m ago)\n")


@pytest.mark.parametrize(
    ("text", "width", "kept"), [("Ayşe", 4, "Ayşe"), ("Ayşe Yılmaz", 6, "Ayşe…"), ("京都駅", 5, "京都…")]
)
def test_long_texts_are_shortened_by_what_a_terminal_shows(text: str, width: int, kept: str) -> None:
    assert shortened(text, width) == kept
    assert width_of(kept) <= width


def test_states_that_somebody_must_look_at_are_red() -> None:
    assert [state_cell(state).colour for state in ("discarded", "OPEN", "HALF_OPEN", "completed", "scheduled")] == [
        *("red", "red", "yellow", "green", None)
    ]
    assert cell_of(Cell(text="x", colour="red")).colour == "red"


def test_sizes_are_readable() -> None:
    assert [size_text(size) for size in (None, 712, 8_600_000)] == [None, "712 B", "8.2 MiB"]


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, None),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, None),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "0"}, None),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True),
    ],
)
def test_colours_are_as_the_environment_says(
    environ: dict[str, str], wanted: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert wants_color() is wanted


def test_documents_are_in_camel_case_with_moments_in_utc_and_durations_in_seconds() -> None:
    counts = Counts(available=1, later=0, running=0, discarded=0, is_paused=True, waiting_at_limits=2)
    assert document_of(counts) == {
        "available": 1,
        "later": 0,
        "running": 0,
        "discarded": 0,
        "isPaused": True,
        "pausedBecause": "",
        "waitingAtLimits": 2,
    }
    moment = datetime.fromisoformat("2026-11-28T15:00:00+03:00")
    assert json_text({"at": moment, "took": timedelta(minutes=1)}, indent=None) == (
        '{"at": "2026-11-28T12:00:00.000Z", "took": 60.0}'
    )
