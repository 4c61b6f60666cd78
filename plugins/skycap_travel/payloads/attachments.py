"""Attachments in payloads: files, each with a name that mail servers and file systems take."""

from __future__ import annotations

import base64
import binascii
import mimetypes
import re
from functools import cache
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

LONGEST_NAME_BYTES = 255

_NOT_IN_A_NAME = re.compile('[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff/\\\\:"*?<>|]')
_MEDIA_TYPE = re.compile("{word}/{word}(; ?{word}={word}){{0,4}}".format(word=r"[A-Za-z0-9!#$&^_.+-]{1,100}"))

# Programs, and what holds or starts some: Gmail refuses the whole mail for these (support.google.com/mail/answer/6590),
# whatever stands before the last dot.
_PROGRAM = re.compile(
    r"\.(ad[ep]|apk|appx(bundle)?|bat|cab|chm|cmd|com|cpl|diag(cab|cfg|pkg)|dll|dmg|ex[e_]?|hta|img|ins|is[op]|jar|jnlp|"
    r"jse?|lib|lnk|mde|mjs|ms[cipt]|msix(bundle)?|nsh|pif|ps1|scr|sct|shb|sys|vb[es]?|vhd|vxd|ws[cfh]|xll)",
    re.IGNORECASE,
)


def _bytes_of(content: object) -> object:
    """The file itself of its base64; what is bytes already was given in Python."""
    if not isinstance(content, str):
        return content
    try:
        return binascii.a2b_base64(content, strict_mode=True)
    except ValueError:  # of which binascii.Error is one; a letter beyond ASCII is another
        raise PydanticCustomError(
            "base64", "is not base64; encode the file's bytes, without line breaks and without a data: prefix"
        ) from None


def _base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _file_name(name: str) -> str:
    problem = ""
    if found := _NOT_IN_A_NAME.search(name):
        problem = (
            f"holds U+{ord(found[0]):04X}; give the name alone, without folders, line breaks and turns of direction"
        )
    elif len(name.encode()) > LONGEST_NAME_BYTES:
        problem = f"is longer than {LONGEST_NAME_BYTES} bytes"
    elif name != name.strip() or name.startswith(".") or name.endswith("."):
        problem = "begins or ends with a blank or a dot"
    elif found := _PROGRAM.fullmatch(PurePosixPath(name).suffix):
        problem = f"is that of a program ({found[0]}), for which mail servers refuse the whole mail; send a link to it"
    if problem:
        raise PydanticCustomError("file_name", "{problem}", {"problem": problem})
    return name


def _media_type(text: str) -> str:
    if not _MEDIA_TYPE.fullmatch(text) or text.lower().startswith(("multipart/", "message/")):
        raise PydanticCustomError("media_type", "is no media type of a file; write one like application/pdf")
    return text


class AttachedFile(BaseModel):
    """One attachment; ``content`` is base64 on the wire, or the file's bytes in Python."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, serialize_by_alias=True, frozen=True, hide_input_in_errors=True
    )

    filename: Annotated[str, Field(min_length=1, repr=False), AfterValidator(_file_name)]
    content: Annotated[
        bytes,
        Field(min_length=1, repr=False),
        BeforeValidator(_bytes_of),
        PlainSerializer(_base64_of, when_used="json"),
        WithJsonSchema({"type": "string", "contentEncoding": "base64", "minLength": 1}, mode="validation"),
    ]
    content_type: Annotated[str, AfterValidator(_media_type)] | None = None

    @property
    def media_type(self) -> str:
        """As given, or else as the name's extension says."""
        if self.content_type:
            return self.content_type
        guessed, encoding = _media_types().guess_type(f"file{PurePosixPath(self.filename).suffix}")
        # What is packed is no longer what it was, and a mail as a file may not be base64 (RFC 2046 5.2.1).
        is_known = guessed is not None and encoding is None and not guessed.startswith("message/")
        return guessed if guessed is not None and is_known else "application/octet-stream"


@cache
def _media_types() -> mimetypes.MimeTypes:
    """Python's own list, not the host's: the same mail is the same on every host."""
    known = mimetypes.MimeTypes()
    for media_type, extension in (
        ("application/vnd.apple.pkpass", ".pkpass"),
        ("application/vnd.openxmlformats-officedocument.presentationml.presentation", ".pptx"),
        ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", ".xlsx"),
        ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", ".docx"),
        ("image/webp", ".webp"),
        ("text/calendar", ".ics"),
    ):
        known.add_type(media_type, extension)
    return known
