"""The addresses of Redis, of the mail server and of the HTTP server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from redis.asyncio import ConnectionPool

from skycap.engine.hosts import Hosts
from skycap.settings import BindAddress, HttpSettings, RedisAddress, SmtpAddress, SmtpSettings
from skycap.settings.url import Url, url_text


@pytest.mark.parametrize(
    "text",
    [
        "redis://h",
        "redis://h:6380/2",
        "redis://:p%40ss@h",
        "rediss://app:p%2F%3F%23@h:6380/0",
        "redis://[::1]:6379",
        "redis://h?db=3",
        "unix:///run/valkey.sock?db=2&password=pass",
        "rediss://h?ssl_cert_reqs=none&ssl_ca_certs=/etc/ca.pem",
    ],
)
def test_redis_is_where_redis_py_would_look(text: str) -> None:
    address = RedisAddress.parse(text)
    # Cast, since redis-py does not say what the keywords of from_url are.
    theirs: dict[str, Any] = cast("Any", ConnectionPool).from_url(address.unmasked).connection_kwargs
    assert theirs.get("db", 0) == address.database
    assert theirs.get("username") == address.username
    assert theirs.get("password") == address.password
    if address.path is None:
        assert theirs["host"] == address.host
        assert theirs.get("port", 6379) == address.port
    else:
        assert Path(theirs["path"]) == address.path


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("localhost:6379", "is no address; write scheme://"),
        ("redis://h/one", "is no database number; write redis://host:6379/0"),
        ("redis://h/0/1", "is no database number"),
        ("redis://h?db=x", "is no database number"),
        ("redis:///0", "names no host"),
        ("redis://h:70000", "has a port outside 1 to 65535"),
        ("redis://h:" + "9" * 5000, "does not read as user:password@host:port"),
        ("redis://h/" + "9" * 5000, "is no database number"),
        ("redis://a,b", "names several hosts; give one, or write redis+sentinel:// or redis+cluster://"),
        ("redis://h?socket_timeout=3", "the parameter socket_timeout is not understood; leave it out"),
        ("redis://h?ssl_ca_certs=/x", "the parameter ssl_ca_certs means nothing without TLS; write rediss://"),
        ("redis://h?db", "has a parameter without a value"),
        ("redis://h?db=1&db=2", "has the parameter db twice"),
        ("unix://h", "names no socket; write unix:///run/"),
        ("https://eu1.upstash.io", "is a REST address, which is no queue server; give the rediss:// address"),
        ("redis+sentinel://h:26379", "names no service; write redis+sentinel://host:26379,host:26379/mymaster/0"),
        ("redis+sentinel:///mymaster", "leaves a host out; write redis+sentinel://host:port,host:port"),
        ("redis+sentinel://a,,b/mymaster", "leaves a host out"),
        ("rediss+sentinel://h/mymaster/x", "no database number; write rediss+sentinel://host:26379/mymaster/0"),
        ("redis+sentinel://h/mymaster/0/1", "is no database number"),
        ("redis+sentinel://h:70000/mymaster", "has a port outside 1 to 65535"),
        ("redis+sentinel://h/mymaster?sentinel_username=me", "names a sentinel_username and no password"),
        ("rediss+sentinel://h/mymaster?sentinel_tls=maybe", "has a sentinel_tls that is neither yes nor no"),
        (
            "redis://h?sentinel_password=hunter2",
            "sentinel_password means nothing without Sentinel; write redis+sentinel",
        ),
        ("redis+cluster://h/1", "names a database, and a cluster has only database 0; leave out what follows"),
        ("redis+cluster://h?db=1", "names a database, and a cluster has only database 0"),
        ("redis+cluster://a,b:x", "does not read as user:password@host:port"),
        ("redis+cluster://a,b?ssl_ca_certs=/x", "means nothing without TLS; write rediss+cluster://"),
        ("unix:///x?ssl_ca_certs=/x", "means nothing without TLS; write rediss://"),
        ("amqp://h", "the scheme amqp:// is not understood"),
    ],
)
def test_an_address_that_is_no_redis_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        RedisAddress.parse(text)


@pytest.mark.parametrize(
    ("text", "addresses", "path", "options"),
    [
        ("redis+sentinel://h/mymaster", [("h", 26379)], ["mymaster"], {}),
        (
            "rediss+sentinel://me:p%40ss@a:1,[::1]:2,c/my%20master/3?sentinel_password=x%2Fy&ssl_check_hostname=no",
            [("a", 1), ("::1", 2), ("c", 26379)],
            ["my master", "3"],
            {"username": "me", "password": "p@ss", "sentinel_password": "x/y", "ssl_check_hostname": False},
        ),
        ("redis+cluster://:pass@a,b:7000", [("a", 6379), ("b", 7000)], [], {"password": "pass"}),
        ("REDISS+CLUSTER://a/0?client_name=x", [("a", 6379)], ["0"], {"client_name": "x"}),
    ],
)
def test_the_servers_that_an_address_names(
    text: str, addresses: list[tuple[str, int]], path: list[str], options: dict[str, object]
) -> None:
    address = RedisAddress.parse(text)
    is_sentinel = "sentinel" in text.partition(":")[0]
    hosts = Hosts.parse(address.unmasked, default_port=26379 if is_sentinel else 6379)
    assert (hosts.addresses, hosts.path, hosts.options) == (addresses, path, options)
    assert hosts.tls is address.tls is text.lower().startswith("rediss")
    assert (address.host, address.port) == addresses[0]
    assert address.service == (path[0] if is_sentinel else None)
    assert address.database == (int(path[1]) if len(path) > 1 else 0)


def test_no_password_of_any_kind_is_printed() -> None:
    address = RedisAddress.parse("redis+sentinel://me:hunter2@a:1,b:2/mymaster/0?sentinel_password=hunter3")
    assert str(address) == "redis+sentinel://me:***@a:1,b:2/mymaster/0?sentinel_password=***"
    assert "hunter" not in repr(address)


@pytest.mark.parametrize(
    "password", ["hunter/2", "hunter?2", "hunter#2", "hunter@2", "hunter 2", "1/@hunter2", "1?hunter2=x"]
)
@pytest.mark.parametrize("scheme", ["redis", "smtp"])
def test_a_password_that_is_not_encoded_is_refused_and_not_repeated(scheme: str, password: str) -> None:
    parse = RedisAddress.parse if scheme == "redis" else SmtpAddress.parse
    with pytest.raises(ValueError, match=re.escape("in a password write @ / ? # as %40 %2F %3F %23")) as raised:
        parse(f"{scheme}://user:{password}@mail.example.com:6379")
    assert "hunter" not in str(raised.value)


def test_a_password_in_the_place_of_a_user_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="a password alone is written redis://:PASSWORD@host") as raised:
        RedisAddress.parse("redis://hunter2@h:6379")
    assert "hunter2" not in str(raised.value)


def problem_of(text: str) -> str | None:
    try:
        RedisAddress.parse(text)
    except ValueError as error:
        return str(error)
    return None


@given(username=st.text(min_size=1), password=st.text(min_size=1))
def test_any_user_and_password_survive_being_written_as_an_address(username: str, password: str) -> None:
    url = Url.parse(url_text("smtp", "2001:db8::1", 587, username, password))
    assert (url.username, url.password, url.host, url.hosts[0][1]) == (username, password, "2001:db8::1", 587)


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=80))
def test_no_text_breaks_the_parser(text: str) -> None:
    for candidate in (text, f"redis://{text}", f"redis://:{text}@h", f"redis+sentinel://{text}"):
        problem = problem_of(candidate)
        assert problem is None or ";" in problem


@pytest.mark.parametrize(
    ("text", "port", "implicit_tls"),
    [
        ("smtp://mail.example.com", 587, False),
        ("smtp+starttls://mail.example.com", 587, False),
        ("smtps://mail.example.com", 465, True),
        ("SMTPS://mail.example.com:2465/", 2465, True),
        ("smtp://mail.example.com:25", 25, False),
    ],
)
def test_the_scheme_decides_port_and_tls(text: str, port: int, implicit_tls: bool) -> None:
    address = SmtpAddress.parse(text)
    assert (address.host, address.port, address.implicit_tls) == ("mail.example.com", port, implicit_tls)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("http://mail.example.com", "the scheme http:// is not understood; give smtp"),
        ("smtp://mail.example.com/inbox", "has a path or parameters"),
        ("smtp://mail.example.com?tls=no", "has a path or parameters"),
    ],
)
def test_an_address_that_is_no_mail_server_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        SmtpAddress.parse(text)


def test_a_user_without_a_password_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"names a user and no password; .* SKYCAP_SMTP_PASSWORD"):
        SmtpSettings.model_validate({"url": "smtps://me@h"})
    with pytest.raises(ValidationError, match="names a password and no user"):
        SmtpSettings.model_validate({"url": "smtps://h", "password": "secret"})


def test_a_password_of_its_own_takes_the_place_of_the_one_in_the_address() -> None:
    settings = SmtpSettings.model_validate({"url": "smtps://me:old@h", "password": "n/w"})
    assert settings.url == SmtpAddress.parse("smtps://me:n%2Fw@h:465")


@pytest.mark.parametrize("starttls", ["opportunistic", "off"])
def test_a_password_is_never_sent_unencrypted_to_another_machine(starttls: str) -> None:
    def settings(url: str) -> SmtpSettings:
        return SmtpSettings.model_validate({"url": url, "starttls": starttls})

    with pytest.raises(ValidationError, match=r"could send the password unencrypted to mail\.example\.com"):
        settings("smtp://me:secret@mail.example.com")
    assert settings("smtp://mail.example.com").starttls == starttls
    assert settings("smtp://me:secret@127.0.0.1").starttls == starttls
    assert settings("smtps://me:secret@mail.example.com").starttls == starttls


def test_starttls_cannot_be_both_asked_for_and_switched_off() -> None:
    with pytest.raises(ValidationError, match=r'"off" contradicts smtp\+starttls:// in smtp.url; write smtp://'):
        SmtpSettings.model_validate({"url": "smtp+starttls://h", "starttls": "off"})


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("127.0.0.1:8600", "127.0.0.1:8600"),
        ("localhost:0", "localhost:0"),
        ("[::1]:8600", "[::1]:8600"),
        ("unix:/run/skycap/http.sock", "unix:/run/skycap/http.sock"),
        ("unix:///run/skycap/http.sock", "unix:/run/skycap/http.sock"),
    ],
)
def test_places_to_listen(text: str, written: str) -> None:
    assert str(BindAddress.parse(text)) == written


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("0.0.0.0:8600", "can be reached from other machines, .* token there; give 127.0.0.1:8600 or unix:/path"),
        ("[::]:8600", "can be reached from other machines"),
        ("skycap.example.com:8600", "can be reached from other machines"),
        ("8600", "is no place to listen; write host:port"),
        ("127.0.0.1:86000", "is no place to listen"),
        ("::1:8600", "is no place to listen"),
        ("unix:run/http.sock", "has no absolute path; write unix:/run/skycap/http.sock"),
    ],
)
def test_places_where_skycap_does_not_listen(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        BindAddress.parse(text)


def test_other_machines_reach_the_api_only_with_tokens() -> None:
    with pytest.raises(ValidationError, match=r"0\.0\.0\.0:8600 can be reached from other machines; set tokens_file"):
        HttpSettings.model_validate({"bind": "0.0.0.0:8600"})
    with_tokens = HttpSettings.model_validate({"bind": "0.0.0.0:8600", "tokens_file": "/etc/skycap/tokens.toml"})
    assert not with_tokens.bind.is_local


@pytest.mark.parametrize("rate", ["1000", "0/1s", "10/0s", "ten/1s", "10/1m"])
def test_a_rate_of_requests_that_is_none_is_refused(rate: str) -> None:
    with pytest.raises(ValidationError, match="write it as 100/1s"):
        HttpSettings.model_validate({"token_rate": rate})
