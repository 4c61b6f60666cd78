"""Mails: sends what the backend has written itself, as it is, with its attachments."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
import mimetypes
import re
from collections.abc import Iterable
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from skycap import Attachment, Context, Payload, Plugin, Sample
from skycap_travel.addresses import MailAddress
from skycap_travel.content.plain_text import plain_text

LARGEST_TEXT_BYTES = 1024 * 1024
LARGEST_ATTACHMENTS_BYTES = 10 * 1024 * 1024
LONGEST_NAME_BYTES = 255

LARGEST_JOB_BYTES = 18 * 1024 * 1024
"""As many attachments as base64, and both texts with what JSON adds to them."""

SAME_MAIL_WITHIN = timedelta(hours=24)
"""So long, a mail without a key that says the same to the same address is the same mail."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NOT_IN_A_NAME = re.compile('[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff/\\\\:"*?<>|]')
_MEDIA_TYPE = re.compile("{word}/{word}(; ?{word}={word}){{0,4}}".format(word=r"[A-Za-z0-9!#$&^_.+-]{1,100}"))

# Programs, and what holds or starts some: Gmail refuses the whole mail for these (support.google.com/mail/answer/6590),
# whatever stands before the last dot.
_PROGRAM = re.compile(
    r"\.(ad[ep]|apk|appx(bundle)?|bat|cab|chm|cmd|com|cpl|diag(cab|cfg|pkg)|dll|dmg|ex[e_]?|hta|img|ins|is[op]|jar|jnlp|"
    r"jse?|lib|lnk|mde|mjs|ms[cipt]|msix(bundle)?|nsh|pif|ps1|scr|sct|shb|sys|vb[es]?|vhd|vxd|ws[cfh]|xll)",
    re.IGNORECASE,
)

# Python's own list, not the host's: the same mail is the same on every host.
_MEDIA_TYPES = mimetypes.MimeTypes()
for _type, _extension in (
    ("application/vnd.apple.pkpass", ".pkpass"),
    ("application/vnd.openxmlformats-officedocument.presentationml.presentation", ".pptx"),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", ".xlsx"),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", ".docx"),
    ("image/webp", ".webp"),
    ("text/calendar", ".ics"),
):
    _MEDIA_TYPES.add_type(_type, _extension)


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


def _one_line(text: str) -> str:
    if _CONTROL.search(text) or not text.strip():
        raise PydanticCustomError("one_line", "is blank, or holds a line break or another control character")
    return text


def _not_too_long(text: str) -> str:
    if len(text.encode()) > LARGEST_TEXT_BYTES:
        raise PydanticCustomError("too_large", "is larger than {most} bytes", {"most": f"{LARGEST_TEXT_BYTES:,}"})
    return text


def _one_recipient(to: object) -> object:
    if not isinstance(to, str):
        raise PydanticCustomError("one_recipient", "is no text; give one address, and each recipient a job")
    return to


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
    ]
    content_type: Annotated[str, AfterValidator(_media_type)] | None = None

    @property
    def media_type(self) -> str:
        """As given, or else as the name's extension says."""
        if self.content_type:
            return self.content_type
        guessed, encoding = _MEDIA_TYPES.guess_type(f"file{PurePosixPath(self.filename).suffix}")
        # What is packed is no longer what it was, and a mail as a file may not be base64 (RFC 2046 5.2.1).
        is_known = guessed is not None and encoding is None and not guessed.startswith("message/")
        return guessed if guessed is not None and is_known else "application/octet-stream"


def _not_too_large(files: tuple[AttachedFile, ...]) -> tuple[AttachedFile, ...]:
    size = sum(len(file.content) for file in files)
    if size > LARGEST_ATTACHMENTS_BYTES:
        raise PydanticCustomError(
            "too_large",
            "are {size} bytes together, the limit is {most}; send a link to what is larger",
            {"size": f"{size:,}", "most": f"{LARGEST_ATTACHMENTS_BYTES:,}"},
        )
    return files


class SendEmail(Payload, kind="send-email", queue="email", priority=1, largest_bytes=LARGEST_JOB_BYTES):
    """A mail that the backend has written. Without ``text``, the words of the HTML are the plain text part.

    ``key`` says what the mail means: it is sent to that address once, ever. Without one, what says exactly the same
    within 24 hours is the same mail. ``on_unknown`` is for a crash that hides whether it has left.
    """

    to: Annotated[MailAddress, BeforeValidator(_one_recipient)]
    subject: Annotated[str, Field(max_length=998, repr=False), AfterValidator(_one_line)]
    html: Annotated[str, Field(min_length=1, repr=False), AfterValidator(_not_too_long)]
    text: Annotated[Annotated[str, AfterValidator(_not_too_long)] | None, Field(repr=False)] = None
    attachments: Annotated[tuple[AttachedFile, ...], Field(max_length=20), AfterValidator(_not_too_large)] = ()
    key: Annotated[Annotated[str, Field(max_length=200), AfterValidator(_one_line)] | None, Field(repr=False)] = None
    on_unknown: Literal["resend", "hold"] = "resend"


plugin = Plugin("mails")


@plugin.job()
async def send_email(ctx: Context, payload: SendEmail) -> dict[str, str]:
    # In a thread: megabytes take longer than the other jobs should wait.
    text, digest = await asyncio.to_thread(lambda: (_text_of(payload), _digest_of(payload)))
    message_id = await ctx.mailer.send_written(
        payload.to,
        subject=payload.subject,
        html=payload.html,
        text=text,
        # The address is part of it: a key that names a campaign must not keep all but the first from their mail.
        key=f"email:{payload.key}:{payload.to}" if payload.key else f"email-content:{digest}",
        repeat_after=None if payload.key else SAME_MAIL_WITHIN,
        on_unknown=payload.on_unknown,
        attachments=[
            Attachment(filename=file.filename, content=file.content, media_type=file.media_type)
            for file in payload.attachments
        ],
    )
    return {"messageId": message_id}


@plugin.samples
def samples() -> Iterable[Sample]:
    from skycap_travel import samples

    return samples.mails()


def _text_of(payload: SendEmail) -> str:
    if payload.text and not payload.text.isspace():
        return payload.text
    return plain_text(payload.html) or payload.subject


def _digest_of(payload: SendEmail) -> str:
    """Of all that the recipient sees, and of who that is."""
    files = [[file.filename, file.media_type, hashlib.sha256(file.content).hexdigest()] for file in payload.attachments]
    said = json.dumps([payload.to.lower(), payload.subject, payload.html, payload.text, files])
    return hashlib.sha256(said.encode()).hexdigest()
