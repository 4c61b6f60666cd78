"""The page at ``/``: all of a Situation as HTML, without a script, a request of its own or anything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Final

from jinja2 import Environment, StrictUndefined, Template

from skycap.display import words
from skycap.display.rows import daemon_rows, dead_rows, queue_rows, versions_of
from skycap.display.situation import Situation
from skycap.display.troubles import headline, troubles_of

_FOLDER: Final = Path(__file__).parent
_STYLE: Final = (_FOLDER / "page.css").read_text(encoding="utf-8")

POLICY: Final = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; img-src data:; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
)
"""What a browser may do with the page: show it in its own style, with the dot of its tab, and nothing else."""

REFRESHES: Final[Mapping[int, str]] = {5: "5 s", 10: "10 s", 30: "30 s", 60: "1 min", 0: "off"}
"""Seconds between two loads that the page itself offers, and what it calls them."""

LINKS: Final[tuple[tuple[str, str], ...]] = (
    ("api/system/status", "the figures of this page, and more"),
    ("api/system/health", "dependencies, queues and breakers, as the dashboards read them"),
    ("api/system/cache-stats", "the cache by namespace"),
    ("api/system/circuit-breakers", "the breakers"),
    ("api/health/ready", "whether this daemon takes jobs"),
    ("metrics", "figures for Prometheus"),
    ("api/kinds", "the kinds of jobs"),
    ("api/docs", "the API, for people"),
    ("api/openapi.json", "the API, for programs"),
)
"""Relative, so that a proxy may have the page in a folder."""


def page(situation: Situation, *, refresh_seconds: int) -> str:
    """``refresh_seconds`` is what the browser was told; 0: not to come again by itself."""
    now, overview = situation.at, situation.overview
    troubles = troubles_of(overview, tuple(situation.dependencies), now=now)
    return _template().render(
        style=_STYLE,
        now=now,
        situation=situation,
        overview=overview,
        troubles=troubles,
        headline=headline(troubles, now=now),
        queues=queue_rows(overview),
        daemons=None if overview.daemons is None else daemon_rows(overview.daemons, here=situation.daemon),
        versions=versions_of(overview.daemons or ()),
        dead=None if situation.dead_letters is None else dead_rows(situation.dead_letters),
        refresh_seconds=refresh_seconds,
        refreshes=REFRESHES,
        links=LINKS,
        moment=partial(_or_nothing, now=now),
        away=partial(words.away, now=now),
        words=words,
    )


def _or_nothing(at: datetime | None, *, now: datetime) -> str:
    return words.NOTHING if at is None else words.moment(at, now=now)


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string((_FOLDER / "page.html.j2").read_text(encoding="utf-8"))
