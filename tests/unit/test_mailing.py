"""From settings and plugins to what every mail has in common."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import DictLoader

from skycap.errors import ConfigurationError
from skycap.mailing import composer_of, letterhead_of, smtp_of, templates_of
from skycap.plugin import Plugin
from skycap.registry import Registry
from skycap.services.message import LOGO_ID
from skycap.settings import Settings, load_settings

SENDER = "Ege Seyahat <rezervasyon@example.com>"
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 100
MAIL = {
    "a/mail/subject.txt.j2": "Hi",
    "a/mail/body.txt.j2": "{{ brand.name }} {{ brand.color }}",
    "a/mail/body.html.j2": '<p>{% if brand.logo %}<img src="{{ brand.logo }}" alt="">{% endif %}</p>',
}


def load(tmp_path: Path, toml: str) -> Settings:
    file = tmp_path / "skycap.toml"
    file.write_text(toml)
    return load_settings(file, environ={})


def registry(templates: dict[str, str]) -> Registry:
    made = Registry()
    made.add(Plugin("a", templates=DictLoader(templates)), name="a", origin="this test")
    return made


def test_templates_know_the_brand(tmp_path: Path) -> None:
    settings = load(tmp_path, '[brand]\nname = "Ege Seyahat"\ncolor = "#003366"')
    mail = templates_of(settings, registry(MAIL)).render("a/mail", locale="en", variables={})
    assert mail.text == "Ege Seyahat #003366\n"
    assert "img" not in mail.html


async def test_the_logo_travels_with_the_mail_that_shows_it(tmp_path: Path) -> None:
    logo = tmp_path / "logo.png"
    logo.write_bytes(PNG)
    settings = load(tmp_path, f'[brand]\nlogo = "{logo}"')
    plugins = registry(MAIL)
    composer = composer_of(settings, plugins, templates_of(settings, plugins), sender=SENDER)
    composition = composer.rendered("a/mail", locale="en", variables={})
    assert f'src="cid:{LOGO_ID}"' in composition.rendered.html
    assert letterhead_of(settings, SENDER).logo is not None


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"<svg/>", "is neither PNG nor JPEG nor GIF"),
        (PNG + b"\0" * 100_000, r"has 100,108 bytes, and every mail would carry them; make it smaller than 100,000"),
    ],
)
def test_a_logo_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes | None, problem: str) -> None:
    logo = tmp_path / "logo.png"
    if content is not None:
        logo.write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"brand.logo: .*{problem}"):
        letterhead_of(load(tmp_path, f'[brand]\nlogo = "{logo}"'), SENDER)


def test_without_a_mail_server_there_is_no_pool() -> None:
    assert smtp_of(Settings()) is None
