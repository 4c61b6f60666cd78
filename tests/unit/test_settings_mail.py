"""[mail] and [brand]: what they take, and what is refused of them in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from skycap.errors import ConfigurationError
from skycap.settings import Settings, load_settings


def load(tmp_path: Path, toml: str) -> Settings:
    file = tmp_path / "skycap.toml"
    file.write_text(toml)
    return load_settings(file, environ={})


def test_nothing_of_it_need_be_set() -> None:
    mail = Settings().mail
    assert (mail.reply_to, mail.public_url, mail.bounce_address, mail.domain_max, mail.dkim_domain) == (None,) * 5


def test_an_address_of_the_web_loses_its_slash(tmp_path: Path) -> None:
    settings = load(tmp_path, '[mail]\npublic_url = "https://jobs.example.com/"')
    assert settings.mail.public_url == "https://jobs.example.com"


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ('[mail]\nreply_to = "nobody"', 'mail.reply_to: .*"nobody" is not one mail address'),
        ('[mail]\nbounce_address = "Bounces <b@example.com>"', "mail.bounce_address: .*write address@example.com"),
        ('[mail]\npublic_url = "jobs.example.com"', "mail.public_url: .*is no website"),
        ('[mail]\nidempotency_header = "X: y"', "mail.idempotency_header: .*is no name of a header"),
        ('[mail]\nidempotency_header = "X\\nBcc"', "mail.idempotency_header: .*is no name of a header"),
        ("[mail]\ndomain_max = 0", "mail.domain_max"),
        ('[mail]\ndkim_domain = "exa mple"', "mail.dkim_domain: .*is no domain name"),
        ('[mail]\ndkim_domain = "example.com"', "to sign mails, give dkim_selector and dkim_key_file too"),
        ('[brand]\ncolor = "red"', 'brand.color: .*"red" is no colour; write it like #9a3f26'),
        ('[brand]\ncolor_dark = "#fff"', "brand.color_dark: .*is no colour"),
        ('[brand]\ncolor = "#ff9900"', "brand.color: .*has a contrast of 1.9 to the mails' ground #f6f0e8.*darker one"),
        ('[brand]\ncolor_dark = "#003366"', "brand.color_dark: .*take a lighter one"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_key(tmp_path: Path, toml: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        load(tmp_path, toml)
