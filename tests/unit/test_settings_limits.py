"""Limits by name: what they say, and what is refused of them in one line."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from skycap.errors import ConfigurationError
from skycap.exits import Exit
from skycap.settings import Settings, load_settings

MAIL_LIMITS = """
[limits.recipient-domain]
key = "userEmail|domain"
rate_max = 100
rate_seconds = 60
concurrency = 10

[limits.recipient-domain.keys."gmail.com"]
rate_max = 20

[limits.recipient-domain.keys."example.com"]
rate_seconds = 1
concurrency = 1
"""


def load(tmp_path: Path, toml: str) -> Settings:
    file = tmp_path / "skycap.toml"
    file.write_text(toml)
    return load_settings(file, environ={})


def test_there_is_none_by_default() -> None:
    settings = Settings()
    assert settings.limits == {}
    assert all(queue.limits == [] for queue in settings.queues.values())


def test_queues_and_kinds_name_the_limits_that_hold_for_them(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        f'[queues.email]\nlimits = ["recipient-domain"]\n[jobs.sync]\nlimits = ["supplier"]\n'
        f"[limits.supplier]\nconcurrency = 2\n{MAIL_LIMITS}",
    )
    assert settings.queues["email"].limits == ["recipient-domain"]
    assert settings.job("sync").limits == ["supplier"]
    assert settings.limits["supplier"].rate is None
    assert settings.limits["supplier"].key is None


def test_a_new_queue_has_the_limits_of_the_default_one(tmp_path: Path) -> None:
    settings = load(tmp_path, f'[queues.default]\nlimits = ["recipient-domain"]\n[queues.new]\n{MAIL_LIMITS}')
    assert settings.queues["new"].limits == ["recipient-domain"]


def test_a_value_of_the_key_can_have_figures_of_its_own(tmp_path: Path) -> None:
    limit = load(tmp_path, MAIL_LIMITS).limits["recipient-domain"]
    figures = {
        value: (limit.for_key(value).rate, limit.for_key(value).concurrency)
        for value in ("gmail.com", "example.com", "other.com")
    }
    assert figures == {
        "gmail.com": ((20, timedelta(minutes=1)), 10),
        "example.com": ((100, timedelta(seconds=1)), 1),
        "other.com": ((100, timedelta(minutes=1)), 10),
    }


def test_a_customer_who_has_figures_of_their_own_is_not_in_the_repr(tmp_path: Path) -> None:
    settings = load(tmp_path, '[limits.x]\nkey = "userEmail"\nrate_max = 1\nkeys."ada@example.com".rate_max = 2\n')
    assert settings.limits["x"].for_key("ada@example.com").rate_max == 2
    assert "ada@example.com" not in repr(settings)


@pytest.mark.parametrize("key", ["userId", "guest.address.country", "to|lower", "guest.email|domain", "line2"])
def test_a_key_is_a_path_into_the_payload(tmp_path: Path, key: str) -> None:
    assert load(tmp_path, f'[limits.x]\nkey = "{key}"\nrate_max = 1\n').limits["x"].key == key


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[limits.x]", "limits.x: limits nothing; give rate_max, concurrency or both"),
        ('[limits.x]\nkey = "to"\nrate_seconds = 5', "limits.x: limits nothing; give rate_max, concurrency or both"),
        (
            "[limits.x]\nrate_max = 0",
            "limits.x.rate_max: 0 is not at least 1; give a whole number from 1 to 1000000",
        ),
        ("[limits.x]\nkey = 5\nrate_max = 1", "limits.x.key: 5 is no text; give text, in quotes"),
        ("[limits.x]\nrat_max = 1\nconcurrency = 1", "limits.x.rat_max: is no setting; did you mean rate_max?"),
        (
            '[limits."a:b"]\nrate_max = 1',
            'limits."a:b": is no name; write lower-case words joined by hyphens, like price-alerts',
        ),
        ("limits = 5", "limits: 5 is no table; write its keys below [limits.NAME]"),
        (
            "[limits.x]\nrate_max = 1\nkeys = 5",
            "limits.x.keys: 5 is no table; write its keys below [limits.x.keys.NAME]",
        ),
        (
            '[limits.x]\nrate_max = 1\nkeys."gmail.com".rate_max = 2',
            'limits.x.keys: holds only beside key; give key = "userEmail|domain" or so, or leave keys out',
        ),
        (
            '[limits.x]\nkey = "to|domain"\nrate_max = 1\nkeys."gmail.com".rate_mx = 2',
            'limits.x.keys."gmail.com".rate_mx: is no setting; did you mean rate_max?',
        ),
        (
            '[limits.x]\nkey = "to|domain"\nrate_max = 1\nkeys."gmail.com".rate_max = "few"',
            'limits.x.keys."gmail.com".rate_max: "few" is no whole number; give a whole number from 1 to 1000000',
        ),
        (
            '[limits.x]\nkey = "to|domain"\nrate_max = 1\nkeys."gmail.com" = {}',
            'limits.x.keys."gmail.com": gives no figure; give rate_max, rate_seconds or concurrency',
        ),
        (
            '[limits.x]\nkey = "to"\nconcurrency = 1\nkeys.a.rate_seconds = 5',
            'limits.x: keys."a".rate_seconds is for no rate_max; give that too',
        ),
        (
            '[limits.x]\nkey = "to|domain"\nrate_max = 1\nkeys."Gmail.com".rate_max = 2',
            'limits.x.keys: "Gmail.com" never occurs, since |domain makes it "gmail.com"; write that',
        ),
        (
            '[limits.x]\nkey = "to|domain"\nrate_max = 1\nkeys."@gmail.com".rate_max = 2',
            'limits.x.keys: "@gmail.com" never occurs, since |domain makes it "gmail.com"; write that',
        ),
        (
            '[limits.x]\nkey = "city|lower"\nrate_max = 1\nkeys.Roma.rate_max = 2',
            'limits.x.keys: "Roma" never occurs, since |lower makes it "roma"; write that',
        ),
        (
            '[queues.email]\nlimits = ["x"]',
            'queues.email.limits: "x" is no limit; add a table [limits.x], or take it out of the list',
        ),
        (
            '[jobs.sync]\nlimits = ["suplier"]\n[limits.supplier]\nrate_max = 1',
            'jobs.sync.limits: "suplier" is no limit; did you mean supplier?',
        ),
        (
            '[queues.email]\nlimits = ["a:b"]',
            "queues.email.limits.0: is no name; write lower-case words joined by hyphens, like price-alerts",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(tmp_path: Path, toml: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(tmp_path, toml)
    assert str(raised.value) == f"{tmp_path}/skycap.toml: {message}"
    assert raised.value.exit_code == Exit.CONFIGURATION


@pytest.mark.parametrize(
    "key", ["", "user_email", "UserEmail", "guest..country", "|domain", "to.0", "to |lower", "a b"]
)
def test_a_key_that_leads_nowhere_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigurationError, match=r"leads to no value of a payload; write it as on the wire"):
        load(tmp_path, f'[limits.x]\nkey = "{key}"\nrate_max = 1\n')


@pytest.mark.parametrize("key", ["userEmail|host", "userEmail|", "userEmail|lower|domain", "userEmail| domain"])
def test_a_transform_that_is_none_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(tmp_path, f'[limits.x]\nkey = "{key}"\nrate_max = 1\n')
    assert str(raised.value).endswith("write userEmail|domain or userEmail|lower")
