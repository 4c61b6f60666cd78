"""Mails: sends what the backend has written itself, as it is, with its attachments."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable
from datetime import timedelta

from skycap import Attachment, Context, Plugin, Sample
from skycap_travel.content.plain_text import plain_text
from skycap_travel.payloads.attachments import AttachedFile
from skycap_travel.payloads.mails import LARGEST_ATTACHMENTS_BYTES, LARGEST_TEXT_BYTES, SendEmail

__all__ = ["LARGEST_ATTACHMENTS_BYTES", "LARGEST_TEXT_BYTES", "AttachedFile", "SendEmail", "plugin", "send_email"]

SAME_MAIL_WITHIN = timedelta(hours=24)
"""So long, a mail without a key that says the same to the same address is the same mail."""

plugin = Plugin("mails")


@plugin.job(breakers=("email",))
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
