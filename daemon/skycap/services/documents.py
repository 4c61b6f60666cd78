"""Documents: what a template of an attachment wrote, made into the file that its name promises."""

from __future__ import annotations

import asyncio
import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from types import MappingProxyType
from typing import Protocol

import structlog

from skycap.context import Attachment, Log
from skycap.errors import PermanentError
from skycap.services.message import Document, RenderedMail

_log: Log = structlog.get_logger(__name__)

_METHOD = re.compile(r"^METHOD:\s*([A-Z]+)\s*$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The mail that a document belongs to; ``date`` is the mail's, so that a resend has the same bytes."""

    subject: str
    locale: str
    date: datetime


class _Make(Protocol):
    def __call__(self, document: Document, origin: Origin) -> Attachment | None: ...


async def attachments_of(mail: RenderedMail, date: datetime) -> list[Attachment]:
    """The files of ``mail``, made in a thread: a PDF takes tens of milliseconds.

    One whose library is not installed is left out. Raises PermanentError for one that cannot be made.
    """
    if not mail.documents:
        return []
    origin = Origin(subject=mail.subject, locale=mail.locale or "en", date=date)
    return await asyncio.to_thread(_made, mail.documents, origin)


def _made(documents: tuple[Document, ...], origin: Origin) -> list[Attachment]:
    made = (_MAKERS.get(PurePath(document.filename).suffix, _text)(document, origin) for document in documents)
    return [attachment for attachment in made if attachment is not None]


def _calendar(document: Document, origin: Origin) -> Attachment:
    del origin
    from skycap.services.calendars import calendar

    try:
        content = calendar(document.source)
    except ValueError as error:
        raise PermanentError(f"{document.filename} is no calendar: {error}") from error
    method = _METHOD.search(content.decode().replace("\r", ""))
    return Attachment(
        filename=document.filename,
        content=content,
        # RFC 6047 §2.4: the method of the MIME part is that of the calendar.
        media_type=f"text/calendar; charset=utf-8; method={method[1] if method else 'PUBLISH'}",
    )


def _pdf(document: Document, origin: Origin) -> Attachment | None:
    from skycap.services.pdf import PdfUnavailable, pdf

    try:
        content = pdf(document.source, title=origin.subject, locale=origin.locale, created=origin.date)
    except PdfUnavailable:
        _log.debug("mail goes without its PDF: skycap[pdf] is not installed", filename=document.filename)
        return None
    return Attachment(filename=document.filename, content=content, media_type="application/pdf")


def _text(document: Document, origin: Origin) -> Attachment:
    del origin
    guessed, _ = mimetypes.guess_type(document.filename)
    media_type = guessed or "text/plain"
    if media_type.startswith("text/"):
        media_type += "; charset=utf-8"
    return Attachment(filename=document.filename, content=document.source.encode(), media_type=media_type)


_MAKERS: Mapping[str, _Make] = MappingProxyType({".ics": _calendar, ".pdf": _pdf})
