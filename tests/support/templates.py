"""Small mails, written where a test needs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from jinja2 import DictLoader

from skycap.services.message import RenderedMail
from skycap.services.templates import Templates
from tests.support.mails import BRAND

TURKISH: Final = """
msgid ""
msgstr ""
"Content-Type: text/plain; charset=utf-8\\n"

msgid "Hello %(name)s"
msgstr "Merhaba %(name)s"
"""


def mail(subject: str = "Hi", text: str = "Hi", html: str = "<p>Hi</p>") -> dict[str, str]:
    """The sources of the mail ``a/mail``."""
    return {"a/mail/subject.txt.j2": subject, "a/mail/body.txt.j2": text, "a/mail/body.html.j2": html}


def templates(*sources: Mapping[str, str], locales: tuple[str, ...] = ("en", "tr")) -> Templates:
    """As if each of ``sources`` were a plugin's."""
    return Templates([DictLoader(source) for source in sources], brand=BRAND, locales=locales)


def render(source: Mapping[str, str], locale: str | None = "en", **variables: object) -> RenderedMail:
    """The mail ``a/mail``."""
    return templates(source).render("a/mail", locale=locale, variables=variables)
