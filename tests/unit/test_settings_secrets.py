"""A secret is shown nowhere: not in a repr, not in a dump, not in an error."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from pydantic import ValidationError

from skycap.settings import InvalidSettings, RedisAddress, Settings, SmtpAddress, load_settings

TOML = """
[redis]
url = "redis://:hunter2@h:6379/0"
[database]
url = "postgresql://app:hunter2@h/db"
direct_url = "postgresql://app:hunter2@h/db"
[smtp]
url = "smtps://bookings%40example.com:hunter2@mail.example.com"
password = "hunter2"
[plugins.amadeus]
api_key = "hunter2"
hotels_url = "https://me:hunter2@api.example.com/v1"
currencies = ["TRY", "https://me:hunter2@api.example.com"]
auth = { user = "hunter2" }
retries = 3
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    file = tmp_path / "skycap.toml"
    file.write_text(TOML)
    return load_settings(file, environ={})


def test_no_secret_in_any_way_to_print_settings(settings: Settings) -> None:
    for shown in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())):
        assert "hunter2" not in shown
        assert "bookings@example.com" not in shown
        assert "bookings%40" not in shown


def test_what_is_not_secret_is_shown(settings: Settings) -> None:
    dump = settings.model_dump(mode="json")
    assert dump["redis"]["url"] == "redis://:***@h:6379/0"
    assert dump["database"]["url"] == "postgresql://app:***@h/db"
    assert dump["smtp"]["url"] == "smtps://***:***@mail.example.com:465"
    assert dump["plugins"]["amadeus"] == {
        "api_key": "***",
        "hotels_url": "https://me:***@api.example.com/v1",
        "currencies": ["TRY", "https://me:***@api.example.com"],
        "auth": "***",
        "retries": 3,
    }


def test_libraries_get_the_secret(settings: Settings) -> None:
    assert settings.require_redis().unmasked == "redis://:hunter2@h:6379/0"
    assert settings.require_database().dsn == "postgresql://app:hunter2@h/db"
    assert settings.require_smtp().password == "hunter2"
    assert settings.plugins["amadeus"]["api_key"] == "hunter2"


def test_addresses_and_their_parts_print_masked() -> None:
    address = RedisAddress.parse("redis://app:hunter2@h")
    assert repr(address) == "RedisAddress('redis://app:***@h')"
    assert repr(address.url) == "Url('redis://***:***@h')"
    assert f"{SmtpAddress.parse('smtp://me:hunter2@h')}" == "smtp://***:***@h"


@pytest.mark.parametrize(
    "toml",
    [
        '[redis]\nurl = "hunter2"',
        '[redis]\nurl = ["hunter2"]',
        '[redis]\nurl = "redis://:hunter2@h:x"',
        '[database]\nurl = "postgresql://app:hunter2@h/db?connection_limit=hunter2"',
        '[smtp]\npassword = ["hunter2"]',
        '[smtp]\nurl = "smtp://me:hunter2@mail.example.com"\nstarttls = "off"',
        'plugins.amadeus = "hunter2"',
        '[redis]\nurl = "redis://:hunter2@h"\npassword = "hunter2"',
    ],
)
def test_no_secret_in_an_error_nor_in_what_is_chained_to_it(tmp_path: Path, toml: str) -> None:
    file = tmp_path / "skycap.toml"
    file.write_text(toml)
    with pytest.raises(InvalidSettings) as raised:
        load_settings(file, environ={})
    assert "hunter2" not in "".join(traceback.format_exception(raised.value))
    assert raised.value.__context__ is None


def test_no_secret_in_the_error_of_pydantic_itself() -> None:
    with pytest.raises(ValidationError) as raised:
        Settings.model_validate({"redis": {"url": "hunter2", "password": "hunter2"}, "token": "hunter2"})
    assert "hunter2" not in str(raised.value)
