"""The wire format: what is written can be read, and what cannot be read says why."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skycap.client import BaseClient
from skycap.envelope import Envelope
from skycap.errors import PayloadTooLarge, Undecodable
from skycap.payload import LARGEST_BYTES, Payload

WHEN = datetime(2026, 11, 23, 6, 0, 0, 123000, tzinfo=UTC)
ENVELOPE = Envelope(
    id="0192", kind="say-hello", payload={"name": "Ayşe"}, queue="default", priority=1, enqueued_at=WHEN
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def test_the_wire_format_is_as_documented() -> None:
    assert ENVELOPE.to_json().decode() == (
        '{"v":1,"id":"0192","kind":"say-hello","version":1,"queue":"default","priority":1,'
        '"enqueuedAt":"2026-11-23T06:00:00.123Z","payload":{"name":"Ayşe"}}'
    )


@given(payload=st.dictionaries(st.text(), JSON, max_size=4), labels=st.dictionaries(st.text(), st.text(), max_size=3))
def test_what_is_written_is_read_back(payload: dict[str, object], labels: dict[str, str]) -> None:
    envelope = Envelope(
        id="1", kind="k", payload=payload, queue="q", priority=7, enqueued_at=WHEN, version=3, labels=labels
    )
    assert Envelope.from_json(envelope.to_json()) == envelope


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not JSON"),
        (b"\x80\x04pickle", "not JSON"),
        (b"[1]", "a list is no envelope"),
        (b"[" * 100_000, "not JSON"),
        (b"{}", "envelope version is None"),
        (b'{"v": 2, "id": "1", "kind": "k", "payload": {}}', "envelope version is 2"),
        (b'{"v": 1, "kind": "k", "payload": {}}', "id is missing"),
        (b'{"v": 1, "id": "1", "kind": 7, "payload": {}}', "kind is 7, expected str"),
        (b'{"v": 1, "id": "1", "kind": "k", "payload": []}', r"payload is \[\], expected an object"),
        (b'{"v": 1, "id": "1", "kind": "k", "payload": {}, "enqueuedAt": "today"}', "envelope: "),
        (b'{"v": 1, "id": "1", "kind": "k", "payload": {}, "enqueuedAt": "2026-01-01T00:00:00"}', "no time zone"),
    ],
)
def test_what_is_no_envelope_is_undecodable_and_says_why(data: bytes, problem: str) -> None:
    with pytest.raises(Undecodable, match=problem):
        Envelope.from_json(data)


def test_an_envelope_over_the_limit_is_refused_with_both_sizes() -> None:
    large = Envelope(id="1", kind="k", payload={"text": "x" * LARGEST_BYTES}, queue="q", priority=1, enqueued_at=WHEN)
    with pytest.raises(
        PayloadTooLarge, match=r"k: the job is 262,\d\d\d bytes, the limit is 262,144; store large data"
    ):
        large.to_json()


class Album(Payload, kind="send-album", largest_bytes=2 * LARGEST_BYTES):
    pictures: str


def test_a_kind_may_allow_more_than_others_and_what_was_accepted_can_be_written_again() -> None:
    client = BaseClient()
    data = client.envelope(Album(pictures="x" * LARGEST_BYTES)).to_json()
    assert Envelope.from_json(data).to_json() == data
    with pytest.raises(PayloadTooLarge, match=f"the limit is {2 * LARGEST_BYTES:,}"):
        client.envelope(Album(pictures="x" * 2 * LARGEST_BYTES)).to_json()
