"""The mail that the backend has written: what is refused of it, what it means, and its words as plain text."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from skycap import InvalidPayload, JobState
from skycap.envelope import Envelope
from skycap.registry import Registry
from skycap.services.message import RenderedMail, build_message
from skycap.services.recipient import Recipient
from skycap.testing import Mail, perform
from skycap_travel.content.plain_text import plain_text
from skycap_travel.mails import LARGEST_ATTACHMENTS_BYTES, AttachedFile, SendEmail, plugin, send_email
from tests.support.golden import assert_golden

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
HTML = "<!doctype html>\n<p style='color:red' onclick=alert(1)>Grüße,  <b>Ada</b>&nbsp;…<script>x()</script>\n"
PDF = {"filename": "Rechnung Nº 7.pdf", "content": base64.b64encode(b"%PDF-1.7\n\x00\xff").decode()}
GIVEN: dict[str, object] = {"to": "ada@example.com", "subject": "Your invoice", "html": HTML}


async def sent(**fields: object) -> Mail:
    done = await perform(send_email, SendEmail.model_validate(GIVEN | fields))
    assert done.state is JobState.COMPLETED
    (mail,) = done.mails
    assert done.result == {"messageId": mail.message_id}
    return mail


def refused(**fields: object) -> list[str]:
    """The problems that whoever enqueues it is told of."""
    registry = Registry()
    registry.add(plugin, name="mails", origin="test")
    with pytest.raises(InvalidPayload) as error:
        registry.checked_payload("send-email", GIVEN | fields)
    return error.value.problems


def refused_file(**fields: object) -> list[str]:
    return refused(attachments=[PDF | fields])


async def test_what_was_written_is_sent_as_it_is() -> None:
    mail = await sent(text="Grüße\n", attachments=[PDF])
    assert (mail.to, mail.template) == ("ada@example.com", "")
    assert mail.variables == {"subject": "Your invoice", "html": HTML, "text": "Grüße\n"}
    assert [(file.filename, file.content, file.media_type) for file in mail.attachments] == [
        ("Rechnung Nº 7.pdf", b"%PDF-1.7\n\x00\xff", "application/pdf")
    ]


async def test_a_message_is_the_same_as_when_it_was_last_looked_at() -> None:
    mail = await sent(attachments=[PDF, {"filename": "trip.ics", "content": "QkVHSU4="}])
    written: dict[str, Any] = mail.variables
    message = build_message(
        RenderedMail(locale=None, **written),
        sender="Ege Seyahat <bilgi@example.com>",
        recipient=Recipient.parse(mail.to),
        message_id="<send-email.1@example.com>",
        date=NOW,
        attachments=mail.attachments,
    )
    assert_golden("mails/with-attachments.eml", message.decode("ascii").replace("\r\n", "\n"))


@pytest.mark.parametrize("text", [None, "", " \n"])
async def test_without_a_text_part_the_words_of_the_html_are_one(text: str | None) -> None:
    assert (await sent(text=text)).variables["text"] == "Grüße, Ada …"


async def test_html_without_a_word_has_the_subject_as_its_text() -> None:
    assert (await sent(html="<img src=x>")).variables["text"] == "Your invoice"


async def test_what_says_the_same_to_the_same_address_within_a_day_is_one_mail() -> None:
    mail = await sent(attachments=[PDF])
    assert mail.repeat_after == timedelta(hours=24)
    assert mail.on_unknown == "resend"
    again = await sent(attachments=[PDF | {"contentType": "application/pdf"}])
    assert mail.key == again.key


@pytest.mark.parametrize(
    "fields",
    [
        {"to": "ben@example.com"},
        {"subject": "Your receipt"},
        {"html": f"{HTML} "},
        {"text": "x"},
        {"attachments": [PDF]},
        {"attachments": [PDF | {"filename": "b.pdf"}]},
        {"attachments": [PDF | {"content": "QQ=="}]},
        {"attachments": [PDF | {"contentType": "application/x-pdf"}]},
        {"attachments": [PDF, PDF]},
    ],
)
async def test_whatever_differs_makes_it_another_mail(fields: dict[str, object]) -> None:
    keys = {(await sent()).key, (await sent(attachments=[PDF])).key if fields != {"attachments": [PDF]} else None}
    assert (await sent(**fields)).key not in keys


async def test_a_key_says_what_the_mail_means_to_its_recipient_for_ever() -> None:
    mail = await sent(key="invoice-7", onUnknown="hold")
    assert (mail.key, mail.repeat_after, mail.on_unknown) == ("email:invoice-7:ada@example.com", None, "hold")
    assert (await sent(key="invoice-7", html="changed")).key == mail.key
    assert (await sent(key="invoice-7", to="ben@example.com")).key != mail.key


async def test_the_key_of_a_content_holds_nothing_of_it() -> None:
    key = (await sent()).key or ""
    assert key.startswith("email-content:")
    assert len(key) == len("email-content:") + 64


@pytest.mark.parametrize(
    ("to", "problem"),
    [
        (["ada@example.com"], "to: is no text; give one address, and each recipient a job"),
        (None, "to: is no text; give one address, and each recipient a job"),
    ],
)
def test_a_mail_has_one_recipient(to: object, problem: str) -> None:
    assert refused(to=to) == [problem]


@pytest.mark.parametrize(
    "to", ["ada", "ada@example.com, ben@example.com", "ada@example.com\r\nBcc: all@example.com", ""]
)
def test_what_is_no_address_is_refused_without_repeating_it(to: str) -> None:
    (problem,) = refused(to=to)
    assert problem.startswith("to: ")
    assert "example.com" not in problem


@pytest.mark.parametrize("evil", ["\n", "\r", "\x00", "\t", "\x7f", "\x9f", "\u2028", "\u2029"])
def test_a_line_break_in_the_subject_is_refused(evil: str) -> None:
    assert refused(subject=f"Hi{evil}Bcc: all@example.com") == [
        "subject: is blank, or holds a line break or another control character"
    ]


def test_the_lengths_are_those_of_a_mail() -> None:
    longest = {"subject": "ş" * 998, "html": "x" * 1024 * 1024}
    assert SendEmail.model_validate(GIVEN | longest).subject == "ş" * 998
    assert refused(subject="ş" * 999) == ["subject: string should have at most 998 characters"]
    assert refused(subject=" ") == ["subject: is blank, or holds a line break or another control character"]
    assert refused(html="") == ["html: string should have at least 1 character"]
    assert refused(html="ş" * (512 * 1024 + 1)) == ["html: is larger than 1,048,576 bytes"]
    assert refused(text="x" * (1024 * 1024 + 1)) == ["text: is larger than 1,048,576 bytes"]
    assert refused(key="k" * 201) == ["key: string should have at most 200 characters"]
    assert refused(onUnknown="drop") == ["onUnknown: input should be 'resend' or 'hold'"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("../../etc/passwd", "holds U+002F; give the name alone, without folders, line breaks and turns of direction"),
        ("C:\\x.pdf", "holds U+003A; give the name alone, without folders, line breaks and turns of direction"),
        ("a\\b.pdf", "holds U+005C; give the name alone, without folders, line breaks and turns of direction"),
        ("a\r\nX: y.pdf", "holds U+000D; give the name alone, without folders, line breaks and turns of direction"),
        ("a\x00.pdf", "holds U+0000; give the name alone, without folders, line breaks and turns of direction"),
        ("fdp.\u202eexe.pdf", "holds U+202E; give the name alone, without folders, line breaks and turns of direction"),
        ("a\u2066.pdf", "holds U+2066; give the name alone, without folders, line breaks and turns of direction"),
        ("..", "begins or ends with a blank or a dot"),
        (".bashrc", "begins or ends with a blank or a dot"),
        ("invoice.pdf.", "begins or ends with a blank or a dot"),
        ("invoice.pdf ", "begins or ends with a blank or a dot"),
        ("ş" * 126 + ".pdf", "is longer than 255 bytes"),
        (
            "invoice.pdf.exe",
            "is that of a program (.exe), for which mail servers refuse the whole mail; send a link to it",
        ),
        (
            "INVOICE.PDF.JS",
            "is that of a program (.JS), for which mail servers refuse the whole mail; send a link to it",
        ),
        ("setup.msi", "is that of a program (.msi), for which mail servers refuse the whole mail; send a link to it"),
    ],
)
def test_a_name_that_could_do_harm_is_refused(name: str, problem: str) -> None:
    assert refused_file(filename=name) == [f"attachments.0.filename: {problem}"]


@pytest.mark.parametrize(
    "name", ["a.pdf", "v1.2 Teklif (son).pdf", "Şişli–Beşiktaş.pdf", "بطاقة.pdf", "README", "😀.png"]
)
async def test_an_honest_name_stays_as_it_is(name: str) -> None:
    assert (await sent(attachments=[PDF | {"filename": name}])).attachments[0].filename == name


@pytest.mark.parametrize(
    "content", ["QQ", "QQ=", "QQ==\n", "QQ= =", "Q-_=", "data:;base64,QQ==", "QQ==QQ==", "ş", "====", "😀"]
)
def test_what_is_no_base64_is_refused_rather_than_guessed(content: str) -> None:
    assert refused_file(content=content) == [
        "attachments.0.content: is not base64; encode the file's bytes, without line breaks and without a data: prefix"
    ]


def test_an_empty_file_is_a_mistake() -> None:
    assert refused_file(content="") == ["attachments.0.content: data should have at least 1 byte"]


def test_the_attachments_have_a_limit_together() -> None:
    half = base64.b64encode(bytes(LARGEST_ATTACHMENTS_BYTES // 2)).decode()
    two = [PDF | {"content": half}] * 2
    assert len(SendEmail.model_validate(GIVEN | {"attachments": two}).attachments) == 2
    assert refused(attachments=[*two, PDF]) == [
        "attachments: are 10,485,771 bytes together, the limit is 10,485,760; send a link to what is larger"
    ]
    assert refused(attachments=[PDF] * 21) == [
        "attachments: tuple should have at most 20 items after validation, not 21"
    ]


async def test_a_mail_with_all_that_is_allowed_can_be_enqueued() -> None:
    file = PDF | {"content": base64.b64encode(bytes(LARGEST_ATTACHMENTS_BYTES)).decode()}
    mail = await sent(html='"' * 1024 * 1024, text="\n" * 1024 * 1024, attachments=[file])
    assert len(mail.attachments[0].content) == LARGEST_ATTACHMENTS_BYTES


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.pdf", "application/pdf"),
        ("A.PDF", "application/pdf"),
        ("a.ics", "text/calendar"),
        ("a.xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        ("a.pkpass", "application/vnd.apple.pkpass"),
        ("a.tar.gz", "application/octet-stream"),
        ("a.eml", "application/octet-stream"),
        ("a.unheard-of", "application/octet-stream"),
        ("README", "application/octet-stream"),
        ("http#x,y.pdf", "application/pdf"),
    ],
)
async def test_the_media_type_is_guessed_from_the_name(name: str, media_type: str) -> None:
    assert (await sent(attachments=[PDF | {"filename": name}])).attachments[0].media_type == media_type


@pytest.mark.parametrize("media_type", ["application/pdf", "text/calendar; method=PUBLISH", "text/csv;charset=utf-8"])
async def test_a_media_type_that_is_given_counts(media_type: str) -> None:
    assert (await sent(attachments=[PDF | {"contentType": media_type}])).attachments[0].media_type == media_type


@pytest.mark.parametrize(
    "media_type",
    ["", "pdf", "application/", "a/b\r\nX: y", "multipart/mixed", "Message/RFC822", 'text/csv; a="b"', "a/b; c"],
)
def test_what_is_no_media_type_of_a_file_is_refused(media_type: str) -> None:
    assert refused_file(contentType=media_type) == [
        "attachments.0.contentType: is no media type of a file; write one like application/pdf"
    ]


def test_nothing_of_a_mail_shows_in_a_repr() -> None:
    made = SendEmail.model_validate(GIVEN | {"text": "secret", "key": "ada", "attachments": [PDF]})
    assert repr(made) == "SendEmail(attachments=(AttachedFile(content_type=None),), on_unknown='resend')"


def test_python_may_give_bytes() -> None:
    made = SendEmail(
        to="a@example.com", subject="s", html="h", attachments=(AttachedFile(filename="a", content=b"\xff"),)
    )
    assert made.on_the_wire()["attachments"] == [{"filename": "a", "content": "/w==", "contentType": None}]


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>one</p><p>two</p>", "one\n\ntwo"),
        ("one<br>two<br/>three<div>four</div>five", "one\ntwo\nthree\nfour\nfive"),
        ("<ul><li>one<li>two</ul>", "- one\n- two"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><th>c</table>", "a b\nc"),
        ("a <a href='https://example.com/?a=1&amp;b=2'>link</a>.", "a link <https://example.com/?a=1&b=2>."),
        ("<a href=https://example.com/>https://example.com</a>", "https://example.com"),
        ("<a href='mailto:a@example.com'>a@example.com</a>", "a@example.com"),
        ("<a href='https://example.com'><img alt='Book' src=x></a>", "Book <https://example.com>"),
        ("<a href='javascript:x()'>click</a> <a name=x>here</a>", "click here"),
        ("<a href=https://x.example>never closed", "never closed <https://x.example>"),
        ("<title>no</title><style>p>a{}</style><script>if (a<b) {}</script><p>yes", "yes"),
        ("<div style='DISPLAY : none'>no <div>no</div> no</div>yes<p hidden>no</p>", "yes"),
        ("<!-- no --><!doctype html><?xml no?></ no><![if !mso]>yes<![endif]>", "yes"),
        ("<!--[if mso]>no<![endif]-->yes", "yes"),
        ("1 < 2 &amp; 3 > 2 &lt;b&gt; &nbsp; &#0; &unheard;", "1 < 2 & 3 > 2 <b> \ufffd &unheard;"),
        ("<p title='a > b'>yes</p><p title=it's>too", "yes\n\ntoo"),
        ("yes<!-- no", "yes"),
        ("yes<a href='no", "yes"),
        ("yes<script>no", "yes"),
        ("a\x00b\x1bc\u2028d", "a b c d"),
        ("", ""),
    ],
)
def test_the_words_of_html_are_plain_text(html: str, text: str) -> None:
    assert plain_text(html) == text


@pytest.mark.parametrize(
    "broken", ["<!--", "<a ", '<a ="', '<a ="x>y"', "<a href='https://x'>", "</", "<![x", "&", "<style>"]
)
def test_broken_html_takes_a_time_that_grows_no_faster_than_itself(broken: str) -> None:
    # A megabyte takes parts of a second; if the time grew with the square, it would take many minutes.
    assert isinstance(plain_text(broken * (1024 * 1024 // len(broken))), str)


PIECES = [
    "<p>",
    "</p>",
    "<a href='",
    "'>",
    "</a>",
    "<!--",
    "-->",
    "<script>",
    "</script>",
    "<",
    ">",
    "&#",
    ";",
    "\x00",
    "\r",
]
MARKUP = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=20).map("".join)


@settings(max_examples=200)
@given(MARKUP)
def test_whatever_is_written_has_words_without_control_characters(html: str) -> None:
    text = plain_text(html)
    assert text == text.strip()
    assert all(character == "\n" or character.isprintable() or ord(character) > 0x9F for character in text)
    assert "\n\n\n" not in text


NASTY = st.sampled_from(
    ["\n", "a\r\nBcc: b@example.com", "\u2028", "\u202e", "\ud800", "😀" * 300, "x" * 10_000, "../x", "x.exe", ""]
)
ANY_JSON = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | NASTY | st.just(["a@example.com"])
)


@settings(max_examples=200)
@given(
    fields=st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("to", "subject", "html", "text", "key", "onUnknown"), ANY_JSON)
    ),
    file=st.fixed_dictionaries({}, optional=dict.fromkeys(("filename", "content", "contentType"), ANY_JSON)),
)
async def test_a_payload_is_refused_or_becomes_a_message(fields: dict[str, object], file: dict[str, object]) -> None:
    given_fields = GIVEN | {"attachments": [PDF | file]} | fields
    wrong: set[int | str]
    made: SendEmail | None
    try:
        made = SendEmail.model_validate(given_fields)
    except ValidationError as error:
        made, wrong = None, {problem["loc"][0] for problem in error.errors()}
    else:
        wrong = set()
    assert wrong <= {*fields, "attachments"}
    if made is None:
        return
    envelope = Envelope(id="1", kind="k", payload=made.on_the_wire(), queue="q", priority=1, enqueued_at=NOW)
    assert SendEmail.model_validate(json.loads(envelope.to_json())["payload"]) == made
    mail = await sent(**given_fields)
    written: dict[str, Any] = mail.variables
    message = build_message(
        RenderedMail(locale=None, **written),
        sender="bilgi@example.com",
        recipient=Recipient.parse(mail.to),
        message_id="<1@example.com>",
        date=NOW,
        attachments=mail.attachments,
    )
    parsed = message_from_bytes(message, policy=policy.default)
    assert parsed["Bcc"] is None
    assert [part.get_filename() for part in parsed.iter_attachments()] == [made.attachments[0].filename]
