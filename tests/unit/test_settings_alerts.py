"""Who is told, and by which figures: what the settings say, and what they refuse in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from skycap.errors import ConfigurationError
from skycap.exits import Exit
from skycap.settings import Settings, load_settings
from skycap.settings.alerts import AlertRules


def load(tmp_path: Path, toml: str, environ: dict[str, str] | None = None) -> Settings:
    file = tmp_path / "skycap.toml"
    file.write_text(toml)
    return load_settings(file, environ=environ or {})


def problem(tmp_path: Path, toml: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, toml)
    assert caught.value.exit_code == Exit.CONFIGURATION
    return str(caught.value)


def test_nobody_is_told_by_default() -> None:
    assert not Settings().alerts.is_on


@pytest.mark.parametrize("line", ['mail_to = ["ops@example.com"]', 'webhook_url = "https://hooks.example.com/x"'])
def test_either_way_switches_alerts_on(tmp_path: Path, line: str) -> None:
    assert load(tmp_path, f"[alerts]\n{line}\n").alerts.is_on


def test_a_rule_keeps_the_figures_that_are_not_changed(tmp_path: Path) -> None:
    rule = load(tmp_path, "[alerts.rules.error_rate]\nthreshold = 0.05\n").alerts.rules.error_rate
    assert (rule.threshold, rule.minimum, rule.enabled) == (0.05, AlertRules().error_rate.minimum, True)


def test_a_figure_is_a_variable_too(tmp_path: Path) -> None:
    environ = {"SKYCAP_ALERTS__RULES__BREAKER_OPEN__ENABLED": "false", "SKYCAP_ALERTS_MAIL_TO": "a@example.com"}
    alerts = load(tmp_path, "", environ).alerts
    assert not alerts.rules.breaker_open.enabled
    assert alerts.mail_to == ["a@example.com"]


def test_a_rule_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path) -> None:
    assert "did you mean queue_failures?" in problem(tmp_path, "[alerts.rules.queue_failure]\nthreshold = 1\n")
    told = problem(tmp_path, "[alerts.rules.moon_phase]\nthreshold = 1\n")
    assert all(rule in told for rule in AlertRules.model_fields)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('mail_to = ["ops"]', "is not one mail address"),
        ('webhook_url = "http://hooks.example.com/topsecret"', "is not encrypted"),
        ('webhook_url = "https://user:topsecret@hooks.example.com/"', "has a user or a password"),
        ('webhook_url = "topsecret"', "is no address of the web"),
        ('webhook_url = "https://[topsecret/"', "is no address"),
        ('webhook_secret = "topsecret"', "is shorter than 16 characters"),
        ("interval_seconds = 0", "is not at least 0.05"),
    ],
)
def test_what_cannot_be_is_refused_and_no_secret_is_repeated(tmp_path: Path, line: str, says: str) -> None:
    told = problem(tmp_path, f"[alerts]\n{line}\n")
    assert says in told
    assert "topsecret" not in told


def test_a_webhook_on_this_machine_needs_no_tls(tmp_path: Path) -> None:
    for host in ("127.0.0.1", "[::1]", "localhost"):
        assert load(tmp_path, f'[alerts]\nwebhook_url = "http://{host}:9000/x"\n').alerts.is_on


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    toml = '[alerts]\nwebhook_url = "https://hooks.example.com/topsecret"\nwebhook_secret = "topsecret-topsecret"\n'
    settings = load(tmp_path, toml)
    assert "topsecret" not in repr(settings) + settings.model_dump_json()
