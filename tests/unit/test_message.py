"""From a rendered mail to bytes that any mail server takes."""

from __future__ import annotations

import email
import email.policy
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skycap.context import Attachment
from skycap.errors import PermanentError
from skycap.services.message import LOGO_ID, RenderedMail, build_message
from skycap.services.recipient import Recipient

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


def build(mail: RenderedMail = MAIL, *, recipient: str = "ayse@example.org", **changes: Any) -> bytes:
    arguments: dict[str, Any] = {
        "sender": "Ege Seyahat <bilgi@example.com>",
        "recipient": Recipient.parse(recipient),
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


def mail(**changes: Any) -> RenderedMail:
    return RenderedMail(**(vars(MAIL) | changes))


def test_a_mail_has_a_text_part_and_an_html_part_in_that_order() -> None:
    message = read(build())
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert (body(message, "plain"), body(message, "html")) == (MAIL.text, MAIL.html)


def test_the_headers_say_who_what_when_and_that_nobody_need_answer() -> None:
    message = read(build())
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
    assert build() == build() == build(date=elsewhere)


def test_another_message_id_is_another_boundary() -> None:
    assert read(build()).get_boundary() != read(build(message_id="<other@example.com>")).get_boundary()


def test_all_of_it_is_seven_bit_in_short_lines() -> None:
    long = mail(
        subject="Rezervasyonunuz onaylandı " * 20,
        text="ığüşöç" * 1_000,
        html=f"<p>{'🏖' * 2_000}</p>",
    )
    data = build(long, message_id=f"<{'a' * 300}@example.com>")
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
    found = read(build(sender=sender))["From"].addresses[0]
    assert (found.display_name, found.addr_spec) == (display_name, address)


def test_a_recipient_in_a_domain_beyond_ascii_is_written_in_a_labels() -> None:
    data = build(recipient="ayse.yilmaz@çeşme.example.com")
    assert data.isascii()
    assert read(data)["To"] == "ayse.yilmaz@xn--eme-1la51d.example.com"


def test_a_recipient_whose_name_is_beyond_ascii_has_utf8_headers() -> None:
    data = build(recipient="ayşe@example.com")
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
    expected = list(read(build()).keys())
    try:
        message = build(
            mail(subject=subject), sender=f"{name} <bilgi@example.com>", recipient=recipient or "a@example.com"
        )
    except PermanentError:
        return
    found = read(message)
    assert found.keys() == expected
    assert str(found["Subject"]).split() == subject.split()
    assert [address.addr_spec for address in found["From"].addresses] == ["bilgi@example.com"]


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r")))
def test_whatever_is_in_a_body_arrives_in_that_body(text: str) -> None:
    message = read(build(mail(text=f"{text}\n", html=f"<p>{text}</p>\n")))
    assert (body(message, "plain"), body(message, "html")) == (f"{text}\n", f"<p>{text}</p>\n")
    assert len(list(message.iter_parts())) == 2


PDF = Attachment(filename="makbuz-şubat.pdf", content=b"%PDF-1.7\n" * 50, media_type="application/pdf")
CALENDAR = Attachment(
    filename="booking.ics",
    content="BEGIN:VCALENDAR\r\nSUMMARY:Çeşme\r\nEND:VCALENDAR\r\n".encode(),
    media_type="text/calendar; charset=utf-8; method=PUBLISH",
)
LOGO = Attachment(filename="logo.png", content=b"\x89PNG\r\n", media_type="image/png")


def test_files_come_after_the_words() -> None:
    message = read(build(attachments=[CALENDAR, PDF]))
    assert message.get_content_type() == "multipart/mixed"
    assert body(message, "plain") == MAIL.text
    assert body(message, "html") == MAIL.html
    calendar, pdf = message.iter_attachments()
    parameters = {"charset": "utf-8", "method": "PUBLISH"}
    assert (calendar.get_content_type(), dict(calendar["Content-Type"].params)) == ("text/calendar", parameters)
    assert (calendar.get_filename(), calendar.get_payload(decode=True)) == (CALENDAR.filename, CALENDAR.content)
    assert (pdf.get_filename(), pdf.get_payload(decode=True)) == (PDF.filename, PDF.content)


def test_the_logo_goes_only_with_a_mail_that_shows_it() -> None:
    shown = mail(html=f'<img src="cid:{LOGO_ID}" alt="x">\n')
    message = read(build(shown, logo=LOGO))
    (related,) = [part for part in message.walk() if part.get_content_type() == "multipart/related"]
    _html, picture = related.iter_parts()
    assert (picture["Content-ID"], picture.get_payload(decode=True)) == (f"<{LOGO_ID}>", LOGO.content)
    assert picture.get_content_disposition() == "inline"
    assert "image/png" not in [part.get_content_type() for part in read(build(logo=LOGO)).walk()]


def test_a_mail_with_files_is_the_same_bytes_each_time() -> None:
    shown = mail(html=f'<img src="cid:{LOGO_ID}" alt="x">\n')
    first, second = (build(shown, attachments=[CALENDAR, PDF], logo=LOGO) for _ in range(2))
    assert first == second
    assert first.isascii()
    boundaries = [part.get_boundary() for part in read(first).walk() if part.is_multipart()]
    assert len(set(boundaries)) == 3  # mixed, alternative, related


def test_further_headers_are_set_and_checked() -> None:
    message = read(build(headers={"X-Once": "1"}, reply_to="Yardım <yardim@example.com>"))
    assert (message["Reply-To"], message["X-Once"]) == ("Yardım <yardim@example.com>", "1")
    with pytest.raises(PermanentError, match="X-Once contains a line break"):
        build(headers={"X-Once": "1\r\nBcc: all@example.com"})


@pytest.mark.parametrize("control", CONTROL_CHARACTERS)
def test_a_file_name_cannot_break_out_of_its_header(control: str) -> None:
    with pytest.raises(PermanentError, match="filename contains a line break"):
        build(attachments=[replace(PDF, filename=f"a{control}b.pdf")])
    with pytest.raises(PermanentError, match="Content-Type contains a line break"):
        build(attachments=[replace(PDF, media_type=f"application/{control}pdf")])
