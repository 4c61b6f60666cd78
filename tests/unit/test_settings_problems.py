"""What an admin reads when a configuration is wrong: one line with the place, the key, the problem and the fix."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from skycap.errors import ConfigurationError
from skycap.settings import InvalidSettings, Settings, load_settings, sources


def refusal(
    tmp_path: Path,
    toml: str = "",
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> str:
    """The message that a configuration is refused with, file names shortened."""
    file = tmp_path / "skycap.toml"
    file.write_text(toml)
    with pytest.raises(ConfigurationError) as raised:
        load_settings(file, environ=environ or {}, overrides=overrides)
    message = str(raised.value)
    assert "\n" not in message
    return message.replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (
            "[queues.email]\nconcurrency = -3",
            "skycap.toml: queues.email.concurrency: -3 is not at least 1; give a whole number from 1 to 1000",
        ),
        (
            "[worker]\npoison_after = 1000",
            "skycap.toml: worker.poison_after: 1000 is more than 100; give a whole number from 1 to 100",
        ),
        (
            '[queues.email]\nattempts = "many"',
            'skycap.toml: queues.email.attempts: "many" is no whole number; give a whole number from 1 to 1000',
        ),
        (
            "[database]\npool_size = 2.5",
            "skycap.toml: database.pool_size: 2.5 is no whole number; give a whole number from 1 to 1000",
        ),
        (
            "[worker]\nlease_seconds = inf",
            "skycap.toml: worker.lease_seconds: inf is no number; give a number from 1 to 3600",
        ),
        (
            "[jobs.send-receipt]\ntimeout_seconds = 0",
            "skycap.toml: jobs.send-receipt.timeout_seconds: 0 is not at least 0.1; give a number from 0.1 to 604800",
        ),
        (
            '[http]\nenabled = "perhaps"',
            'skycap.toml: http.enabled: "perhaps" is neither true nor false; give true or false',
        ),
        ('env = "staging"', 'skycap.toml: env: "staging" is none of the choices; give development or production'),
        (
            '[jobs.x]\nbackoff = "quadratic"',
            (
                'skycap.toml: jobs.x.backoff: "quadratic" is none of the choices; '
                "give exponential, fixed, linear or list"
            ),
        ),
        (
            '[queues.email]\nbackoff = "list"',
            (
                'skycap.toml: queues.email.backoff_seconds: is 5, and backoff is "list"; '
                "give a list of waits, like [1, 5, 30]"
            ),
        ),
        (
            '[jobs.x]\nbackoff = "list"',
            (
                'skycap.toml: jobs.x.backoff_seconds: is not set here, and backoff is "list"; '
                "give a list of waits, like [1, 5, 30]"
            ),
        ),
        (
            "[queues.email]\nbackoff_seconds = [1, 5]",
            (
                'skycap.toml: queues.email.backoff_seconds: is a list of waits, and backoff is "exponential"; '
                'give one number, or backoff = "list"'
            ),
        ),
        (
            "[jobs.x]\nbackoff_seconds = [1, 5]",
            'skycap.toml: jobs.x.backoff_seconds: is a list of waits; give backoff = "list" beside it, or one number',
        ),
        (
            '[queues.email]\nbackoff = "list"\nbackoff_seconds = []',
            "skycap.toml: queues.email.backoff_seconds: is an empty list; give at least one wait, like [1, 5, 30]",
        ),
        (
            '[queues.email]\nbackoff = "list"\nbackoff_seconds = [1, -5]',
            (
                "skycap.toml: queues.email.backoff_seconds.1: -5 is not at least 0; "
                "give a number from 0 to 2592000, or a list of such"
            ),
        ),
        (
            '[queues.email]\nbackoff_seconds = "soon"',
            (
                'skycap.toml: queues.email.backoff_seconds: "soon" is no number; '
                "give a number from 0 to 2592000, or a list of such"
            ),
        ),
        (
            "[queues.email]\nbackoff_longest_seconds = 4",
            (
                "skycap.toml: queues.email.backoff_longest_seconds: 4 is less than a wait of backoff_seconds, 5; "
                "give at least 5, or shorter waits"
            ),
        ),
        (
            '[queues.x]\nbackoff = "list"\nbackoff_seconds = [1, 90000]',
            (
                "skycap.toml: queues.x.backoff_longest_seconds: 86400 is less than a wait of backoff_seconds, 90000; "
                "give at least 90000, or shorter waits"
            ),
        ),
        (
            "[queues.email]\nrate_seconds = 0.001",
            "skycap.toml: queues.email.rate_seconds: 0.001 is not at least 0.01; give a number from 0.01 to 2592000",
        ),
        (
            "[jobs.x]\nrate_seconds = 5",
            "skycap.toml: jobs.x: has rate_seconds and no rate_max; give both",
        ),
        (
            "queues.email.max_wating = 3",
            "skycap.toml: queues.email.max_wating: is no setting; did you mean max_waiting?",
        ),
        ("[brand]\nname = 5", "skycap.toml: brand.name: 5 is no text; give text, in quotes"),
        ('[brand]\nname = ""', 'skycap.toml: brand.name: "" is too short; give text, in quotes'),
        (
            'disabled_plugins = "reports"',
            'skycap.toml: disabled_plugins: "reports" is no list; give a list of names, like ["one", "two"]',
        ),
        (
            "queues.email.concurency = 3",
            "skycap.toml: queues.email.concurency: is no setting; did you mean concurrency?",
        ),
        ("[reddis]\nurl = 1", "skycap.toml: reddis: is no setting; did you mean redis?"),
        (
            "[log]\ncolour = true",
            "skycap.toml: log.colour: is no setting; known in [log]: format, level",
        ),
        ("redis = 5", "skycap.toml: redis: 5 is no table; write its keys below [redis]"),
        ("queues = 5", "skycap.toml: queues: 5 is no table; write its keys below [queues.NAME]"),
        ("queues.email = true", "skycap.toml: queues.email: true is no table; write its keys below [queues.email]"),
        ("plugins.sync = 5", "skycap.toml: plugins.sync: the value is no table; write its keys below [plugins.sync]"),
        (
            "[queues.E_mail]",
            "skycap.toml: queues.E_mail: is no name; write lower-case words joined by hyphens, like price-alerts",
        ),
        ('"a\\nb" = 1', 'skycap.toml: "a\\nb": is no setting; known here: {known}'),
        (
            '[redis]\nurl = "redis+sentinel://h"',
            "skycap.toml: redis.url: names no service; write redis+sentinel://host:26379,host:26379/mymaster/0",
        ),
        ("[redis]\nurl = 6379", "skycap.toml: redis.url: is no text; put it in quotes"),
        (
            '[smtp]\nsender = "skycap"',
            'skycap.toml: smtp.sender: "skycap" is not one mail address; write Name <address@example.com>',
        ),
        (
            '[brand]\nwebsite = "example.com"',
            'skycap.toml: brand.website: "example.com" is no website; write https://example.com',
        ),
        (
            '[brand]\nsupport_email = "Help <help@example.com>"',
            (
                'skycap.toml: brand.support_email: "Help <help@example.com>" is not one mail address; '
                "write address@example.com"
            ),
        ),
        (
            "[redis]\nurl = oops",
            "skycap.toml:2: invalid value at column 7; correct the line",
        ),
        ("[redis\n", "skycap.toml:1: expected ']' at the end of a table declaration at column 7; correct the line"),
    ],
)
def test_the_file_is_named_with_key_problem_and_fix(tmp_path: Path, toml: str, message: str) -> None:
    assert refusal(tmp_path, toml) == message.format(known=", ".join(sorted(Settings.model_fields)))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "SKYCAP_QUEUES_EMAIL_CONCURRENCY",
            "-3",
            (
                "SKYCAP_QUEUES_EMAIL_CONCURRENCY: queues.email.concurrency: -3 is not at least 1; "
                "give a whole number from 1 to 1000"
            ),
        ),
        (
            "SKYCAP_LOAD_PLUGINS",
            "[bookings]",
            "SKYCAP_LOAD_PLUGINS: load_plugins: is no JSON list; write words between commas",
        ),
        (
            "SKYCAP_LIMITS_API_KEYS",
            "gmail.com=20",
            'SKYCAP_LIMITS_API_KEYS: limits.api.keys: is no JSON table; write {{"NAME": {{"KEY": VALUE}}}}',
        ),
        (
            "SKYCAP_QUEUES_EMAIL_LIMITS",
            "api",
            (
                'SKYCAP_QUEUES_EMAIL_LIMITS: queues.email.limits: "api" is no limit; '
                "add a table [limits.api], or take it out of the list"
            ),
        ),
        (
            "SKYCAP_QUEUES_EMAIL_RATE_MX",
            "1",
            "SKYCAP_QUEUES_EMAIL_RATE_MX: is no setting of skycap; did you mean SKYCAP_QUEUES_EMAIL_RATE_MAX?",
        ),
        ("SKYCAP_REDIS_ULR", "x", "SKYCAP_REDIS_ULR: is no setting of skycap; did you mean SKYCAP_REDIS_URL?"),
        (
            "SKYCAP_QUEUES_EMAIL_CONCURENCY",
            "x",
            "SKYCAP_QUEUES_EMAIL_CONCURENCY: is no setting of skycap; did you mean SKYCAP_QUEUES_EMAIL_CONCURRENCY?",
        ),
        (
            "SKYCAP_NONSENSE",
            "x",
            "SKYCAP_NONSENSE: is no setting of skycap; unset it, or see `skycap config reference` for the names",
        ),
        (
            "SMTP_HOST",
            "a b",
            "SMTP_HOST: smtp.url: is no address; write scheme://user:password@host:port, and {escapes}",
        ),
        (
            "DATABASE_URL",
            "mysql://root@h/db",
            (
                "DATABASE_URL: database.url: the scheme mysql:// is not understood; "
                "give postgresql://user:password@host:5432/database"
            ),
        ),
        (
            "SKYCAP_REDIS_URL_FILE",
            "/nowhere/redis",
            "SKYCAP_REDIS_URL_FILE: /nowhere/redis: there is no such file; correct the path, or create it",
        ),
        (
            "SKYCAP_REDIS_URL_FILE",
            "/dev",
            "SKYCAP_REDIS_URL_FILE: /dev: cannot be read (Is a directory); correct the path",
        ),
        (
            "SKYCAP_REDIS_URL_FILE",
            os.devnull,
            "SKYCAP_REDIS_URL_FILE: /dev/null: is empty; write the value into it",
        ),
        (
            "CREDENTIALS_DIRECTORY",
            "/nowhere",
            (
                "CREDENTIALS_DIRECTORY: /nowhere cannot be read (No such file or directory); "
                "let systemd set it, or unset it"
            ),
        ),
    ],
)
def test_the_variable_is_named_with_key_problem_and_fix(tmp_path: Path, name: str, text: str, message: str) -> None:
    escapes = "in a password write @ / ? # as %40 %2F %3F %23"
    assert refusal(tmp_path, environ={name: text}) == message.format(escapes=escapes)


def test_the_port_of_the_backends_mail_server_is_checked(tmp_path: Path) -> None:
    message = refusal(tmp_path, environ={"SMTP_HOST": "h", "SMTP_PORT": "smtps"})
    assert message == 'SMTP_PORT: "smtps" is no port; give 587 or 465'


def test_an_option_is_named_as_the_command_line(tmp_path: Path) -> None:
    message = refusal(tmp_path, overrides={"log.level": "loud"})
    assert message == 'command line: log.level: "loud" is none of the choices; give debug, info, warning or error'


def test_the_credential_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "redis_url").write_text("redis+cluster://h/1")
    message = refusal(tmp_path, environ={"CREDENTIALS_DIRECTORY": str(folder)})
    assert message.startswith("credentials/redis_url: redis.url: names a database")


def test_a_misspelt_credential_of_ours_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "skycap_redis_ulr").write_text("redis://h")
    message = refusal(tmp_path, environ={"CREDENTIALS_DIRECTORY": str(folder)})
    assert message == "credentials/skycap_redis_ulr: is no setting of skycap; did you mean SKYCAP_REDIS_URL?"


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"SKYCAP_REDIS_URL": "redis://h", "SKYCAP_REDIS__URL": "redis://h"},
            "SKYCAP_REDIS__URL: redis.url: SKYCAP_REDIS_URL sets it too; leave one of the two out",
        ),
        (
            {"SKYCAP_PLUGINS__SYNC__LIMIT": "1", "SKYCAP_PLUGINS__SYNC__LIMIT__PER_DAY": "2"},
            (
                "SKYCAP_PLUGINS__SYNC__LIMIT__PER_DAY: plugins.sync.limit.per_day: "
                "SKYCAP_PLUGINS__SYNC__LIMIT sets it too; leave one of the two out"
            ),
        ),
    ],
)
def test_one_key_set_twice_in_one_place_is_refused(tmp_path: Path, environ: dict[str, str], message: str) -> None:
    assert refusal(tmp_path, environ=environ) == message


def test_a_value_wrong_in_a_place_that_loses_does_not_matter(tmp_path: Path) -> None:
    file = tmp_path / "skycap.toml"
    file.write_text('[log]\nlevel = "loud"\n')
    assert load_settings(file, environ={"SKYCAP_LOG_LEVEL": "error"}).log.level == "error"


def test_more_than_one_problem_is_counted_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "skycap.toml"
    file.write_text('[log]\nlevel = "loud"\nformat = "xml"\n[http]\nport = 1\n')
    with pytest.raises(InvalidSettings, match=r" \(and 2 more\)$") as raised:
        load_settings(file, environ={})
    assert [problem.split(": ")[1] for problem in raised.value.problems] == ["http.port", "log.format", "log.level"]


def test_all_unknown_variables_are_found_at_once() -> None:
    with pytest.raises(InvalidSettings) as raised:
        load_settings(environ={"SKYCAP_NONSENSE": "1", "SKYCAP_REDIS_ULR": "1"})
    assert len(raised.value.problems) == 2


@pytest.mark.parametrize("by_option", [True, False])
def test_a_file_that_is_not_there_is_refused(tmp_path: Path, by_option: bool) -> None:
    file = tmp_path / "missing.toml"
    named_by = "--config" if by_option else "SKYCAP_CONFIG"
    with pytest.raises(ConfigurationError) as raised:
        load_settings(file if by_option else None, environ={"SKYCAP_CONFIG": str(file)})
    assert str(raised.value) == f"{file}: there is no such file; correct {named_by}, or create it"


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "skycap.toml"
    file.write_bytes(b'name = "G\xf6k"')
    with pytest.raises(ConfigurationError, match="byte 9 is not UTF-8; save it as UTF-8"):
        load_settings(file, environ={})


def test_a_default_file_that_cannot_be_read_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").write_text("")
    monkeypatch.setattr(sources, "DEFAULT_FILE", tmp_path / "folder" / "skycap.toml")
    with pytest.raises(ConfigurationError, match=r"cannot be read \(Not a directory\)"):
        load_settings(environ={})


@pytest.mark.parametrize("section", ["redis", "database", "smtp"])
def test_an_address_that_is_needed_and_missing_is_named_with_its_file(tmp_path: Path, section: str) -> None:
    file = tmp_path / "skycap.toml"
    file.write_text("")
    settings = load_settings(file, environ={})
    with pytest.raises(ConfigurationError) as raised:
        getattr(settings, f"require_{section}")()
    message = str(raised.value)
    assert message.startswith(f"{file}: {section}.url: is not set; give it as ")
    assert message.endswith(f" here or in SKYCAP_{section.upper()}_URL")
