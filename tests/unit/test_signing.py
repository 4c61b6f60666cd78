"""Signatures: what was changed is noticed, whoever changed it and where; what was not is believed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skycap.client import BaseClient
from skycap.envelope import Envelope
from skycap.errors import ConfigurationError, PayloadTooLarge
from skycap.payload import Payload
from skycap.signing import BadSignature, Keyring, Signer

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "vectors" / "signatures.json").read_text())

OLD, NEW = Signer.new("old"), Signer.new("new")
SHORT = b'{"v":1,"id":"1","kind":"take-note","payload":{}}'
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


class Note(Payload, kind="take-note", queue="tests"):
    """A job of the tests."""

    text: str = ""


def keyring(*signers: Signer) -> Keyring:
    return Keyring({signer.key_id: signer for signer in signers})


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_the_vectors_that_other_languages_are_held_to(vector: dict[str, str]) -> None:
    signer = Signer.parse(vector["key"])
    signed = signer.sign(vector["envelope"].encode())
    assert signed.decode() == vector["signed"]
    assert keyring(signer).verified_by(signed) == signer.key_id
    read = json.loads(signed)
    assert read.pop("sig").startswith(f"{signer.key_id}:")
    assert read == json.loads(vector["envelope"])


def test_the_vectors_are_what_the_documentation_says() -> None:
    """Without any code of ours: HMAC-SHA256 over the envelope's bytes, base64url, the last member."""
    for vector in VECTORS:
        key_id, _, secret = vector["key"].partition(":")
        digest = hmac.new(base64.b64decode(secret), vector["envelope"].encode(), hashlib.sha256).digest()
        signature = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        assert vector["signed"] == f'{vector["envelope"][:-1]},"sig":"{key_id}:{signature}"}}'


@given(fields=st.dictionaries(st.text(), JSON, max_size=4))
def test_a_signed_job_is_read_as_the_unsigned_one_is(fields: dict[str, Any]) -> None:
    envelope = BaseClient(signer=NEW).envelope(Note(text="x"), fields=fields)
    signed = envelope.to_json()
    assert keyring(OLD, NEW).verified_by(signed) == "new"
    assert Envelope.from_json(signed) == Envelope.from_json(_unsigned(signed))
    assert Envelope.from_json(signed).payload == fields


@given(st.integers(0, len(NEW.sign(SHORT)) - 1), st.integers(0, 255))
def test_a_changed_byte_is_noticed(index: int, byte: int) -> None:
    signed = NEW.sign(SHORT)
    changed = signed[:index] + bytes([byte]) + signed[index + 1 :]
    if changed != signed:
        assert not _is_believed(changed)


def test_every_bit_that_is_turned_is_noticed() -> None:
    signed = NEW.sign(SHORT)
    for index in range(len(signed)):
        for bit in range(8):
            changed = bytearray(signed)
            changed[index] ^= 1 << bit
            assert not _is_believed(bytes(changed)), (index, bit)


TRICKS: dict[str, Callable[[bytes], bytes]] = {
    "a space behind it": lambda signed: signed + b" ",
    "a line break behind it": lambda signed: signed + b"\n",
    "a space before it": lambda signed: b" " + signed,
    "a member behind the signature": lambda signed: signed[:-1] + b',"kind":"send-email"}',
    "a member before it": lambda signed: signed.replace(b'{"v"', b'{"kind":"send-email","v"'),
    "twice": lambda signed: signed + signed,
    "on another job": lambda signed: SHORT.replace(b'"1"', b'"2"')[:-1] + signed[len(SHORT) - 1 :],
    "a member of another name": lambda signed: signed.replace(b',"sig"', b',"Sig"'),
    "written with a space": lambda signed: signed.replace(b',"sig"', b', "sig"'),
    "an unknown key": lambda signed: signed.replace(b'"sig":"new:', b'"sig":"none:'),
    "another key's id": lambda signed: signed.replace(b'"sig":"new:', b'"sig":"old:'),
    "padded": lambda signed: signed[:-2] + b'="}',
    "one letter short": lambda signed: signed[:-3] + b'"}',
    "no signature": lambda signed: SHORT[:-1] + b',"sig":"new:"}',
    "null": lambda signed: SHORT[:-1] + b',"sig":null}',
}


@pytest.mark.parametrize("trick", TRICKS)
def test_no_trick_with_the_end_of_an_envelope_makes_it_believed(trick: str) -> None:
    changed = TRICKS[trick](NEW.sign(SHORT))
    assert changed != NEW.sign(SHORT)
    assert not _is_believed(changed)


def test_a_signature_inside_the_payload_is_none() -> None:
    inner = NEW.sign(SHORT).decode()
    for payload in ({"text": inner}, json.loads(inner), {"sig": json.loads(inner)["sig"]}):
        envelope = json.dumps({"v": 1, "id": "1", "kind": "take-note", "payload": payload}, separators=(",", ":"))
        assert keyring(NEW).verified_by(envelope.encode()) is None
        assert keyring(NEW).verified_by(NEW.sign(envelope.encode())) == "new"


def test_another_secret_of_the_same_id_is_not_believed() -> None:
    with pytest.raises(BadSignature, match="'new' does not fit: it was changed after it was signed, or with another"):
        keyring(Signer.new("new")).verified_by(NEW.sign(SHORT))


def test_keys_are_rotated_without_a_job_that_is_not_believed() -> None:
    by_old, by_new = OLD.sign(SHORT), NEW.sign(SHORT)
    for known in (keyring(OLD, NEW), keyring(NEW, OLD)):
        assert (known.verified_by(by_old), known.verified_by(by_new)) == ("old", "new")
    with pytest.raises(BadSignature, match=r"the key 'old', which is not known here; .* add it to signing\.keys"):
        keyring(NEW).verified_by(by_old)


def test_what_is_not_signed_is_signed_by_nobody() -> None:
    for envelope in (SHORT, b"", b"}", b"[]", b"\xff\xfe"):
        assert keyring(NEW).verified_by(envelope) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a:",
        ":QUFB",
        f"a:{'QUFB' * 10}"[:30],
        "a b:" + "QUFB" * 16,
        "a:" + "*" * 64,
        "a:ş" + "QUFB" * 16,
        "x" * 65,
    ],
)
def test_what_is_no_key_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ConfigurationError, match="a signing key is KEY-ID:SECRET") as raised:
        Signer.parse(text)
    assert len(text) < 4 or text not in str(raised.value)


def test_a_key_may_be_written_in_either_alphabet_of_base64() -> None:
    secret = bytes([0xFB, 0xEF, 0xFF] * 11)
    for written in (base64.b64encode(secret), base64.urlsafe_b64encode(secret), base64.b64encode(secret).rstrip(b"=")):
        assert Signer.parse(f" a:{written.decode()}\n").secret == secret


def test_a_secret_is_in_no_repr() -> None:
    assert NEW.secret.hex() not in repr(NEW)
    assert repr(NEW) == "Signer(key_id='new')"
    assert "secret" not in repr(BaseClient(signer=NEW).envelope(Note()))


def test_a_signature_counts_towards_the_size_of_a_job() -> None:
    envelope = BaseClient().envelope(Note(text="x"))
    envelope.largest_bytes = len(envelope.to_json())
    envelope.signer = NEW
    with pytest.raises(PayloadTooLarge):
        envelope.to_json()


def _unsigned(signed: bytes) -> bytes:
    return signed[: signed.rindex(b',"sig":"')] + b"}"


def _is_believed(envelope: bytes) -> bool:
    try:
        return keyring(OLD, NEW).verified_by(envelope) is not None
    except BadSignature:
        return False
