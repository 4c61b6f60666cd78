"""Previews: runs a plugin's own handler on a sample job, and takes the mail that it sends."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email import message_from_bytes, policy
from typing import Any

from pydantic import BaseModel

from skycap.context import Attachment
from skycap.errors import PermanentError, UnknownKind
from skycap.job_type import JobType
from skycap.mailing import composer_of, templates_of
from skycap.outcome import Cancelled, Completed, Discarded, Held, Outcome, Retry, Snoozed
from skycap.preview.outbox import Letter, Outbox
from skycap.preview.sample_database import SampleDatabase
from skycap.registry import Registry
from skycap.sample import Sample
from skycap.services.ledger import message_id_of
from skycap.services.message import LOGO_ID
from skycap.services.recipient import Recipient
from skycap.settings import Settings
from skycap.testing import perform

_PUBLIC_URL = "https://jobs.example.com"
"""Where guests unsubscribe, in the previews of an installation that does not send mails yet."""

_TOKEN = "preview"  # noqa: S105 - it stands where the token of a real link would


@dataclass(frozen=True, kw_only=True)
class Preview:
    """One mail as it would leave. ``locale`` is None for one that somebody else has written."""

    kind: str
    sample: str
    locale: str | None
    subject: str
    text: str
    html: str
    attachments: tuple[Attachment, ...]
    message: bytes
    page: str
    """The HTML with the logo in it, for a browser, which does not know the other parts of the mail."""


class Previews:
    """Makes previews with the templates as they are now, and as ``settings`` have mails sent.

    What is not set is made up. Raises TemplateFailed for a broken template, as the start of a daemon would.
    """

    def __init__(self, settings: Settings, registry: Registry) -> None:
        sender = settings.smtp.sender or f"{settings.brand.name} <{settings.brand.support_email}>"
        templates = templates_of(settings, registry)
        self.samples = registry.samples()
        self.templates = templates
        self.locales = templates.locales
        self._registry = registry
        self._composer = composer_of(settings, registry, templates, sender=sender)
        self._unsubscribe_url = _unsubscribe_url(settings)
        self._domain = self._composer.letterhead.address.rpartition("@")[2]

    async def every_locale(self, sample: Sample) -> list[Preview]:
        """The mails of ``sample`` in each locale; one that somebody else has written comes once."""
        found = await self.of(sample, locale=self.locales[0])
        if all(preview.locale is None for preview in found):
            return found
        for locale in self.locales[1:]:
            found += [preview for preview in await self.of(sample, locale=locale) if preview.locale is not None]
        return found

    async def of(self, sample: Sample, *, locale: str | None = None) -> list[Preview]:
        """The mails of ``sample`` in ``locale``, or else in the one that its handler chooses.

        Raises PermanentError, with what went wrong, for one whose handler does not complete or sends nothing.
        """
        job_type = self._registry.find(sample.kind)
        if job_type is None:
            raise UnknownKind(f"no plugin handles {sample.kind!r}, of which there is the sample {sample.name}")
        outbox = Outbox(self._composer, self._unsubscribe_url, locale)
        done = await perform(
            job_type,
            sample.payload,
            settings=_settings(job_type, sample),
            db=SampleDatabase(sample),
            mailer=outbox,
            now=sample.now,
        )
        if not isinstance(done.outcome, Completed):
            raise PermanentError(f"{sample.kind}, sample {sample.name}: {_problem(done.outcome)}")
        if not outbox.letters:
            raise PermanentError(f"{sample.kind}, sample {sample.name}: the handler completed, and sent no mail")
        return [await self._preview(sample, letter) for letter in outbox.letters]

    async def _preview(self, sample: Sample, letter: Letter) -> Preview:
        rendered = letter.composition.rendered
        message = await self._composer.message(
            letter.composition,
            recipient=Recipient.parse(letter.to),
            message_id=message_id_of(letter.key, kind=sample.kind, domain=self._domain),
            date=sample.now,
        )
        return Preview(
            kind=sample.kind,
            sample=sample.name,
            locale=rendered.locale,
            subject=rendered.subject,
            text=rendered.text,
            html=rendered.html,
            attachments=_attachments(message),
            message=message,
            page=_with_logo(rendered.html, self._composer.letterhead.logo),
        )


def sample_of(
    samples: Sequence[Sample], kind: str, *, name: str | None = None, fields: Mapping[str, object] | None = None
) -> Sample:
    """The sample of ``kind`` with that name, or else the one whose payload has most in common with ``fields``.

    The first one if there is nothing to choose by. Raises UnknownKind where there is none.
    """
    of_kind = [sample for sample in samples if sample.kind == kind]
    if not of_kind:
        known = sorted({sample.kind for sample in samples})
        raise UnknownKind(f"no plugin has a sample of {kind!r}; there are some of: {', '.join(known) or 'no kind'}")
    named = [sample for sample in of_kind if name in {None, sample.name}]
    if not named:
        raise UnknownKind(f"{kind} has no sample {name!r}; there are: {', '.join(sample.name for sample in of_kind)}")
    return max(named, key=lambda sample: _in_common(sample, fields or {}))


def _unsubscribe_url(settings: Settings) -> str | None:
    """As it would be sent, or an example where nothing is configured."""
    url = settings.mail.public_url or (None if settings.smtp.sender else _PUBLIC_URL)
    return None if url is None else f"{url}/unsubscribe/{_TOKEN}"


def _in_common(sample: Sample, fields: Mapping[str, object]) -> int:
    own = sample.payload.model_dump(mode="json", by_alias=True)
    return sum(own.get(field) == value for field, value in fields.items())


def _settings(job_type: JobType, sample: Sample) -> BaseModel | None:
    """The plugin's own, and the sample's for those that are not set."""
    own: BaseModel | None = job_type.settings
    if own is None or not sample.settings:
        return own
    return own.model_validate({**sample.settings, **own.model_dump(exclude_unset=True)})


def _problem(outcome: Outcome) -> str:
    match outcome:
        case Retry(error=error) | Discarded(error=error):
            return error
        case Snoozed(reason=reason) | Held(reason=reason) | Cancelled(reason=reason):
            return reason
        case _:
            return f"the handler ended with {outcome}"


def _attachments(message: bytes) -> tuple[Attachment, ...]:
    """As they are in the message, whoever put them there."""
    parts: Any = message_from_bytes(message, policy=policy.default).iter_attachments()
    return tuple(
        Attachment(
            filename=part.get_filename("attachment"),
            content=part.get_payload(decode=True),
            media_type=part.get_content_type(),
        )
        for part in parts
    )


def _with_logo(html: str, logo: Attachment | None) -> str:
    if logo is None:
        return html
    content = base64.b64encode(logo.content).decode()
    return html.replace(f"cid:{LOGO_ID}", f"data:{logo.media_type};base64,{content}")
