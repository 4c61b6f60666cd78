"""The welcome: in whose language it is, how it greets, and that it stays about the account."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from skycap import InvalidPayload, JobState
from skycap.registry import Registry
from skycap.services.message import RenderedMail
from skycap.testing import Mail, Performed, perform
from skycap_travel.accounts import AccountsSettings, SendWelcomeEmail, plugin, send_welcome_email
from skycap_travel.rows import LANGUAGE_OF_ADDRESS, LANGUAGE_OF_ADDRESS_IN_ANY_CASE
from tests.support.golden import assert_golden
from tests.support.mails import BRAND, TEMPLATES, elements_of

ADA = "Ada.Lovelace@example.com"


class Database:
    """Has the languages of some users by their addresses."""

    def __init__(self, languages: dict[str, str]) -> None:
        self._languages = languages

    @property
    def fresh(self) -> Database:
        return self

    async def fetchval(self, query: str, address: str) -> str | None:
        if query == LANGUAGE_OF_ADDRESS:
            return self._languages.get(address)
        assert query == LANGUAGE_OF_ADDRESS_IN_ANY_CASE
        return {known.lower(): language for known, language in self._languages.items()}.get(address.lower())


async def welcome(
    languages: dict[str, str] | None = None, *, name: str = "Ada Lovelace", locale: str = "tr"
) -> Performed:
    database: Any = Database(languages or {})
    payload = SendWelcomeEmail(user_email=ADA, user_name=name)
    return await perform(send_welcome_email, payload, settings=AccountsSettings(locale=locale), db=database)


def rendered(mail: Mail, *, locale: str = "en") -> RenderedMail:
    return TEMPLATES.render(mail.template, locale=locale, variables=mail.variables)


async def written(name: str) -> RenderedMail:
    return rendered((await welcome(name=name)).mails[0])


@pytest.mark.parametrize(("golden", "name"), [("named", "Ada Lovelace"), ("nameless", " ")])
async def test_a_mail_looks_as_it_did_when_it_was_last_looked_at(golden: str, name: str) -> None:
    mail = await written(name)
    assert_golden(f"accounts/welcome-{golden}.en.subject.txt", f"{mail.subject}\n")
    assert_golden(f"accounts/welcome-{golden}.en.txt", mail.text)
    assert_golden(f"accounts/welcome-{golden}.en.html", mail.html)


async def test_a_guest_is_welcomed_once() -> None:
    done = await welcome()
    (mail,) = done.mails
    assert done.state is JobState.COMPLETED
    assert done.result == {"messageId": mail.message_id}
    assert (mail.to, mail.key, mail.on_unknown, mail.unsubscribe) == (ADA, f"welcome:{ADA}", "resend", None)


@pytest.mark.parametrize(
    ("languages", "locale"),
    [
        ({ADA: "de"}, "de"),
        ({ADA.lower(): "ru"}, "ru"),
        ({ADA.lower(): "ru", ADA: "de"}, "de"),
        ({"somebody@example.com": "de"}, "ar"),
        ({ADA: ""}, "ar"),
        ({}, "ar"),
    ],
)
async def test_the_language_is_the_users_or_else_the_configured_one(languages: dict[str, str], locale: str) -> None:
    assert (await welcome(languages, locale="ar")).mails[0].locale == locale


def test_without_a_word_from_the_admin_the_language_is_turkish() -> None:
    assert AccountsSettings().locale == "tr"


@pytest.mark.parametrize("locale", ["Turkish", "", "tr_TR", "t"])
def test_a_locale_that_cannot_be_one_is_refused_at_start(locale: str) -> None:
    with pytest.raises(ValidationError):
        AccountsSettings(locale=locale)


@pytest.mark.parametrize(
    "name", ["Ada", "J.Smith", "St.John Philby", "Ayşe Yılmaz", "يوسف العلي", "Dr. Who", "O’Brien"]
)
async def test_a_guest_is_greeted_by_name(name: str) -> None:
    assert f"Hello {name}," in (await written(name)).text


@pytest.mark.parametrize(
    "name",
    ["", "  ", "You won: https://evil.example", "www.evil.example", "claim at evil.com", "EVIL.COM", "a@b.example"],
)
async def test_an_advertisement_in_place_of_a_name_is_not_passed_on(name: str) -> None:
    mail = await written(name)
    assert "Hello,\n" in mail.text
    assert "evil" not in (mail.subject + mail.text + mail.html).lower()


async def test_the_welcome_advertises_nothing() -> None:
    mail = await written("Ada")
    links = [element.attributes["href"] for element in elements_of(mail.html) if element.tag == "a"]
    assert links == [BRAND["website"], f"mailto:{BRAND['support_email']}", BRAND["website"]]
    assert not re.search(r"[%!€$₺]|offer|discount|save|deal|free|discover", mail.subject + mail.text, re.IGNORECASE)


async def test_the_html_says_all_that_the_text_says() -> None:
    mail = await written("Ada Lovelace")
    in_html = {word for element in elements_of(mail.html) for word in re.findall(r"\w+", "".join(element.text))}
    assert set(re.findall(r"\w+", mail.text)) - in_html == set()


@pytest.mark.parametrize("evil", ["\n", "\r", "\x00", "\t", "\x1b", "\x7f", "\x85", "\u2028", "\u2029"])
def test_a_line_break_in_the_name_is_refused_when_it_is_enqueued(evil: str) -> None:
    registry = Registry()
    registry.add(plugin, name="accounts", origin="test")
    with pytest.raises(InvalidPayload) as refused:
        registry.checked_payload("send-welcome-email", {"userEmail": ADA, "userName": f"Ada{evil}Bcc: all@example.com"})
    assert refused.value.problems == ["userName: holds a line break or another control character; write one line"]


@pytest.mark.parametrize(
    "address", ["", "ada", "ada@", "ada@example.com\nBcc: all@example.com", ["ada@example.com"], None]
)
def test_what_is_no_address_is_refused_without_repeating_it(address: object) -> None:
    registry = Registry()
    registry.add(plugin, name="accounts", origin="test")
    with pytest.raises(InvalidPayload) as refused:
        registry.checked_payload("send-welcome-email", {"userEmail": address, "userName": "Ada"})
    assert str(refused.value).startswith("send-welcome-email: userEmail: ")
    assert "all@example.com" not in str(refused.value)


def test_neither_name_nor_address_shows_in_a_repr() -> None:
    assert repr(SendWelcomeEmail(user_email=ADA, user_name="Ada Lovelace")) == "SendWelcomeEmail()"


@settings(max_examples=80)
@given(
    name=st.text(max_size=40)
    | st.lists(
        st.sampled_from(["<b>", "</td>", "{{brand}}", "%(name)s", "&", "\u202e", "😀", "x" * 10_000]), max_size=3
    ).map("".join)
)
async def test_a_name_is_refused_or_is_text_and_nothing_else(name: str) -> None:
    try:
        mail = await written(name)
    except ValidationError:
        assert re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", name) or len(name) > 10_000
        return
    harmless = await written("" if "Hello,\n" in mail.text else "x")
    assert [(each.tag, each.attributes) for each in elements_of(mail.html)] == [
        (each.tag, each.attributes) for each in elements_of(harmless.html)
    ]
    assert mail.text.count("\n") == harmless.text.count("\n")
    assert mail.subject == harmless.subject
    assert len(mail.html.encode()) < 80 * 1024
