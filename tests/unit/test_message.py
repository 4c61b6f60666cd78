"""From a rendered mail to bytes that any mail server takes."""

from __future__ import annotations

import email
import email.policy
from datetime import UTC, datetime, timedelta, timezone
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skycap.errors import PermanentError
from skycap.services.message import RenderedMail, build_message

MAIL = RenderedMail(
    subject="Rezervasyonunuz onaylandı", text="Merhaba Ayşe,\n", html="<p>Merhaba Ayşe,</p>\n", locale="tr"
)
DATE = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
CONTROL_CHARACTERS = [
    "\n",
    "\r",
    "\r\nBcc: all@example.com",
    "\x00",
    "\x1b",
    "\x7f",
    "\x85",
    "\u2028",
    "\u2029",
    "\ud800",
]


def build(mail: RenderedMail = MAIL, **changes: Any) -> EmailMessage:
    arguments: dict[str, Any] = {
        "sender": "Ege Seyahat <bilgi@example.com>",
        "recipient": "ayse@example.org",
        "message_id": "<confirmation.7f3k9q@example.com>",
        "date": DATE,
    }
    return build_message(mail, **(arguments | changes))


def read(data: bytes) -> EmailMessage:
    return email.message_from_bytes(data, policy=email.policy.default)


def body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert isinstance(part, EmailMessage)
    content: str = part.get_content()
    return content.replace("\r\n", "\n")


def mail(**changes: str) -> RenderedMail:
    return RenderedMail(**(vars(MAIL) | changes))


def test_a_mail_has_a_text_part_and_an_html_part_in_that_order() -> None:
    message = read(build().as_bytes())
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert (body(message, "plain"), body(message, "html")) == (MAIL.text, MAIL.html)


def test_the_headers_say_who_what_when_and_that_nobody_need_answer() -> None:
    message = read(build().as_bytes())
    assert {name: value for name, value in message.items() if not name.startswith(("Content-Type", "MIME"))} == {
        "From": "Ege Seyahat <bilgi@example.com>",
        "To": "ayse@example.org",
        "Subject": "Rezervasyonunuz onaylandı",
        "Date": "Mon, 23 Nov 2026 09:30:00 +0000",
        "Message-ID": "<confirmation.7f3k9q@example.com>",
        "Content-Language": "tr",
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "All",
    }


def test_the_same_mail_is_the_same_bytes() -> None:
    elsewhere = DATE.astimezone(timezone(timedelta(hours=3)))
    assert build().as_bytes() == build().as_bytes() == build(date=elsewhere).as_bytes()


def test_another_message_id_is_another_boundary() -> None:
    assert build().get_boundary() != build(message_id="<other@example.com>").get_boundary()


def test_all_of_it_is_seven_bit_in_short_lines() -> None:
    long = mail(
        subject="Rezervasyonunuz onaylandı " * 20,
        text="ığüşöç" * 1_000,
        html=f"<p>{'🏖' * 2_000}</p>",
    )
    data = build(long, message_id=f"<{'a' * 300}@example.com>").as_bytes()
    assert data.isascii()
    assert max(len(line) for line in data.split(b"\r\n")) <= 998
    assert b"\n" not in data.replace(b"\r\n", b"")
    assert read(data)["Message-ID"] == f"<{'a' * 300}@example.com>"


@pytest.mark.parametrize(
    ("sender", "display_name", "address"),
    [
        ("bilgi@example.com", "", "bilgi@example.com"),
        ("<bilgi@example.com>", "", "bilgi@example.com"),
        ("Gezi, Ünlü & Oğulları <bilgi@example.com>", "Gezi, Ünlü & Oğulları", "bilgi@example.com"),
        ('"Gezi \\"Ege\\"" <bilgi@example.com>', 'Gezi "Ege"', "bilgi@example.com"),
        ("Gezi <bilgi@çeşme.example.com>", "Gezi", "bilgi@xn--eme-1la51d.example.com"),
        ("skycap@localhost", "", "skycap@localhost"),
    ],
)
def test_the_senders_name_is_kept_and_its_domain_is_ascii(sender: str, display_name: str, address: str) -> None:
    found = read(build(sender=sender).as_bytes())["From"].addresses[0]
    assert (found.display_name, found.addr_spec) == (display_name, address)


def test_a_recipient_in_a_domain_beyond_ascii_is_written_in_a_labels() -> None:
    data = build(recipient="ayse.yilmaz@çeşme.example.com").as_bytes()
    assert data.isascii()
    assert read(data)["To"] == "ayse.yilmaz@xn--eme-1la51d.example.com"


def test_a_recipient_whose_name_is_beyond_ascii_has_utf8_headers() -> None:
    data = build(recipient="ayşe@example.com").as_bytes()
    assert "To: ayşe@example.com\r\n".encode() in data
    assert read(data)["Subject"] == MAIL.subject


@pytest.mark.parametrize("evil", CONTROL_CHARACTERS)
@pytest.mark.parametrize("field", ["sender", "recipient", "message_id"])
def test_no_address_takes_a_control_character(field: str, evil: str) -> None:
    good = {"sender": "Ege <bilgi@example.com>", "recipient": "ayse@example.org", "message_id": "<a@example.com>"}[
        field
    ]
    with pytest.raises(PermanentError):
        build(MAIL, **{field: f"{good[:2]}{evil}{good[2:]}"})


@pytest.mark.parametrize("evil", CONTROL_CHARACTERS)
@pytest.mark.parametrize("field", ["subject", "locale"])
def test_no_other_header_takes_a_control_character(field: str, evil: str) -> None:
    with pytest.raises(PermanentError, match="contains a line break or another control character"):
        build(mail(**{field: f"tr{evil}x"}))


@pytest.mark.parametrize(
    "recipient", ["", "ayse", "ayse@", "@example.com", "a b@example.com", "Ayşe <ayse@example.com>"]
)
def test_a_recipient_that_is_no_address_is_refused_without_being_named(recipient: str) -> None:
    with pytest.raises(PermanentError, match=r"^the recipient's address is not a valid mail address$") as refusal:
        build(recipient=recipient)
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__


def test_a_sender_that_is_no_address_is_named() -> None:
    with pytest.raises(PermanentError, match=r"Ege <bilgi@>"):
        build(sender="Ege <bilgi@>")


@pytest.mark.parametrize(
    "message_id", ["", "a@example.com", "<a>", "<a b@example.com>", f"<{'a' * 1_000}@example.com>"]
)
def test_a_message_id_that_servers_would_rewrite_is_refused(message_id: str) -> None:
    with pytest.raises(PermanentError, match="Message-ID"):
        build(message_id=message_id)


ANY_TEXT = st.text(st.one_of(st.sampled_from("\r\n\x00\x1b:<>@,;\"'=?\u2028\u202eİı"), st.characters()))


@given(subject=ANY_TEXT, name=ANY_TEXT, recipient=ANY_TEXT)
def test_whatever_is_in_a_header_stays_in_that_header(subject: str, name: str, recipient: str) -> None:
    expected = list(build().keys())
    try:
        message = build(
            mail(subject=subject), sender=f"{name} <bilgi@example.com>", recipient=recipient or "a@example.com"
        )
    except PermanentError:
        return
    found = read(message.as_bytes())
    assert found.keys() == expected
    assert str(found["Subject"]).split() == subject.split()
    assert [address.addr_spec for address in found["From"].addresses] == ["bilgi@example.com"]


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r")))
def test_whatever_is_in_a_body_arrives_in_that_body(text: str) -> None:
    message = read(build(mail(text=f"{text}\n", html=f"<p>{text}</p>\n")).as_bytes())
    assert (body(message, "plain"), body(message, "html")) == (f"{text}\n", f"<p>{text}</p>\n")
    assert len(list(message.iter_parts())) == 2
