"""Payloads of the mails plugin."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from skycap import Payload
from skycap_travel.addresses import MailAddress
from skycap_travel.payloads.attachments import AttachedFile

LARGEST_TEXT_BYTES = 1024 * 1024
LARGEST_ATTACHMENTS_BYTES = 10 * 1024 * 1024

LARGEST_JOB_BYTES = 18 * 1024 * 1024
"""As many attachments as base64, and both texts with what JSON adds to them."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


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
