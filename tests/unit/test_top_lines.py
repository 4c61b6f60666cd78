"""The lines of ``skycap top`` for a frozen fleet, in terminals of several sizes, and what may not steer one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from skycap.cli.fleet_view import View, bars
from skycap.cli.ink import Ink, Line, Span, shown, wants_colour
from skycap.display.paces import Pace, Paces
from skycap.overview import Overview
from tests.support.golden import assert_golden
from tests.support.situations import NOW, TROUBLED, UNDER_ATTACK, WELL, WITHOUT_REDIS, queue


def screen(overview: Overview, *, width: int, height: int | None = None, **options: Any) -> list[str]:
    view = View(overview=overview, paces=Paces(), **options)
    return plain(view.lines(width=width, height=height, foot="q quits"), width)


def plain(lines: list[Line], width: int) -> list[str]:
    return [shown(each, width=width, in_colour=False).rstrip() for each in lines]


@pytest.mark.parametrize("size", ["80x24", "120x40", "60x12"])
@pytest.mark.parametrize(("name", "overview"), [("well", WELL.overview), ("troubled", TROUBLED.overview)])
def test_the_screen_is_as_somebody_last_saw_it(name: str, overview: Overview, size: str) -> None:
    width, height = map(int, size.split("x"))
    lines = screen(overview, width=width, height=height)
    assert len(lines) == height
    assert max(map(len, lines)) <= width
    assert_golden(f"top/{name}.{size}.txt", "\n".join(lines) + "\n")


@pytest.mark.parametrize("height", range(1, 24))
@pytest.mark.parametrize("width", [1, 20, 79])
def test_every_size_is_kept_to(width: int, height: int) -> None:
    lines = screen(TROUBLED.overview, width=width, height=height)
    assert len(lines) == height
    assert max(map(len, lines)) <= width


def test_while_redis_is_silent_the_last_figures_stay() -> None:
    lines = screen(WELL.overview, width=80, height=24, silent_for=timedelta(seconds=12))
    assert lines[0] == "03:04:05 UTC  Redis has not answered for 12 s; trying again"
    assert any(line.startswith("email") for line in lines)


def test_before_redis_has_said_anything_each_queue_is_there_and_nothing_known() -> None:
    lines = screen(WITHOUT_REDIS.overview, width=80)
    assert lines[0].startswith("Redis has not answered")
    assert [line.split()[:2] for line in lines if line.startswith("email")] == [["email", "?"]]
    assert "daemons: not known" in lines


def test_what_others_have_named_does_not_steer_the_terminal() -> None:
    evil = "evil\x1b]0;title\x07\x1b[2J\r\n\x9b1mé"
    lines = plain([(Span(evil, Ink.BAD),)], 80)
    assert lines == ["evil?]0;title??[2J???1mé"]
    assert screen(replace(UNDER_ATTACK.overview, queues={evil: queue()}), width=120)


def test_colours_end_where_their_words_do() -> None:
    line = (Span("ab", Ink.BAD), Span("cd"), Span("ef", Ink.GOOD))
    assert shown(line, width=5, in_colour=True) == "\x1b[1;31mab\x1b[0mcd\x1b[32me\x1b[0m"
    assert shown(line, width=5, in_colour=False) == "abcde"


@pytest.mark.parametrize(
    ("environ", "is_terminal", "wanted"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm"}, False, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, True, False),
        ({}, True, False),
    ],
)
def test_colours_are_for_terminals_that_have_them(
    environ: dict[str, str], is_terminal: bool, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert wants_colour(is_terminal=is_terminal) is wanted


def test_bars_show_the_least_there_is() -> None:
    assert bars([0, 1, 4000, 8000, 0]) == " ▂▅█"
    assert bars([0, 0]) == ""


def look(seconds: float, completed: int, discarded: int) -> Overview:
    standing = replace(queue().standing, completed=completed, retried=0, discarded=discarded)
    return replace(
        WELL.overview,
        at=NOW + timedelta(seconds=seconds),
        queues={"email": replace(queue(), standing=standing)},
    )


def test_a_pace_is_of_the_last_ten_seconds() -> None:
    paces = Paces()
    paces.note(look(0, 0, 0))
    assert paces.of("email") is None
    paces.note(look(2, 100, 0))
    assert paces.of("email") == Pace(completed=50, failed=0)
    paces.note(look(12, 200, 20))
    assert paces.of("email") == Pace(completed=10, failed=2)
    assert paces.of("nowhere") is None


def test_a_slow_watcher_has_a_pace_too() -> None:
    paces = Paces()
    for minute in range(3):
        paces.note(look(60 * minute, 600 * minute, 0))
    assert paces.of("email") == Pace(completed=10, failed=0)


def test_there_is_no_pace_after_redis_has_lost_its_figures_and_none_of_silence() -> None:
    paces = Paces()
    paces.note(look(0, 500, 0))
    paces.note(WITHOUT_REDIS.overview)
    paces.note(look(2, 3, 0))
    assert paces.of("email") is None
