"""Whatever stands in a payload or a row, a mail has the headers, parts and elements that its template gives it."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import cache
from typing import Any, Final, cast
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skycap import Sample, discovery
from skycap.errors import InvalidPayload, PermanentError
from skycap.preview.previews import Preview, Previews
from skycap.services.recipient import Recipient
from skycap.services.replies import SmtpRefused
from skycap_travel.samples import bookings
from tests.support.mails import elements_of
from tests.support.previews import SETTINGS

REGISTRY: Final = discovery.load()
SAMPLES: Final = {f"{sample.kind}.{sample.name}": sample for sample in (*REGISTRY.samples(), *bookings())}
"""Those of every plugin: a new kind of mail is attacked as soon as it has one."""

HAS_LINES: Final = {("send-email", "html"), ("send-email", "text")}
"""Fields that are bodies. In any other field of a payload, a line break is refused when the job is enqueued."""

WRITTEN_BY_THE_CALLER: Final = {"send-email"}
"""Their HTML is sent as it is."""

JSON_COLUMNS: Final = {"meta_data"}

_SMALL: Final = 150
_LEADS_SOMEWHERE: Final = {"href", "src"}

PIECES: Final = (
    "\r\nBcc: eve@example.com",
    "\nBcc: eve@example.com\n\nbody",
    "\r\n.\r\nMAIL FROM:<eve@example.com>\r\n",
    "\r",
    "\x00",
    "\x0b\x0c\x1c\x85",
    "\u2028Bcc: eve@example.com",
    "\u2029",
    "\u202e\u2066",
    "\ud800",
    "\udfff\udc0a",
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</title></style><svg onload=alert(1)>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "<!--",
    "]]>",
    "&lt;b&gt;&#60;i&#62;",
    "javascript:alert(1)",
    "=?utf-8?q?=0D=0ABcc:_eve@example.com?=",
    "=?utf-8?b?DQpCY2M6IGV2ZUBleGFtcGxlLmNvbQ==?=",
    "Q{{ 7*7 }}Q",
    "Q{% if 1 %}Q",
    "{# ",
    "%s%d%(name)s%",
    "{0}{name}",
    "--=_0_",
    "\r\nATTENDEE:mailto:eve@example.com",
    "\nEND:VEVENT\nBEGIN:VEVENT\nUID:eve",
    "\\n;,:\\",
    "@example.com,eve@example.com",
    "eve@example.com <ada@example.com>",
)

texts = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=20)), min_size=1, max_size=4).map("".join)

Path = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Attack:
    """A text that takes the place of another, or goes before or behind it."""

    text: str
    where: str

    def on(self, original: str) -> str:
        return {"instead": self.text, "before": self.text + original, "behind": original + self.text}[self.where]


attacks = st.builds(Attack, text=texts, where=st.sampled_from(["instead", "before", "behind"]))


def doses() -> Iterator[str]:
    """All pieces, some at a time: few enough to stay below what the mails cut off."""
    dose = ""
    for piece in PIECES:
        if len(dose + piece) > _SMALL:
            yield dose
            dose = ""
        dose += piece
    yield dose


fuzzed = settings(max_examples=12, deadline=None)


@pytest.mark.parametrize("name", SAMPLES)
def test_no_column_can_do_harm(name: str) -> None:
    sample = SAMPLES[name]
    mails = 0
    for column in _columns(sample):
        for dose in doses():
            attack = Attack(text=dose, where="behind")
            mails += judge(sample, replace(sample, rows=_unread(_attacked(_rows(sample), column, attack))))
    assert mails or not sample.rows, "no attack came as far as a mail"


@pytest.mark.parametrize("name", SAMPLES)
def test_what_stands_in_the_database_adds_nothing_to_a_mail(name: str) -> None:
    sample = SAMPLES[name]
    paths = [path for path, _ in _texts(_rows(sample))]

    @fuzzed
    @given(at=st.lists(st.sampled_from(paths), min_size=1, max_size=3, unique=True), attack=attacks)
    def attack_rows(at: list[Path], attack: Attack) -> None:
        judge(sample, replace(sample, rows=_unread(_attacked(_rows(sample), at, attack))))

    if paths:
        attack_rows()


@pytest.mark.parametrize("name", SAMPLES)
def test_what_stands_in_a_payload_is_refused_or_adds_nothing_to_a_mail(name: str) -> None:
    sample = SAMPLES[name]
    wire = sample.payload.on_the_wire()
    paths = [path for path, _ in _texts(wire)]

    @fuzzed
    @given(at=st.lists(st.sampled_from(paths), min_size=1, max_size=2, unique=True), attack=attacks)
    def attack_payload(at: list[Path], attack: Attack) -> None:
        try:
            payload = REGISTRY.checked_payload(sample.kind, _attacked(wire, at, attack))
        except InvalidPayload:
            return
        judge(sample, replace(sample, payload=payload))

    attack_payload()


@pytest.mark.parametrize("name", SAMPLES)
def test_a_line_break_in_a_field_that_is_no_body_is_refused_when_the_job_is_enqueued(name: str) -> None:
    sample = SAMPLES[name]
    wire = sample.payload.on_the_wire()
    for path, text in _texts(wire):
        if (sample.kind, path[0]) in HAS_LINES:
            continue
        for bad in ("\r\nBcc: eve@example.com", "\nBcc: eve@example.com", "\r.", "\n.", "\x00.", "\u2028.", "\x85."):
            for attacked in (f"{text}{bad}", f"{text[:1]}{bad}{text[1:]}", f"{bad}{text}"):
                with pytest.raises(InvalidPayload):
                    REGISTRY.checked_payload(sample.kind, _replaced(wire, path, attacked))


@pytest.mark.parametrize("name", SAMPLES)
def test_a_line_break_around_a_field_that_is_no_body_is_refused_or_taken_off(name: str) -> None:
    sample = SAMPLES[name]
    wire = sample.payload.on_the_wire()
    for path, text in _texts(wire):
        if (sample.kind, path[0]) in HAS_LINES:
            continue
        for attacked in (f"{text}\n", f"\r\n{text}", f"{text}\u2028"):
            try:
                payload = REGISTRY.checked_payload(sample.kind, _replaced(wire, path, attacked))
            except InvalidPayload:
                continue
            assert dict(_texts(payload.on_the_wire()))[path] == text


def test_an_address_that_reads_as_an_encoded_word_is_refused() -> None:
    with pytest.raises(SmtpRefused):
        Recipient.parse("=?utf-8?b?DQpCY2M6IGV2ZUBleGFtcGxlLmNvbQ==?=@example.com")


def judge(sample: Sample, attacked: Sample) -> bool:
    """The mail of ``attacked`` is built as that of ``sample`` is, or there is none, and for good; whether there is."""
    try:
        (preview,) = asyncio.run(_previews().of(attacked))
    except PermanentError:
        return False
    by_caller = sample.kind in WRITTEN_BY_THE_CALLER
    judge_message(_parsed(preview), _parsed(_original(sample)), may_change_types=by_caller)
    for shown in (preview.subject, preview.text, preview.html):
        assert "Q49Q" not in shown, "an expression was evaluated"
    if not by_caller:
        judge_html(preview.html)
    for attachment in preview.attachments:
        if attachment.media_type == "text/calendar":
            assert Counter(_properties(attachment.content)) <= _known_properties(sample)
    return True


def judge_message(message: EmailMessage, original: EmailMessage, *, may_change_types: bool) -> None:
    assert message.defects == []
    assert Counter(message.keys()) == Counter(original.keys())
    for name, value in message.items():
        assert not re.search("[\r\n]", str(value)), f"{name} has a second line"
    assert message["From"] == original["From"]
    assert len(message["To"].addresses) == 1
    parts, known = _parts(message), _parts(original)
    assert parts.total() <= known.total() if may_change_types else parts <= known


def judge_html(html: str) -> None:
    for element in elements_of(html):
        assert {(element.tag, name) for name in ("", *element.attributes)} <= _known_elements(), "no template has it"
        for name in _LEADS_SOMEWHERE & element.attributes.keys():
            assert _target(element.attributes[name]) in _known_targets(), element
        if element.tag == "script":
            json.loads("".join(element.text))


def _texts(value: object, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every text in it, and where it stands."""
    match value:
        case str():
            yield path, value
        case Mapping():
            for key, inner in cast("Mapping[str, object]", value).items():
                yield from _texts(inner, (*path, key))
        case list() | tuple():
            for number, inner in enumerate(cast("Sequence[object]", value)):
                yield from _texts(inner, (*path, number))
        case _:
            return


def _columns(sample: Sample) -> list[list[Path]]:
    """The texts of each column: one, or all those in its JSON."""
    found: dict[Path, list[Path]] = {}
    for path, _ in _texts(_rows(sample)):
        found.setdefault(path[:3], []).append(path)  # query, row, column
    return list(found.values())


def _attacked(value: Any, at: list[Path], attack: Attack) -> Any:
    found = dict(_texts(value))
    for path in at:
        value = _replaced(value, path, attack.on(found[path]))
    return value


def _replaced(value: Any, path: Path, text: str) -> Any:
    """A copy, with another text in one place."""
    if not path:
        return text
    key, *rest = path
    if isinstance(value, dict):
        known = cast("dict[str | int, Any]", value)
        return known | {key: _replaced(known[key], tuple(rest), text)}
    return [_replaced(each, tuple(rest), text) if number == key else each for number, each in enumerate(value)]


def _rows(sample: Sample) -> dict[str, Any]:
    """Its rows, with what is JSON in them as what it means, so that the texts in there are found."""
    return {
        query: [
            {column: json.loads(value) if column in JSON_COLUMNS and value else value for column, value in row.items()}
            for row in rows
        ]
        for query, rows in sample.rows.items()
    }


def _unread(rows: Mapping[str, Any]) -> dict[str, Any]:
    """The opposite of ``_rows``."""
    return {
        query: [
            {
                column: json.dumps(value) if column in JSON_COLUMNS and value is not None else _storable(value)
                for column, value in row.items()
            }
            for row in found
        ]
        for query, found in rows.items()
    }


def _storable(value: Any) -> Any:
    """As PostgreSQL may return it: no text of its own has half of a pair of surrogates, or NUL."""
    return value.encode(errors="ignore").decode().replace("\0", "") if isinstance(value, str) else value


@cache
def _previews() -> Previews:
    return Previews(SETTINGS, REGISTRY)


@cache
def _original_of(name: str) -> Preview:
    (preview,) = asyncio.run(_previews().of(SAMPLES[name]))
    return preview


@cache
def _templates_at_work() -> tuple[Preview, ...]:
    """Every sample that a template writes, in every locale."""

    async def every_sample() -> list[Preview]:
        samples = [sample for sample in SAMPLES.values() if sample.kind not in WRITTEN_BY_THE_CALLER]
        return [preview for sample in samples for preview in await _previews().every_locale(sample)]

    return tuple(asyncio.run(every_sample()))


def _original(sample: Sample) -> Preview:
    return _original_of(f"{sample.kind}.{sample.name}")


def _parsed(preview: Preview) -> EmailMessage:
    return message_from_bytes(preview.message, policy=policy.default)


def _parts(message: EmailMessage) -> Counter[str]:
    return Counter(part.get_content_type() for part in message.walk() if not part.is_multipart())


@cache
def _known_elements() -> frozenset[tuple[str, str]]:
    return frozenset(
        (element.tag, name)
        for preview in _templates_at_work()
        for element in elements_of(preview.html)
        for name in ("", *element.attributes)
    )


@cache
def _known_targets() -> frozenset[str]:
    return frozenset(
        _target(element.attributes[name])
        for preview in _templates_at_work()
        for element in elements_of(preview.html)
        for name in _LEADS_SOMEWHERE & element.attributes.keys()
    )


def _target(address: str | None) -> str:
    """Scheme and host: what follows may be a guest's."""
    parts = urlsplit(address or "")
    return f"{parts.scheme}://{parts.netloc}"


def _known_properties(sample: Sample) -> Counter[str]:
    calendars = [each for each in _original(sample).attachments if each.media_type == "text/calendar"]
    return Counter(name for calendar in calendars for name in _properties(calendar.content))


def _properties(calendar: bytes) -> Iterator[str]:
    """The names of its unfolded lines; those of components with them."""
    for line in calendar.decode().replace("\r\n ", "").split("\r\n"):
        name = re.split("[:;]", line, maxsplit=1)[0]
        yield line if name in {"BEGIN", "END"} else name
