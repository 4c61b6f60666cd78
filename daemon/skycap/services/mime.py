"""MIME, written: headers and parts as the bytes that leave.

The standard library's EmailMessage parses every header that it is given and folds it again when it writes it; of a
mail with two texts that is 2 ms of 2.2. What is written here is read by it in the tests, for any text.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from email.header import Header
from typing import Final
from urllib.parse import quote

from skycap.context import Attachment
from skycap.errors import PermanentError

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PARAMETER: Final = re.compile(r"[\w.+-]+=[\w.+-]+", re.ASCII)
_MEDIA_TYPE: Final = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)

_SHORT: Final = 76
"""RFC 5322 §2.1.1 asks for lines of no more than 78 characters."""


def checked(name: str, value: str) -> str:
    """``value``, if a header can hold it. Raises PermanentError for line breaks and other control characters."""
    if _CONTROL.search(value):
        raise PermanentError(f"{name} contains a line break or another control character")
    return value


def header(name: str, value: str) -> bytes:
    """One unstructured header (RFC 5322 §2.2.1): what is not ASCII becomes encoded words (RFC 2047)."""
    checked(name, value)
    # What looks like an encoded word would be read as one.
    is_plain = value.isascii() and "=?" not in value
    if not is_plain or len(name) + 2 + len(value) > _SHORT:
        value = Header(value, "us-ascii" if is_plain else "utf-8", maxlinelen=_SHORT, header_name=name).encode(
            linesep="\r\n"
        )
    return f"{name}: {value}\r\n".encode()


def unfolded(name: str, value: str) -> bytes:
    """One header whose value must stay in one line, such as a Message-ID."""
    return f"{name}: {checked(name, value)}\r\n".encode()


def text(content: str, subtype: str) -> bytes:
    """A part of text. Quoted-printable in any case: it is 7-bit, keeps lines short, and stays readable."""
    return (
        f'Content-Type: text/{subtype}; charset="utf-8"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n'.encode()
        + _quoted_printable(content)
    )


def multipart(subtype: str, boundary: str, parts: Iterable[bytes]) -> bytes:
    """A part that holds others; ``boundary`` occurs in none of them."""
    begin = f"--{boundary}\r\n".encode()
    return b"".join(
        (
            f'Content-Type: multipart/{subtype}; boundary="{boundary}"\r\n\r\n'.encode(),
            begin,
            (b"\r\n" + begin).join(parts),
            f"\r\n--{boundary}--\r\n".encode(),
        )
    )


def attached(attachment: Attachment) -> bytes:
    """A file below the mail."""
    return _file(attachment, "attachment")


def shown(attachment: Attachment, content_id: str) -> bytes:
    """A picture within the HTML, which names it ``cid:…``."""
    return f"Content-ID: <{checked('Content-ID', content_id)}>\r\n".encode() + _file(attachment, "inline")


def _file(attachment: Attachment, disposition: str) -> bytes:
    name = _filename(checked("filename", attachment.filename))
    return (
        f"Content-Type: {_content_type(attachment.media_type)}\r\nContent-Transfer-Encoding: base64\r\n"
        f"Content-Disposition: {disposition};\r\n {name}\r\n\r\n"
    ).encode() + base64.encodebytes(attachment.content).replace(b"\n", b"\r\n")


def _filename(name: str) -> str:
    if name.isascii():
        escaped = name.replace("\\", r"\\").replace('"', r"\"")
        return f'filename="{escaped}"'
    return f"filename*=utf-8''{quote(name, safe='')}"  # RFC 2231 §4


def _content_type(media_type: str) -> str:
    kind, *parameters = (part.strip() for part in checked("Content-Type", media_type).split(";"))
    if not _MEDIA_TYPE.fullmatch(kind) or not all(_PARAMETER.fullmatch(parameter) for parameter in parameters):
        raise PermanentError(f"{media_type!r} is no media type: write application/pdf, or text/plain; charset=utf-8")
    return "; ".join([kind, *parameters])


def _quoted_printable(content: str) -> bytes:
    lines = content.replace("\r\n", "\n").replace("\r", "\n")
    encoded = binascii.b2a_qp(lines.encode(), istext=True)
    # Some servers put a > before it, which breaks signatures (RFC 4155).
    if b"From " in encoded:
        encoded = re.sub(rb"^From ", b"=46rom ", encoded, flags=re.MULTILINE)
    return encoded.replace(b"\n", b"\r\n")


def joined(headers: Mapping[str, str]) -> bytes:
    """Several unstructured headers."""
    return b"".join(header(name, value) for name, value in headers.items())
