"""Who is let in to the HTTP API: with tokens, without them, and from a web page."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from aiohttp import ClientResponse, UnixConnector, web
from structlog.testing import capture_logs

from skycap.errors import ConfigurationError
from skycap.http.access import Guard, needs_elsewhere
from skycap.http.guards import LocalGuard, NobodyGuard, TokenGuard
from skycap.http.scopes import Scope
from skycap.http.tokens import TokenFile, digest_of, new_token, read_tokens
from tests.support.api import Api, api
from tests.support.commands import command
from tests.support.daemons import Site, skycap

ASK = {"kind": "take-note"}
BACKEND, READER, ADMIN = new_token(), new_token(), new_token()


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o640)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    tables = [
        f'[{name}]\nsha256 = "{digest_of(token)}"\nscopes = ["{scope}"]\n'
        for name, token, scope in (
            ("backend", BACKEND, "enqueue"),
            ("reader", READER, "read"),
            ("admin", ADMIN, "admin"),
        )
    ]
    return write(tmp_path / "tokens.toml", "\n".join(tables))


@pytest.fixture
async def site(redis_url: str, file: Path) -> AsyncGenerator[Api]:
    guard = TokenGuard(TokenFile(file), token_rate="1000/1s", is_for_others=False)
    async with api(redis_url, guard=guard) as running:
        yield running


def bearing(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def code_of(response: ClientResponse) -> tuple[int, str]:
    return response.status, (await response.json())["code"]


async def test_without_a_token_nobody_enqueues(site: Api) -> None:
    response = await site.post("/api/jobs", ASK)
    assert await code_of(response) == (401, "AUTHENTICATION_001")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert (await site.queue.counts()).available == 0


@pytest.mark.parametrize(
    "header",
    ["Bearer sc_wrong", "bearer x y", f"Bearer {BACKEND}x", f"Bearer {BACKEND[:-1]}"],
    ids=["of nobody", "of two words", "one letter more", "one letter less"],
)
async def test_a_wrong_token_is_told_from_a_missing_one(site: Api, header: str) -> None:
    response = await site.post("/api/jobs", ASK, headers={"Authorization": header})
    assert await code_of(response) == (401, "AUTHENTICATION_002")
    assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]


async def test_a_token_does_what_its_scopes_say_and_no_more(site: Api) -> None:
    done = await site.post("/api/jobs", {**ASK, "id": "n", "payload": {"text": "private"}}, headers=bearing(BACKEND))
    assert done.status == 202
    async with site.session.get(f"{site.url}/api/jobs/n", headers=bearing(BACKEND)) as response:
        assert await code_of(response) == (403, "AUTHORIZATION_001")
        assert "the scope read" in (await response.json())["message"]
    async with site.session.get(f"{site.url}/api/jobs/n", headers=bearing(READER)) as response:
        assert response.status == 200
        assert "payload" not in await response.json()
    assert await code_of(await site.post("/api/jobs", ASK, headers=bearing(READER))) == (403, "AUTHORIZATION_001")
    assert await code_of(await site.post("/api/jobs/n/cancel", None, headers=bearing(READER))) == (
        403,
        "AUTHORIZATION_001",
    )


async def test_admin_implies_the_other_scopes_and_sees_payloads(site: Api) -> None:
    job = {**ASK, "id": "n", "payload": {"text": "private"}}
    assert (await site.post("/api/jobs", job, headers=bearing(ADMIN))).status == 202
    async with site.session.get(f"{site.url}/api/jobs/n", headers=bearing(ADMIN)) as response:
        assert (await response.json())["payload"] == {"text": "private"}
    assert (await site.post("/api/jobs/n/cancel", None, headers=bearing(ADMIN))).status == 200


async def test_two_tokens_may_use_the_same_idempotency_key(site: Api) -> None:
    first = await site.post("/api/jobs", ASK, headers={**bearing(BACKEND), "Idempotency-Key": "k"})
    other = await site.post("/api/jobs", ASK, headers={**bearing(ADMIN), "Idempotency-Key": "k"})
    assert (first.status, other.status) == (202, 202)


async def test_a_token_is_put_off_when_its_rate_is_used_up(redis_url: str, tmp_path: Path) -> None:
    text = f'[slow]\nsha256 = "{digest_of(BACKEND)}"\nscopes = ["enqueue"]\nrate = "2/100s"\n'
    text += f'[quick]\nsha256 = "{digest_of(ADMIN)}"\nscopes = ["enqueue"]\n'
    guard = TokenGuard(TokenFile(write(tmp_path / "t", text)), token_rate="1000/1s", is_for_others=False)
    async with api(redis_url, guard=guard) as site:
        responses = [await site.post("/api/jobs", ASK, headers=bearing(BACKEND)) for _ in range(3)]
        assert [response.status for response in responses] == [202, 202, 429]
        assert await code_of(responses[2]) == (429, "RATE_LIMIT_001")
        assert 40 <= int(responses[2].headers["Retry-After"]) <= 50
        assert (await site.post("/api/jobs", ASK, headers=bearing(ADMIN))).status == 202


async def test_an_old_and_a_new_secret_are_taken_while_one_replaces_the_other(redis_url: str, tmp_path: Path) -> None:
    text = f'[backend]\nsha256 = ["{digest_of(BACKEND)}", "{digest_of(ADMIN)}"]\nscopes = ["enqueue"]\n'
    guard = TokenGuard(TokenFile(write(tmp_path / "t", text)), token_rate="1000/1s", is_for_others=False)
    async with api(redis_url, guard=guard) as site:
        for token in (BACKEND, ADMIN):
            assert (await site.post("/api/jobs", ASK, headers=bearing(token))).status == 202


async def test_an_expired_token_is_not_taken(redis_url: str, tmp_path: Path) -> None:
    text = f'[old]\nsha256 = "{digest_of(BACKEND)}"\nscopes = ["enqueue"]\nexpires = 2020-01-01\n'
    guard = TokenGuard(TokenFile(write(tmp_path / "t", text)), token_rate="1000/1s", is_for_others=False)
    async with api(redis_url, guard=guard) as site:
        assert await code_of(await site.post("/api/jobs", ASK, headers=bearing(BACKEND))) == (401, "AUTHENTICATION_002")


def test_the_file_is_read_again_when_it_has_changed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    tokens = TokenFile(file)
    write(file, f'[only]\nsha256 = "{digest_of(BACKEND)}"\nscopes = ["read"]\n')
    assert len(tokens.tokens()) == 3
    now = 1.1
    assert [token.name for token in tokens.tokens()] == ["only"]


def test_a_file_that_is_broken_meanwhile_changes_nothing_and_is_told_once(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    tokens = TokenFile(file)
    write(file, "[only\n")
    with capture_logs() as logs:
        for later in (2.0, 4.0, 6.0):
            now = later
            assert len(tokens.tokens()) == 3
    assert [log["event"] for log in logs] == ["tokens not read again; the old ones stay"]
    file.unlink()
    now = 8.0
    assert len(tokens.tokens()) == 3


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[a\n", r"t: .*line 1"),
        ('[a]\nsha256 = "abc"\nscopes = ["read"]\n', r"t: line 2: a\.sha256\.0: "),
        (f'[a]\nsha256 = "{"0" * 64}"\n', r"t: line 1: a\.scopes: is missing; give a value"),
        (f'[b]\n\n[a]\nsha256 = "{"0" * 64}"\nscopes = ["writ"]\n', r"t: line 1: b\.sha256: is missing"),
        (f'[a]\nsha256 = "{"0" * 64}"\nscopes = ["read"]\nrate = "9"\n', r"t: line 4: a\.rate: .*write it as 100/1s"),
        (f'[a]\nsha256 = "{"0" * 64}"\nscopes = ["read"]\nscope = 1\n', r"t: line 4: a\.scope: "),
        ('["a b"]\n', r"t: line 1: 'a b' is no token"),
        ("a = 1\n", r"t: line 1: 'a' is no token"),
    ],
)
def test_a_file_that_cannot_be_used_names_line_and_problem(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        read_tokens(write(tmp_path / "t", text))


def test_a_missing_file_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"No such file or directory; .*skycap tokens new NAME"):
        TokenFile(tmp_path / "nowhere")


def test_a_file_that_others_can_read_is_warned_of(file: Path) -> None:
    file.chmod(0o644)
    with capture_logs() as logs:
        TokenFile(file)
    assert [log["fix"] for log in logs] == [f"chmod o-rw {file}"]


async def test_in_production_without_tokens_the_answer_says_how_to_make_one(redis_url: str) -> None:
    async with api(redis_url, guard=NobodyGuard()) as site:
        response = await site.post("/api/jobs", ASK)
        assert await code_of(response) == (401, "AUTHENTICATION_001")
        assert "skycap tokens new" in (await response.json())["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rebound.example.com"},
        {"Host": "rebound.example.com:8600", "Origin": "http://rebound.example.com:8600"},
        {"Origin": "https://evil.example.com"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_without_tokens_web_pages_of_others_are_refused(redis_url: str, headers: dict[str, str]) -> None:
    async with api(redis_url, guard=LocalGuard("127.0.0.1")) as site:
        assert await code_of(await site.post("/api/jobs", ASK, headers=headers)) == (403, "AUTHORIZATION_002")
        async with site.session.get(f"{site.url}/api/kinds", headers=headers) as response:
            assert response.status == 403


class _Figures:
    """What everybody on the machine may read."""

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/figures", self.figures)

    @needs_elsewhere(Scope.READ)
    async def figures(self, _request: web.Request) -> web.Response:
        return web.json_response({})


@pytest.mark.parametrize("guarded_by", ["nothing", "tokens", "production"])
async def test_what_this_machine_may_read_without_a_token_no_web_page_of_another_reads(
    redis_url: str, file: Path, guarded_by: str
) -> None:
    tokens = TokenGuard(TokenFile(file), token_rate="1000/1s", is_for_others=False)
    guards: dict[str, Guard] = {"nothing": LocalGuard("127.0.0.1"), "tokens": tokens, "production": NobodyGuard()}
    async with api(redis_url, guard=guards[guarded_by], further_routes=[_Figures()]) as site:
        for headers, status in (
            ({}, 200),
            ({"Host": "localhost:8600"}, 200),
            ({"Host": "rebound.example.com"}, 403),
            ({"Host": "127.0.0.1.rebound.example.com:8600"}, 403),
            ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ):
            async with site.session.get(f"{site.url}/figures", headers=headers) as response:
                assert (headers, response.status) == (headers, status)


@pytest.mark.parametrize("host", ["localhost:8600", "127.0.0.1", "[::1]:8600", "LOCALHOST"])
async def test_without_tokens_this_machine_is_let_in(redis_url: str, host: str) -> None:
    async with api(redis_url, guard=LocalGuard("127.0.0.1")) as site:
        assert (await site.post("/api/jobs", ASK, headers={"Host": host})).status == 202
        same_page = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
        assert (await site.post("/api/jobs", ASK, headers=same_page)).status == 202


async def test_a_form_of_a_web_page_cannot_enqueue(redis_url: str) -> None:
    async with api(redis_url) as site:
        response = await site.post("/api/jobs", ASK, headers={"Content-Type": "text/plain"})
        assert await code_of(response) == (415, "BAD_REQUEST_007")


async def test_over_a_unix_socket_any_host_will_do(redis_url: str, tmp_path: Path) -> None:
    from aiohttp import ClientSession

    path = tmp_path / "http.sock"
    async with (
        api(redis_url, path=path),
        ClientSession(connector=UnixConnector(str(path))) as session,
        session.post("http://whatever/api/jobs", json=ASK) as response,
    ):
        assert response.status == 202


async def test_a_token_is_made_listed_and_taken_by_a_daemon(redis_url: str, tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    made = await skycap("tokens", "new", "backend", "--scope", "enqueue", "--scope", "read", "--file", file)
    again = await skycap("tokens", "new", "backend", "--scope", "admin", "--file", file)
    other = await skycap("tokens", "new", "ops", "--scope", "admin", "--expires", "2999-01-01", "--file", file)
    listed = await skycap("tokens", "list", "--file", file, "--json")
    token = made.out.strip()
    assert (made.code, again.code, other.code) == (0, 64, 0)
    assert token.startswith("sc_")
    assert token not in file.read_text() + listed.out
    assert file.stat().st_mode & 0o777 == 0o640
    assert listed.json == [
        {"name": "backend", "scopes": ["enqueue", "read"], "rate": None, "expires": None, "secrets": 1},
        {"name": "ops", "scopes": ["admin"], "rate": None, "expires": "2999-01-01", "secrets": 1},
    ]
    (tmp_path / "d").mkdir()
    site = Site(folder=tmp_path / "d", redis_url=redis_url, extra={"http": {"tokens_file": str(file)}})
    from aiohttp import ClientSession

    async with site.daemon() as daemon, ClientSession() as session:
        async with session.get(f"{daemon.http_url}/api/kinds") as response:
            assert response.status == 401
        async with session.get(f"{daemon.http_url}/api/kinds", headers=bearing(token)) as response:
            assert response.status == 200
        async with session.get(f"{daemon.http_url}/metrics") as response:
            assert response.status == 200  # other machines cannot ask
    assert token not in site.log.read_text()


async def test_a_table_is_printed_where_no_file_is_given(tmp_path: Path) -> None:
    made = await skycap("tokens", "new", "backend", "--scope", "enqueue", "--rate", "100/1s")
    token, _, table = made.out.partition("\n\n")
    (read,) = read_tokens(write(tmp_path / "t", table))
    assert read.digests == (digest_of(token),)
    assert read.rate is not None
    wrong = await skycap("tokens", "new", "backend", "--scope", "enqueue", "--rate", "often")
    assert (wrong.code, wrong.out) == (78, "")


async def test_where_other_machines_reach_it_status_takes_a_token_and_liveness_does_not(
    redis_url: str, tmp_path: Path, file: Path
) -> None:
    from aiohttp import ClientSession

    (tmp_path / "d").mkdir()
    extra = {"http": {"bind": "0.0.0.0:0", "tokens_file": str(file)}}
    async with Site(folder=tmp_path / "d", redis_url=redis_url, extra=extra).daemon() as daemon:
        url = f"http://127.0.0.1:{daemon.http_url.rpartition(':')[2]}"
        async with ClientSession() as session:
            for path, token, status in (
                ("/api/health", None, 200),
                ("/api/health/ready", None, 200),
                ("/metrics", None, 401),
                ("/api/system/health", None, 401),
                ("/api/system/health", BACKEND, 403),
                ("/metrics", READER, 200),
                ("/api/system/cache-stats", None, 401),
                ("/api/system/cache-stats", READER, 200),
                ("/api/system/health", READER, 200),
            ):
                async with session.get(url + path, headers=bearing(token) if token else {}) as response:
                    assert (path, response.status) == (path, status)


@pytest.mark.parametrize("bind", ["0.0.0.0:0", "[::]:0", "skycap.example.com:0"])
async def test_for_other_machines_nothing_starts_without_a_tokens_file(tmp_path: Path, bind: str) -> None:
    site = Site(folder=tmp_path, redis_url="redis://127.0.0.1:1", extra={"http": {"bind": bind}})
    done = await command("run", "--config", site.config)
    assert done.code == 78
    assert f"bind: {bind} can be reached from other machines; set tokens_file" in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    ["", f'[old]\nsha256 = "{digest_of(BACKEND)}"\nscopes = ["admin"]\nexpires = 2020-01-01\n'],
    ids=["no token", "an expired token"],
)
async def test_for_other_machines_nothing_starts_without_a_token(tmp_path: Path, text: str) -> None:
    http = {"bind": "0.0.0.0:0", "tokens_file": str(write(tmp_path / "tokens.toml", text))}
    site = Site(folder=tmp_path, redis_url="redis://127.0.0.1:1", extra={"http": http})
    done = await skycap("run", "--config", site.config)
    assert done.code == 78
    (line,) = [line for line in done.err.splitlines() if line.startswith("skycap: ")]
    assert "tokens.toml: has no token that is still taken, and http.bind is for other machines" in line
    assert "Traceback" not in done.err


async def test_a_file_without_an_admin_will_do_and_then_nobody_acts(redis_url: str, tmp_path: Path) -> None:
    file = write(tmp_path / "t", f'[backend]\nsha256 = "{digest_of(BACKEND)}"\nscopes = ["enqueue", "read"]\n')
    tokens = TokenFile(file)
    tokens.require_one()
    async with api(redis_url, guard=TokenGuard(tokens, token_rate="1000/1s", is_for_others=True)) as site:
        response = await site.post("/api/queues/tests/pause", None, headers=bearing(BACKEND))
        assert await code_of(response) == (403, "AUTHORIZATION_001")
        assert not (await site.queue.counts()).is_paused
