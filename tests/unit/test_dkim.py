"""DkimSigner, checked by dkimpy's verifier with the key as it would be published."""

from __future__ import annotations

import base64
import subprocess
import sys
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any

import pytest

from skycap.errors import ConfigurationError
from skycap.services.dkim import DkimSigner

dkim: Any = pytest.importorskip(
    "dkim", reason="dkimpy has no wheel, so ./skycap does not install it: pip install dkimpy"
)

ALERT = (
    "From: Example Travel <alerts@travel.example.com>\n"
    "To: ada@example.com\n"
    "Subject: =?utf-8?q?Fiyat_d=C3=BC=C5=9Ft=C3=BC?=\n"
    "Date: Mon, 23 Nov 2026 10:00:00 +0300\n"
    "Message-ID: <one@travel.example.com>\n"
    "Reply-To: help@travel.example.com\n"
    "Auto-Submitted: auto-generated\n"
    "List-Unsubscribe: <https://jobs.example.com/unsubscribe/token>,\n"
    " <mailto:stop@travel.example.com>\n"
    "List-Unsubscribe-Post: List-Unsubscribe=One-Click\n"
    "MIME-Version: 1.0\n"
    "Content-Type: text/plain; charset=utf-8\n"
    "Content-Transfer-Encoding: 8bit\n"
    "\n"
    ".A dot, and İstanbul  \n"
    "\n"
).encode()


def new_key(folder: Path, *, bits: int = 2048) -> Path:
    file = folder / f"{bits}.pem"
    subprocess.run(["openssl", "genrsa", "-out", file, str(bits)], check=True, capture_output=True)
    return file


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_key(tmp_path_factory.mktemp("dkim"))


@pytest.fixture
def signer(key_file: Path) -> DkimSigner:
    return DkimSigner(domain="travel.example.com", selector="jobs", key_file=key_file)


def is_valid(message: bytes, key_file: Path) -> bool:
    """Whether a receiver takes the signature, who asks for the key where the signature says that it is."""
    command = ["openssl", "rsa", "-in", str(key_file), "-pubout", "-outform", "DER"]
    public = base64.b64encode(subprocess.run(command, check=True, capture_output=True).stdout)

    def published(name: bytes, timeout: int = 5) -> bytes | None:
        return b"v=DKIM1; k=rsa; p=" + public if name == b"jobs._domainkey.travel.example.com." else None

    return bool(dkim.verify(message, dnsfunc=published))


def fields_of(signed: bytes) -> dict[str, str]:
    """The fields of the signature, without white space."""
    signature = str(BytesHeaderParser().parsebytes(signed)["DKIM-Signature"])
    pairs = (field.partition("=") for field in "".join(signature.split()).split(";"))
    return {name: value for name, _, value in pairs}


async def test_a_signed_mail_is_valid_and_otherwise_as_it_was(signer: DkimSigner, key_file: Path) -> None:
    signed = await signer.sign(ALERT)
    assert is_valid(signed, key_file)
    assert signed.endswith(b"\r\n" + ALERT.replace(b"\n", b"\r\n"))
    fields = fields_of(signed)
    assert (fields["a"], fields["c"], fields["d"]) == ("rsa-sha256", "relaxed/relaxed", "travel.example.com")
    names = fields["h"].split(":")
    assert names.count("from") == 2
    assert {"list-unsubscribe", "list-unsubscribe-post", "auto-submitted", "reply-to"} < set(names)


async def test_a_header_that_is_not_there_is_not_signed(signer: DkimSigner, key_file: Path) -> None:
    signed = await signer.sign(b"From: a@travel.example.com\r\n\r\nbody\r\n")
    assert is_valid(signed, key_file)
    assert fields_of(signed)["h"] == "from:from"
    assert "t" not in fields_of(signed), "without a Date there is no time that a second signature would repeat"


async def test_a_mail_that_is_sent_again_is_the_same_to_the_byte(signer: DkimSigner) -> None:
    first = await signer.sign(ALERT)
    assert await signer.sign(ALERT.replace(b"\n", b"\r\n")) == first
    assert fields_of(first)["t"] == "1795417200"


@pytest.mark.parametrize(
    "change",
    [
        (b"token", b"other"),
        (b"=One-Click", b"=Two-Clicks"),
        (b"help@", b"evil@"),
        (b"From: ", b"From: evil@example.com\r\nFrom: "),
        (b"From: ", b"Subject: another\r\nFrom: "),
        (b"auto-generated", b"no"),
        (b"A dot", b"A dash"),
    ],
    ids=["List-Unsubscribe", "List-Unsubscribe-Post", "Reply-To", "2nd From", "2nd Subject", "Auto-Submitted", "body"],
)
async def test_what_is_changed_on_the_way_breaks_the_signature(
    signer: DkimSigner, key_file: Path, change: tuple[bytes, bytes]
) -> None:
    signed = await signer.sign(ALERT)
    changed = signed.replace(*change, 1)
    assert changed != signed
    assert not is_valid(changed, key_file)


def refused(key_file: Path, *, domain: str = "travel.example.com") -> str:
    with pytest.raises(ConfigurationError) as refused:
        DkimSigner(domain=domain, selector="jobs", key_file=key_file)
    return str(refused.value)


def test_a_key_that_cannot_sign_is_found_at_the_start(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refused(tmp_path / "absent.pem")
    assert "cannot be read: Is a directory" in refused(tmp_path)
    damaged = tmp_path / "damaged.pem"
    damaged.write_text(new_key(tmp_path).read_text().replace("MII", "", 1))
    assert f"the DKIM key {damaged} cannot be used" in refused(damaged)
    assert "has 512 bits, and receivers want 1024" in refused(new_key(tmp_path, bits=512))
    empty = tmp_path / "empty"
    empty.touch()
    assert str(empty) in refused(empty)


def test_a_domain_is_written_in_a_labels(key_file: Path) -> None:
    assert "A-labels" in refused(key_file, domain="şirket.example.com")


def test_no_key_is_shown(signer: DkimSigner) -> None:
    assert repr(signer) == "DkimSigner(jobs._domainkey.travel.example.com)"


def test_what_to_install_is_said(key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = tmp_path / "ed25519"
    seed.write_bytes(base64.b64encode(bytes(32)))
    with monkeypatch.context() as without:
        for name in [name for name in sys.modules if name.partition(".")[0] in {"dkim", "nacl"}]:
            without.delitem(sys.modules, name)
        without.setitem(sys.modules, "nacl", None)
        assert refused(seed).endswith("pip install pynacl")
        without.setitem(sys.modules, "dkim", None)
        assert refused(key_file) == "signing mails needs dkimpy: pip install skycap[dkim]"
