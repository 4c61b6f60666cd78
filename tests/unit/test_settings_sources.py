"""Where settings come from, and which place wins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from skycap.errors import ConfigurationError
from skycap.settings import Settings, load_settings, sources


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "skycap.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def credentials(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Writes credential files and gives the environment that systemd would."""

    def write(**texts: str) -> dict[str, str]:
        folder = tmp_path / "credentials"
        folder.mkdir()
        for name, text in texts.items():
            (folder / name).write_text(text + "\n")
        return {"CREDENTIALS_DIRECTORY": str(folder)}

    return write


def test_each_place_wins_over_those_after_it(
    config: Callable[[str], Path], credentials: Callable[..., dict[str, str]]
) -> None:
    path = config('[database]\nurl = "postgresql://file/x"\n')
    backend = {"DATABASE_URL": "postgresql://backend/x"}
    systemd = backend | credentials(database_url="postgresql://credential/x")
    ours = systemd | {"SKYCAP_DATABASE_URL": "postgresql://variable/x"}

    def host(config: Path | None, environ: Mapping[str, str], **overrides: object) -> str:
        settings = load_settings(config, environ=environ, overrides=overrides)
        return settings.require_database().url.host

    assert host(None, backend) == "backend"
    assert host(path, backend) == "file"
    assert host(path, systemd) == "credential"
    assert host(path, ours) == "variable"
    assert host(path, ours, **{"database.url": "postgresql://option/x"}) == "option"


def test_places_add_up_key_by_key(config: Callable[[str], Path]) -> None:
    path = config("[queues.email]\nconcurrency = 7\nattempts = 9\n")
    settings = load_settings(path, environ={"SKYCAP_QUEUES_EMAIL_CONCURRENCY": "8"})
    assert (settings.queues["email"].concurrency, settings.queues["email"].attempts) == (8, 9)


def test_the_origin_of_each_value_is_known(
    config: Callable[[str], Path], credentials: Callable[..., dict[str, str]]
) -> None:
    path = config("[queues.email]\nconcurrency = 7\n")
    environ = credentials(redis_url="redis://h") | {
        "SKYCAP_ENV": "production",
        "SMTP_HOST": "mail.example.com",
    }
    settings = load_settings(path, environ=environ, overrides={"log.level": "debug"})
    assert settings.origin("log.level") == "command line"
    assert settings.origin("env") == "SKYCAP_ENV"
    assert settings.origin("redis.url") == f"{environ['CREDENTIALS_DIRECTORY']}/redis_url"
    assert settings.origin("queues.email.concurrency") == str(path)
    assert settings.origin("smtp.url") == "SMTP_HOST"
    assert settings.origin("queues.email.attempts") == "default"


def test_settings_made_directly_read_no_place() -> None:
    assert Settings().redis.url is None
    assert Settings(env="production").production


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("SKYCAP_ENV", "production", "env", "production"),
        ("SKYCAP_PLUGINS_DIR", "/srv/plugins", "plugins_dir", Path("/srv/plugins")),
        ("SKYCAP_DISABLED_PLUGINS", "reports, sync", "disabled_plugins", ["reports", "sync"]),
        ("SKYCAP_LOAD_PLUGINS", '["bookings"]', "load_plugins", ["bookings"]),
        ("SKYCAP_DISABLED_PLUGINS", "[]", "disabled_plugins", []),
        ("SKYCAP_DATABASE_SLOW_QUERY_MS", "250", "database.slow_query_ms", 250.0),
        ("SKYCAP_DATABASE_MIGRATE", "no", "database.migrate", False),
        ("SKYCAP_DATABASE__POOL_SIZE", "4", "database.pool_size", 4),
        ("SKYCAP_SMTP_CA_FILE", "/etc/ca.pem", "smtp.ca_file", Path("/etc/ca.pem")),
        ("SKYCAP_QUEUES_EMAIL_BACKOFF_SECONDS", "1.5", "queues.email.backoff_seconds", 1.5),
        ("SKYCAP_QUEUES_EMAIL_BACKOFF", "fixed", "queues.email.backoff", "fixed"),
        ("SKYCAP_QUEUES_EMAIL_RATE_MAX", "7", "queues.email.rate_max", 7),
        ("SKYCAP_QUEUES_EMAIL_CONCURRENCY", "4", "queues.email.concurrency", 4),
        ("SKYCAP_QUEUES_EMAIL_FLEET_CONCURRENCY", "4", "queues.email.fleet_concurrency", 4),
        ("SKYCAP_QUEUES_BULK_MAIL_KEEP_DISCARDED_COUNT", "5", "queues.bulk-mail.keep_discarded_count", 5),
        ("SKYCAP_LIMITS_API_RATE_MAX", "9", "limits.api.rate_max", 9),
        ("SKYCAP_QUEUES__BULK_MAIL__ATTEMPTS", "2", "queues.bulk-mail.attempts", 2),
        (
            "SKYCAP_JOBS_SEND_BOOKING_CONFIRMATION_ATTEMPTS",
            "9",
            "jobs.send-booking-confirmation.attempts",
            9,
        ),
        ("SKYCAP_PLUGINS_WELCOME_ENABLED", "false", "plugins.welcome.enabled", "false"),
        ("SKYCAP_PLUGINS_WELCOME_FROM_ADDRESS", "a@b.c", "plugins.welcome.from_address", "a@b.c"),
        ("SKYCAP_PLUGINS__PRICE_ALERTS__MAX_AGE", "6", "plugins.price-alerts.max_age", "6"),
        ("SKYCAP_PLUGINS__PRICE_ALERTS__CITIES", '["İzmir"]', "plugins.price-alerts.cities", ["İzmir"]),
        ("SKYCAP_PLUGINS__SYNC__LIMITS__PER_DAY", "6", "plugins.sync.limits.per_day", "6"),
    ],
)
def test_a_variable_sets_its_key(name: str, text: str, key: str, value: object) -> None:
    found: Any = load_settings(environ={name: text})
    for part in key.split("."):
        found = cast("Any", found)[part] if isinstance(found, dict) else getattr(found, part)
    assert found == value


@pytest.mark.parametrize("text", ["1, 5,30", "[1, 5, 30]"])
def test_a_variable_sets_a_list_of_numbers(text: str) -> None:
    environ = {"SKYCAP_QUEUES_EMAIL_BACKOFF": "list", "SKYCAP_QUEUES_EMAIL_BACKOFF_SECONDS": text}
    assert load_settings(environ=environ).queues["email"].backoff_seconds == [1, 5, 30]


def test_variables_set_a_limit_and_who_it_holds_for(config: Callable[[str], Path]) -> None:
    path = config('[limits.recipient-domain]\nkey = "userEmail|domain"\nkeys."gmail.com".rate_max = 20\n')
    environ = {
        "SKYCAP_LIMITS_RECIPIENT_DOMAIN_RATE_MAX": "100",
        "SKYCAP_LIMITS_RECIPIENT_DOMAIN_KEYS": '{"example.com": {"rate_max": 5}}',
        "SKYCAP_QUEUES_EMAIL_LIMITS": "recipient-domain",
    }
    settings = load_settings(path, environ=environ)
    limit = settings.limits["recipient-domain"]
    assert settings.queues["email"].limits == ["recipient-domain"]
    assert [limit.for_key(value).rate_max for value in ("gmail.com", "example.com", "other.com")] == [20, 5, 100]
    assert settings.origin("limits.recipient-domain.keys.gmail.com.rate_max") == str(path)
    assert settings.origin("limits.recipient-domain.keys.example.com.rate_max") == "SKYCAP_LIMITS_RECIPIENT_DOMAIN_KEYS"


def test_an_empty_variable_is_as_good_as_none(config: Callable[[str], Path]) -> None:
    path = config('[log]\nlevel = "debug"\n')
    assert load_settings(path, environ={"SKYCAP_LOG_LEVEL": ""}).log.level == "debug"


def test_variables_of_the_process_are_no_settings() -> None:
    load_settings(environ={"SKYCAP_CHECKOUT": "1", "SKYCAP_NO_SKIP": "1", "SKYCAP_BENCH_JOBS": "1000", "HOME": "/"})


def test_a_variable_can_name_a_file_with_its_value(tmp_path: Path) -> None:
    secret = tmp_path / "redis"
    secret.write_text("redis://:hunter2@h:6380/1\n")
    settings = load_settings(environ={"SKYCAP_REDIS_URL_FILE": str(secret)})
    assert settings.require_redis().unmasked == "redis://:hunter2@h:6380/1"
    assert settings.origin("redis.url") == f"SKYCAP_REDIS_URL_FILE ({secret})"


def test_a_plugins_secret_can_be_in_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("k-123\n")
    settings = load_settings(environ={"SKYCAP_PLUGINS__AMADEUS__API_KEY_FILE": str(secret)})
    assert settings.plugins == {"amadeus": {"api_key": "k-123"}}


@pytest.mark.parametrize("name", ["redis_url", "REDIS_URL", "skycap_redis_url", "SKYCAP_REDIS_URL"])
def test_a_credential_is_named_like_its_variable(credentials: Callable[..., dict[str, str]], name: str) -> None:
    assert load_settings(environ=credentials(**{name: "redis://h"})).require_redis().host == "h"


@pytest.mark.parametrize("name", ["direct_url", "skycap_direct_url", "skycap_database_direct_url"])
def test_a_short_name_is_understood_also_as_a_file_of_a_folder_of_credentials(
    credentials: Callable[..., dict[str, str]], name: str
) -> None:
    """LoadCredential=skycap:FOLDER names each file skycap_FILE."""
    settings = load_settings(environ=credentials(**{name: "postgresql://h/db"}))
    assert settings.database.direct_url is not None


def test_credentials_of_other_programs_are_passed_over(credentials: Callable[..., dict[str, str]]) -> None:
    load_settings(environ=credentials(amadeus_api_key="k-123", tls_key="…"))


def test_the_password_of_the_mail_server_can_be_the_only_secret(
    config: Callable[[str], Path], credentials: Callable[..., dict[str, str]]
) -> None:
    path = config('[smtp]\nurl = "smtps://bookings%40example.com@mail.example.com"\n')
    address = load_settings(path, environ=credentials(smtp_password="p@ss:/?#")).require_smtp()
    assert (address.username, address.password) == ("bookings@example.com", "p@ss:/?#")


def test_the_file_is_the_one_asked_for_then_the_variables_then_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("option", "variable", "default"):
        (tmp_path / name).write_text(f'[brand]\nname = "{name}"\n')
    monkeypatch.setattr(sources, "DEFAULT_FILE", tmp_path / "default")
    environ = {"SKYCAP_CONFIG": str(tmp_path / "variable")}
    assert load_settings(tmp_path / "option", environ=environ).brand.name == "option"
    assert load_settings(environ=environ).brand.name == "variable"
    assert load_settings(environ={}).brand.name == "default"


def test_without_any_file_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "DEFAULT_FILE", tmp_path / "nothing")
    assert load_settings(environ={}) == Settings()


class TestLinesOfTheBackend:
    """What its admins paste as it is."""

    def test_the_three_smtp_ports(self) -> None:
        def address(**lines: str) -> tuple[str, bool]:
            smtp = load_settings(environ={"SMTP_HOST": "mail.example.com", **lines}).require_smtp()
            return f"{smtp.host}:{smtp.port}", smtp.implicit_tls

        assert address() == ("mail.example.com:587", False)
        assert address(SMTP_PORT="25") == ("mail.example.com:25", False)
        assert address(SMTP_PORT="465") == ("mail.example.com:465", True)

    def test_starttls_is_required(self) -> None:
        assert load_settings(environ={"SMTP_HOST": "mail.example.com"}).smtp.starttls == "required"

    def test_user_password_and_sender(self) -> None:
        lines = {
            "SMTP_HOST": "mail.example.com",
            "SMTP_USER": "bookings@example.com",
            "SMTP_PASSWORD": "p@ss/word#1",
            "SMTP_FROM": "Gökyüzü Seyahat <bookings@example.com>",
        }
        smtp = load_settings(environ=lines).smtp
        assert smtp.url is not None
        assert (smtp.url.username, smtp.url.password) == ("bookings@example.com", "p@ss/word#1")
        assert smtp.sender == "Gökyüzü Seyahat <bookings@example.com>"

    def test_their_password_can_be_a_credential(self, credentials: Callable[..., dict[str, str]]) -> None:
        environ = {"SMTP_HOST": "h", "SMTP_USER": "me"} | credentials(smtp_password="secret")
        assert load_settings(environ=environ).require_smtp().password == "secret"

    def test_quotes_that_a_container_keeps_are_taken_off(self) -> None:
        settings = load_settings(environ={"DATABASE_URL": '"postgresql://h/db?schema=public"'})
        assert settings.require_database().schema == "public"

    def test_a_pooler_and_its_direct_address(self) -> None:
        lines = {
            "DATABASE_URL": "postgresql://h:6543/db?pgbouncer=true&connection_limit=7",
            "DIRECT_URL": "postgresql://h:5432/db",
        }
        database = load_settings(environ=lines).database
        assert database.direct is not None
        assert database.direct.dsn == "postgresql://h:5432/db"
        assert database.pool_size == 7

    def test_a_direct_address_never_joins_another_database(self) -> None:
        environ = {
            "SKYCAP_DATABASE_URL": "postgresql://ours/db?pgbouncer=true",
            "DATABASE_URL": "postgresql://theirs:6543/db",
            "DIRECT_URL": "postgresql://theirs/db",
        }
        database = load_settings(environ=environ).database
        assert database.direct_url is None
        assert database.direct is None

    def test_what_is_not_used_is_not_judged(self) -> None:
        environ = {
            "SKYCAP_DATABASE_URL": "postgresql://ours/db",
            "DATABASE_URL": "mysql://theirs/db",
            "SKYCAP_SMTP_URL": "smtp://localhost",
            "SMTP_HOST": "mail.example.com",
            "SMTP_PORT": "submission",
        }
        assert load_settings(environ=environ).require_smtp().host == "localhost"

    def test_upstash_over_rest_is_explained(self) -> None:
        settings = load_settings(environ={"UPSTASH_REDIS_REST_URL": "https://eu1.upstash.io"})
        with pytest.raises(
            ConfigurationError,
            match=r"^UPSTASH_REDIS_REST_URL: redis\.url: .* is no queue server; .* rediss:// .* SKYCAP_REDIS_URL",
        ):
            settings.require_redis()


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"STATE_DIRECTORY": "/var/lib/skycap:/var/lib/other", "HOME": "/root"}, "/var/lib/skycap"),
        ({"XDG_STATE_HOME": "/home/a/.state", "HOME": "/home/a"}, "/home/a/.state/skycap"),
        ({"HOME": "/home/a"}, "/home/a/.local/state/skycap"),
    ],
)
def test_embedded_servers_keep_their_data_where_state_belongs(environ: dict[str, str], folder: str) -> None:
    assert Settings().state_dir(environ) == Path(folder)
    assert Settings(data_dir=Path("/srv/data")).state_dir(environ) == Path("/srv/data")
