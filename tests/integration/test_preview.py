"""``skycap mail preview``: mails as files and on a page, without Redis, PostgreSQL or a mail server."""

from __future__ import annotations

import asyncio
import email
import re
import shutil
import signal
import sys
import textwrap
from email import policy
from email.message import EmailMessage
from pathlib import Path

import aiohttp
import pytest

from skycap import discovery
from skycap.preview.gallery import GalleryServer
from skycap.settings import Settings
from skycap.settings.addresses import BindAddress
from tests.support.commands import command
from tests.support.daemons import CLEAN

ONE_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000 1f15c4890000000d49444154789c6360f8cf50cf000003820181"
    "e5d6b3110000000049454e44ae426082"
)

PLUGIN = """
    from pathlib import Path
    from jinja2 import FileSystemLoader
    from skycap import Context, Payload, Plugin, Sample

    plugin = Plugin("postcards", templates=FileSystemLoader(Path(__file__).with_name("templates")))

    class SendPostcard(Payload, kind="send-postcard"):
        guest_id: str
        greeting: str

    @plugin.job()
    async def send_postcard(ctx: Context, payload: SendPostcard) -> None:
        row = await ctx.db.fetchrow("SELECT email, place\\n  FROM guests WHERE id = $1", payload.guest_id)
        async with ctx.db.transaction() as transaction:
            await transaction.execute("UPDATE guests SET postcards = postcards + 1")
        for copy in range(row["copies"]):
            await ctx.mailer.send(row["email"], "postcards/card", key=f"{copy}", place=row["place"],
                greeting=payload.greeting, unsubscribe={"guest": payload.guest_id} if copy else None)

    @plugin.samples
    def samples():
        query = "SELECT email, place FROM guests WHERE id = $1"
        row = {"email": "ada@example.com", "place": "Kaş", "copies": 1}
        yield Sample(name="one", payload=SendPostcard(guest_id="g1", greeting="Hello"), rows={query: [row]})
        two = {query: [row | {"copies": 2}]}
        yield Sample(name="two", payload=SendPostcard(guest_id="g2", greeting="Hi"), rows=two)
        yield Sample(name="rowless", payload=SendPostcard(guest_id="g3", greeting="Hey"))
"""
TEMPLATES = {
    "subject.txt.j2": "{{ greeting }} from {{ place }}",
    "body.txt.j2": "{{ greeting }} from {{ place }}",
    "body.html.j2": "<html><head><style>@media (prefers-color-scheme: dark) { p { color: #eee } }</style></head>"
    "<body>{% if brand.logo %}<img src='{{ brand.logo }}' alt=''>{% endif %}<p>{{ greeting }} from {{ place }}</p>"
    "{% if unsubscribe_url is defined %}<a href='{{ unsubscribe_url }}'>Stop</a>{% endif %}</body></html>",
    "attachments/card.txt.j2": "Wish you were in {{ place }}",
}


@pytest.fixture
def postcards(plugins_folder: Path) -> Path:
    """A folder with a plugin that sends postcards."""
    (plugins_folder / "postcards.py").write_text(textwrap.dedent(PLUGIN))
    for name, source in TEMPLATES.items():
        file = plugins_folder / "templates" / "postcards" / "card" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    return plugins_folder


def contents_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def message_in(file: Path) -> EmailMessage:
    return email.message_from_bytes(file.read_bytes(), policy=policy.default)


async def test_a_mail_becomes_files(tmp_path: Path) -> None:
    folder = tmp_path / "mails"
    arguments = ("mail", "preview", "send-booking-confirmation", "--sample", "hotel-confirmed", "--locale", "tr")
    done = await command(*arguments, "--out", folder)
    assert done.code == 0, done.err
    stem = folder / "send-booking-confirmation.tr"
    message = message_in(stem.with_suffix(".tr.eml"))
    assert message["Subject"] == "BK-2026-7F3K9Q numaralı rezervasyonunuz onaylandı"
    for kind, suffix in (("plain", "txt"), ("html", "html")):
        body = message.get_body((kind,))
        assert body is not None
        assert body.get_content().replace("\r\n", "\n") == stem.with_suffix(f".tr.{suffix}").read_text()
    for file in folder.iterdir():
        assert re.search(rf"^{re.escape(file.name)} +{file.stat().st_size:,}$", done.out, re.MULTILINE)
    assert f"in {folder}" in done.out
    assert "there are also: flight-confirmed, " in done.out


async def test_a_preview_is_the_same_every_time(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        await command("mail", "preview", "send-booking-confirmation", "--out", tmp_path / folder)
    assert contents_of(tmp_path / "first") == contents_of(tmp_path / "second") != {}


async def test_without_a_kind_every_sample_is_written_in_every_locale(tmp_path: Path) -> None:
    done = await command("mail", "preview", "--json", "--out", tmp_path)
    assert done.code == 0, done.err
    mails = done.json["mails"]
    written = {(mail["kind"], mail["sample"], mail["locale"]) for mail in mails}
    assert len(written) == len(mails)
    assert {("send-booking-confirmation", "hotel-confirmed", locale) for locale in ("en", "tr")} <= written
    assert ("send-email", "with-attachment", None) in written
    sizes = {Path(file["path"]).name: file["bytes"] for mail in mails for file in mail["files"]}
    assert sizes == {name: len(content) for name, content in contents_of(tmp_path).items()}


async def test_a_folder_is_made_where_none_is_given() -> None:
    done = await command("mail", "preview", "send-welcome-email", "--json")
    assert done.code == 0, done.err
    folder = Path(done.json["folder"])
    assert {Path(file["path"]).parent for mail in done.json["mails"] for file in mail["files"]} == {folder}
    assert contents_of(folder)
    shutil.rmtree(folder)


async def test_fields_of_the_payload_may_be_given(postcards: Path, tmp_path: Path) -> None:
    payload = tmp_path / "payload.json"
    payload.write_text('{"greeting": "Selam"}')
    out = tmp_path / "mails"
    arguments = ("mail", "preview", "send-postcard", "--plugins-dir", postcards, "--out", out)
    assert (await command(*arguments, "--payload", f"@{payload}")).code == 0
    assert (out / "send-postcard.en.txt").read_text() == "Selam from Kaş\n"
    assert (out / "send-postcard.en-card.txt").read_text() == "Wish you were in Kaş\n"


async def test_the_sample_is_the_one_that_the_payload_resembles(postcards: Path, tmp_path: Path) -> None:
    arguments = ("mail", "preview", "send-postcard", "--plugins-dir", postcards, "--out", tmp_path / "mails", "--json")
    done = await command(*arguments, "--payload", '{"guestId": "g2", "greeting": "Selam"}')
    assert [(mail["sample"], mail["subject"]) for mail in done.json["mails"]] == [("two", "Selam from Kaş")] * 2
    second = message_in(tmp_path / "mails" / "send-postcard.en.2.eml")
    assert second["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert "https://jobs.example.com/unsubscribe/preview" in second["List-Unsubscribe"]


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["send-nothing"], 64, "no plugin has a sample of 'send-nothing'; there are some of: generate-"),
        (["send-postcard", "--sample", "three"], 64, "no sample 'three'; there are: one, two, rowless"),
        (["send-postcard", "--locale", "tlh"], 64, "no mail is written in 'tlh'; there are: en, "),
        (["send-postcard", "--payload", '{"greetings": "Hi"}'], 64, "did you mean 'greeting'"),
        (["send-postcard", "--payload", "{"], 64, "--payload: not JSON"),
        (
            ["send-postcard", "--sample", "rowless"],
            70,
            "the sample rowless has no rows for the query SELECT email, place FROM",
        ),
        (["--sample", "one"], 64, "name it"),
        (["--serve", "--bind", "0.0.0.0:8610"], 64, "can be reached from other machines"),
    ],
)
async def test_what_cannot_be_shown_is_said(postcards: Path, arguments: list[str], code: int, problem: str) -> None:
    done = await command("mail", "preview", *arguments, "--plugins-dir", postcards)
    assert done.code == code
    assert problem in done.err


async def test_the_brand_of_the_installation_is_used(postcards: Path, tmp_path: Path) -> None:
    logo = tmp_path / "logo.png"
    logo.write_bytes(ONE_PIXEL)
    config = tmp_path / "skycap.toml"
    config.write_text(f'[brand]\nname = "Ege Seyahat"\nlogo = "{logo}"\n[smtp]\nsender = "Ege <gezi@example.org>"\n')
    arguments = ("mail", "preview", "send-postcard", "--plugins-dir", postcards, "--config", config)
    assert (await command(*arguments, "--out", tmp_path)).code == 0
    message = message_in(tmp_path / "send-postcard.en.eml")
    assert message["From"] == "Ege <gezi@example.org>"
    assert [part.get_content() for part in message.walk() if part.get_content_type() == "image/png"] == [ONE_PIXEL]
    html = (tmp_path / "send-postcard.en.html").read_text()
    assert "data:image/png;base64,iVBORw0KGgo" in html
    assert "cid:" not in html


class Visitor:
    """Somebody who looks at the gallery of a plugin."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url.rstrip("/")

    async def get(self, path: str) -> tuple[int, str]:
        async with self._session.get(self._url + path) as answer:
            return answer.status, await answer.text()


def gallery_of(plugins: Path) -> GalleryServer:
    registry = discovery.load(discovery.PluginChoice(folder=plugins, only=frozenset({"postcards"})))
    return GalleryServer(Settings(), registry, BindAddress.parse("127.0.0.1:0"))


async def test_the_page_shows_every_mail_light_and_dark_wide_and_narrow(postcards: Path) -> None:
    async with gallery_of(postcards) as gallery, aiohttp.ClientSession() as session:
        visitor = Visitor(session, gallery.url)
        status, page = await visitor.get("/")
        assert status == 200
        frames = re.findall(r'width="(\d+)" src="(/mail/send-postcard\.one\.en/\w+\.html)"', page)
        address = "/mail/send-postcard.one.en/"
        assert set(frames) == {
            (width, f"{address}{shade}.html") for width in ("600", "360") for shade in ("light", "dark")
        }
        assert "the sample rowless has no rows for the query" in page
        light, dark = [(await visitor.get(f"{address}{shade}.html"))[1] for shade in ("light", "dark")]
        assert "Hello from Kaş" in light
        assert "@media (max-width: 0)" in light
        assert "@media (min-width: 0)" in dark
        assert (await visitor.get(f"{address}mail.txt")) == (200, "Hello from Kaş\n")
        assert (await visitor.get(f"{address}card.txt")) == (200, "Wish you were in Kaş\n")
        assert (await visitor.get(f"{address}mail.eml"))[1].startswith("From: skycap travel <support@example.com>")
        assert (await visitor.get(f"{address}nothing.pdf"))[0] == 404
        assert (await visitor.get("/mail/send-postcard.five.en/light.html"))[0] == 404


async def test_the_page_can_be_narrowed_down(postcards: Path) -> None:
    async with gallery_of(postcards) as gallery, aiohttp.ClientSession() as session:
        visitor = Visitor(session, gallery.url)
        assert "4 mails" in (await visitor.get("/?kind=&locale="))[1]
        assert "4 mails" in (await visitor.get("/?kind=send-postcard&locale=en"))[1]
        assert "0 mails" in (await visitor.get("/?kind=send-letter"))[1]


async def test_a_changed_template_shows_at_the_next_reload(postcards: Path) -> None:
    template = postcards / "templates" / "postcards" / "card" / "body.html.j2"
    async with gallery_of(postcards) as gallery, aiohttp.ClientSession() as session:
        visitor = Visitor(session, gallery.url)
        await visitor.get("/")
        template.write_text("<html><head></head><body>Sunny {{ place }}</body></html>")
        await visitor.get("/")
        assert "Sunny Kaş" in (await visitor.get("/mail/send-postcard.one.en/light.html"))[1]
        template.write_text("<html><head></head><body>{% if %}</body></html>")
        status, page = await visitor.get("/")
        assert status == 500
        assert "postcards/card/body.html.j2:1" in page
        template.write_text("<html><head></head><body>Mended</body></html>")
        assert (await visitor.get("/"))[0] == 200


async def test_what_a_mail_holds_does_not_act_on_the_page(postcards: Path) -> None:
    (postcards / "templates" / "postcards" / "card" / "subject.txt.j2").write_text("<script>alert(1)</script>")
    async with gallery_of(postcards) as gallery, aiohttp.ClientSession() as session:
        visitor = Visitor(session, gallery.url)
        _, page = await visitor.get("/")
        assert "&lt;script&gt;alert(1)" in page
        assert "<script>alert" not in page
        async with session.get(f"{gallery.url}mail/send-postcard.one.en/light.html") as answer:
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert page.count("<iframe") == page.count('sandbox="allow-same-origin"')


async def test_the_page_is_served_until_it_is_told_to_stop(postcards: Path) -> None:
    arguments = ("mail", "preview", "--serve", "--bind", "127.0.0.1:0", "--plugins-dir", str(postcards))
    serving = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "skycap", *arguments), env=CLEAN, stdout=asyncio.subprocess.PIPE
    )
    assert serving.stdout is not None
    line = (await serving.stdout.readline()).decode()
    address = re.search(r"http://127\.0\.0\.1:\d+/", line)
    assert address, line
    async with aiohttp.ClientSession() as session:
        status, page = await Visitor(session, address[0]).get("/?kind=send-postcard&locale=en")
    assert (status, page.count("<iframe")) == (200, 4 * 3)
    serving.send_signal(signal.SIGTERM)
    assert await serving.wait() == 0


async def test_an_address_that_is_taken_is_named(postcards: Path) -> None:
    async with gallery_of(postcards) as gallery:
        bind = gallery.url.removeprefix("http://").rstrip("/")
        done = await command("mail", "preview", "--serve", "--bind", bind, "--plugins-dir", postcards)
    assert done.code == 78
    assert f"cannot listen on {bind}" in done.err
