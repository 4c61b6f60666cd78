"""The gallery's page: HTML of what there is to see, every value escaped where it is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Final
from urllib.parse import quote

from skycap.preview.previews import Preview
from skycap.preview.shades import SHADES

WIDTHS: Final = (600, 360)
"""CSS pixels: a window, and a phone."""

_PAGE = Path(__file__).with_name("page.html")

_SECTION: Final = Template("""<section>
<h2 dir="auto">$subject</h2>
<p>$name · $size · $links</p>
<div class="views">
$views
</div>
<details><summary>text</summary><pre dir="auto">$text</pre></details>
</section>""")
_VIEW: Final = Template("""<figure><figcaption>$width px, $shade</figcaption>
<iframe loading="lazy" sandbox="allow-same-origin" width="$width" src="$source" title="$title"></iframe></figure>""")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Of which kind, and in which locale; None: of all."""

    kind: str | None = None
    locale: str | None = None


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One mail, or what is wrong with it."""

    name: str
    preview: Preview | None = None
    problem: str | None = None


def page(shown: Sequence[Shown], *, brand: str, choice: Choice, kinds: Iterable[str], locales: Iterable[str]) -> str:
    """The whole page; the frames in it ask for ``/mail/NAME/…``."""
    return Template(_PAGE.read_text(encoding="utf-8")).substitute(
        brand=escape(brand),
        kinds=_options(kinds, choice.kind),
        locales=_options(locales, choice.locale),
        count=f"{len(shown)} mails" if len(shown) != 1 else "1 mail",
        mails="\n".join(map(_section, shown)),
    )


def problem_page(problem: str) -> str:
    """What a template's author sees when the templates do not even compile."""
    mails = f'<section><p class="problem">{escape(problem)}</p></section>'
    empty = {"brand": "…", "kinds": "", "locales": "", "count": ""}
    return Template(_PAGE.read_text(encoding="utf-8")).substitute(empty, mails=mails)


def _section(shown: Shown) -> str:
    preview = shown.preview
    if preview is None:
        name, problem = escape(shown.name), escape(shown.problem or "")
        return f'<section><h2>{name}</h2><p class="problem">{problem}</p></section>'
    return _SECTION.substitute(
        subject=escape(preview.subject),
        name=escape(shown.name),
        size=f"{len(preview.html.encode()) / 1024:.1f} KB",
        links=" · ".join(_link(shown.name, file) for file in files_of(preview)),
        views="\n".join(_view(shown, width, shade) for width in WIDTHS for shade in SHADES),
        text=escape(preview.text),
    )


def files_of(preview: Preview) -> list[str]:
    """What can be opened beside the HTML: the text, the whole mail, its attachments."""
    return ["mail.txt", "mail.eml", *(attachment.filename for attachment in preview.attachments)]


def _view(shown: Shown, width: int, shade: str) -> str:
    return _VIEW.substitute(
        width=width,
        shade=shade,
        source=escape(_address(shown.name, f"{shade}.html")),
        title=escape(f"{shown.name}, {width} px, {shade}"),
    )


def _link(name: str, file: str) -> str:
    return f'<a href="{escape(_address(name, file))}">{escape(file)}</a>'


def _address(name: str, file: str) -> str:
    return f"/mail/{quote(name, safe='')}/{quote(file, safe='')}"


def _options(values: Iterable[str], chosen: str | None) -> str:
    everything = '<option value="">all</option>'
    return everything + "".join(
        f"<option{' selected' if value == chosen else ''}>{escape(value)}</option>" for value in values
    )
