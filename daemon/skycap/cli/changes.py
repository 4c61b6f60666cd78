"""What can be changed of a queue while it runs: its names as options, and its parts of the policy in Redis."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from skycap.cli.quantities import NoBound, duration_text, rate_text
from skycap.engine.policy import SHARED, Figures, QueuePolicy, Rate

LIMIT_PART = "limit:"
"""Before the name of a limit, in the name of the part that has its figures."""

_PARTS: Mapping[str, tuple[str, ...]] = {
    "fleet-concurrency": ("fleet",),
    "rate": ("rate_max", "rate_per"),
    "max-waiting": ("max_waiting",),
    "keep-finished": ("keep_finished",),
    "keep-finished-count": ("keep_finished_count",),
    "keep-discarded": ("keep_discarded",),
    "keep-discarded-count": ("keep_discarded_count",),
    "order": ("lifo",),
}


def parts_of(changes: Mapping[str, Any]) -> dict[str, str]:
    """The parts of the policy for these options by name (``fleet_concurrency``); NoBound takes a bound away."""
    fields: dict[str, Any] = {name: None if value is NoBound.NONE else value for name, value in changes.items()}
    if "order" in fields:
        fields["lifo"] = fields.pop("order") == "lifo"
    parts = QueuePolicy(**fields).parts()
    return {part: parts[part] for name in changes for part in _PARTS[name.replace("_", "-")]}


def names_of_parts(names: Iterable[str], changed: Iterable[str]) -> list[str]:
    """The parts to reset for these names, for all that is ``changed`` when there are none; limits are left alone."""
    for name in names:
        if name not in _PARTS:
            raise click.UsageError(f"{name!r} cannot be changed while running; known: {', '.join(_PARTS)}")
    chosen = [part for name in names for part in _PARTS[name]]
    return chosen or [part for part in changed if not part.startswith(LIMIT_PART)]


def changes_of(parts: Mapping[str, str]) -> dict[str, str]:
    """What was changed, by name, as it would be typed."""
    changes = {
        name: _text(name, [parts.get(part, "") for part in own]) for name, own in _PARTS.items() if own[0] in parts
    }
    for part, value in parts.items():
        if part.startswith(LIMIT_PART):
            name = part.removeprefix(LIMIT_PART).removeprefix(SHARED)
            changes[f"limit {name}"] = figures_text(figures_of(json.loads(value)))
    return changes


def figures_of(document: Mapping[str, Any]) -> Figures:
    """What Figures.document() was made of."""
    rate = Rate(max=document["max"], per=timedelta(milliseconds=document["per"])) if "max" in document else None
    return Figures(rate=rate, concurrency=document.get("concurrency"))


def figures_text(figures: Figures) -> str:
    texts = [] if figures.rate is None else [rate_text(figures.rate)]
    if figures.concurrency is not None:
        texts.append(f"{figures.concurrency} at a time")
    return ", ".join(texts) or NoBound.NONE.value


def gate_text(gate: str, until: datetime | None) -> str:
    """A gate that is shut, without the mark of a limit that queues share."""
    return f"{gate.removeprefix(SHARED)} held{until_text(until)}"


def end_of(duration: timedelta | None) -> datetime | None:
    """When something that begins now ends, for people: Redis counts by its own clock."""
    return None if duration is None else datetime.now(UTC) + duration


def until_text(until: datetime | None) -> str:
    """How long something is held; nothing when that is until somebody releases it."""
    return "" if until is None else f" until {until:%Y-%m-%d %H:%M:%S}"


def _text(name: str, values: list[str]) -> str:
    if name == "order":
        return "lifo" if values[0] else "fifo"
    if not values[0]:
        return NoBound.NONE.value
    if name == "rate":
        return rate_text(Rate(max=int(values[0]), per=timedelta(milliseconds=int(values[1]))))
    if name in {"keep-finished", "keep-discarded"}:
        return duration_text(timedelta(milliseconds=int(values[0])))
    return values[0]
