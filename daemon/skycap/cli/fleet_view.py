"""The lines of ``skycap top``: what is wrong, the queues, the daemons; as many as a terminal has room for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from skycap.cli.ink import Column, Ink, Line, Span, line, table
from skycap.display import words
from skycap.display.paces import Pace, Paces
from skycap.display.rows import DaemonRow, QueueRow, daemon_rows, queue_rows
from skycap.display.troubles import WELL, Trouble, troubles_of
from skycap.overview import Overview

_TROUBLES_SHOWN = 4
_QUEUE_LINES, _DAEMON_LINES = 5, 4
"""So many are seen where there is not room for all; the daemons' only if the queues' are."""
_BARS = "▁▂▃▄▅▆▇█"
_BARS_SHOWN = 30

_OF_PACE = (Column(name="DONE/S", weight=6), Column(name="FAIL/S", weight=4))
_QUEUE = (
    Column(name="QUEUE", is_number=False),
    Column(name="WAITING", weight=8),
    Column(name="OLDEST", weight=7),
    Column(name="RUNNING", weight=7),
    Column(name="LATER", weight=2),
    Column(name="DEAD", weight=5),
    *_OF_PACE,
    Column(name="PER MIN", weight=3),
    Column(name="LAST 30 MIN", weight=1, is_number=False),
)
_DAEMON = (
    Column(name="HOST", is_number=False),
    Column(name="PID", weight=7),
    Column(name="VERSION", weight=6, is_number=False),
    Column(name="RUNNING", weight=8),
    Column(name="MEMORY", weight=3),
    Column(name="UP", weight=4),
    Column(name="STATE", weight=5, is_number=False),
    Column(name="AT WORK", weight=1, is_number=False),
)


@dataclass(frozen=True, kw_only=True)
class View:
    """The newest overview in which Redis told anything, and for how long it has told nothing since."""

    overview: Overview
    paces: Paces
    silent_for: timedelta | None = None
    is_live: bool = True
    """Whether there is more than one look, so that paces are known."""
    draws_bars: bool = True
    """Whether the terminal has the characters for it."""

    def lines(self, *, width: int, height: int | None = None, foot: str = "") -> list[Line]:
        """As many as ``height`` allows, with ``foot`` as the last one; all of them if it is None."""
        head = [*self._head(width), ()]
        queues, daemons = self._queues(width), self._daemons(width)
        if height is None:
            return [*head, *queues, (), *daemons]
        room = max(height - len(head) - 2, 0)
        queues = _cut(queues, max(room - min(len(daemons), _DAEMON_LINES), min(room, _QUEUE_LINES)))
        shown = [*head, *queues, (), *_cut(daemons, max(room - len(queues), 0))]
        return [*shown[: height - 1], *[()] * (height - 1 - len(shown)), line(foot, Ink.FAINT)]

    def _head(self, width: int) -> Iterator[Line]:
        at = self.overview.at
        title = f"{at.astimezone(UTC):%H:%M:%S} UTC  " if at else ""
        if self.silent_for is not None or at is None:
            away = words.duration(self.silent_for or timedelta(0))
            yield (Span(title, Ink.BOLD), Span(f"Redis has not answered for {away}; trying again", Ink.BAD))
            return
        troubles = troubles_of(self.overview, now=at)
        if not troubles:
            yield (Span(title, Ink.BOLD), Span(WELL, Ink.GOOD))
        for place, trouble in enumerate(troubles[:_TROUBLES_SHOWN]):
            before = Span(title if place == 0 else " " * len(title), Ink.BOLD)
            yield (before, Span(_told(trouble, width - len(title), now=at), _ink_of(trouble)))
        if len(troubles) > _TROUBLES_SHOWN:
            yield line(f"{' ' * len(title)}and {len(troubles) - _TROUBLES_SHOWN} more", Ink.WARN)

    def _queues(self, width: int) -> list[Line]:
        rows = [self._queue(row) for row in queue_rows(self.overview)]
        kept = [place for place, column in enumerate(_QUEUE) if self.is_live or column not in _OF_PACE]
        return table([_QUEUE[place] for place in kept], [[row[place] for place in kept] for row in rows], width=width)

    def _queue(self, row: QueueRow) -> list[Span]:
        queue, pace = row.queue, self.paces.of(row.name)
        if queue is None:
            return [Span(row.name), *[Span("?", Ink.FAINT)] * (len(_QUEUE) - 1)]
        counts, oldest = queue.counts, queue.standing.oldest_waiting
        is_full = row.concurrency is not None and counts.running >= row.concurrency > 0
        return [
            Span(f"{row.name} paused", Ink.WARN) if counts.is_paused else Span(row.name, Ink.BOLD),
            Span(words.count(counts.available)),
            _or_faint(None if oldest is None else words.brief(oldest)),
            Span(
                f"{counts.running}/{'?' if row.concurrency is None else row.concurrency}",
                Ink.GOOD if is_full else Ink.PLAIN,
            ),
            Span(words.count(counts.later)),
            Span(words.count(counts.discarded), Ink.BAD if counts.discarded else Ink.PLAIN),
            _or_faint(None if pace is None else words.rate(pace.completed)),
            _failures(pace),
            _or_faint(None if row.hour is None else words.rate(row.hour.rate)),
            Span("" if row.hour is None or not self.draws_bars else bars(row.hour.completed[-_BARS_SHOWN:])),
        ]

    def _daemons(self, width: int) -> list[Line]:
        daemons = self.overview.daemons
        if daemons is None:
            return [line("daemons: not known", Ink.FAINT)]
        if not daemons:
            return [line("no daemon is there", Ink.BAD)]
        now = self.overview.at or datetime.now(UTC)
        return table(_DAEMON, [_daemon(row, now) for row in daemon_rows(daemons, here="")], width=width)


def bars(figures: Sequence[int]) -> str:
    """One character each; the least that is more than nothing can be seen."""
    most = max(figures, default=0)
    return "".join(_BARS[-(-number * (len(_BARS) - 1) // most)] if number else " " for number in figures).rstrip()


def _daemon(row: DaemonRow, now: datetime) -> list[Span]:
    daemon = row.daemon
    at_work = " ".join(f"{name} {slots.running}" for name, slots in daemon.queues.items() if slots.running)
    return [
        Span(daemon.host, Ink.BOLD),
        Span(str(daemon.process)),
        Span(daemon.version, Ink.WARN if row.is_odd else Ink.PLAIN),
        Span(f"{row.running}/{row.concurrency}"),
        Span(words.size(daemon.memory_bytes)),
        Span(words.brief(now - daemon.started_at)),
        Span("draining", Ink.WARN) if daemon.is_draining else Span("on", Ink.GOOD),
        Span(at_work, Ink.FAINT),
    ]


def _failures(pace: Pace | None) -> Span:
    if pace is None:
        return _or_faint(None)
    return Span(words.rate(pace.failed), Ink.BAD if pace.failed else Ink.PLAIN)


def _or_faint(text: str | None) -> Span:
    return Span(words.NOTHING, Ink.FAINT) if text is None else Span(text)


def _ink_of(trouble: Trouble) -> Ink:
    return Ink.WARN if trouble.weight else Ink.BAD


def _told(trouble: Trouble, width: int, *, now: datetime) -> str:
    """Cut where it is longest: since when, matters more than the end of the reason."""
    since = "" if trouble.since is None else f", {words.since(trouble.since, now=now)}"
    return _clipped(trouble.clause, width - len(since)) + since


def _clipped(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 3, 0)] + "..."


def _cut(lines: list[Line], most: int) -> list[Line]:
    """So many, of which the last one says how many are missing."""
    if len(lines) <= most:
        return lines
    return [*lines[: max(most - 1, 0)], line(f"and {len(lines) - max(most - 1, 0)} more", Ink.FAINT)][:most]
