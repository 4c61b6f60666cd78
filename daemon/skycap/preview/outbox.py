"""Outbox: composes what a handler asks to send, and keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from skycap.context import MAIL_MAX_AGE, Attachment, OnUnknown
from skycap.services.composer import Composer, Composition


@dataclass(frozen=True, kw_only=True)
class Letter:
    """One mail, to be made a message. ``key`` is what it means."""

    to: str
    key: str
    composition: Composition


class Outbox:
    """See skycap.context.Mailer. ``locale`` is taken instead of a handler's, unless it is None."""

    def __init__(self, composer: Composer, unsubscribe_url: str | None, locale: str | None) -> None:
        self._composer = composer
        self._unsubscribe_url = unsubscribe_url
        self._locale = locale
        self.letters: list[Letter] = []

    async def send(
        self,
        to: str,
        template: str,
        /,
        *,
        key: str | None = None,
        locale: str | None = None,
        on_unknown: OnUnknown = "resend",
        max_age: timedelta = MAIL_MAX_AGE,
        unsubscribe: Mapping[str, str] | None = None,
        attachments: Sequence[Attachment] = (),
        **variables: object,
    ) -> str:
        del on_unknown, max_age
        locale = self._locale or locale
        if unsubscribe is None:
            composition = self._composer.rendered(template, locale=locale, variables=variables, attachments=attachments)
        else:
            composition = self._composer.subscribed(
                template,
                locale=locale,
                variables=variables,
                unsubscribe_url=self._unsubscribe_url,
                attachments=attachments,
            )
        return self._kept(to, key or template, composition)

    async def send_written(
        self,
        to: str,
        /,
        *,
        subject: str,
        html: str,
        text: str,
        key: str | None = None,
        repeat_after: timedelta | None = None,
        on_unknown: OnUnknown = "resend",
        max_age: timedelta = MAIL_MAX_AGE,
        attachments: Sequence[Attachment] = (),
    ) -> str:
        del repeat_after, on_unknown, max_age
        composition = self._composer.written(subject=subject, html=html, text=text, attachments=attachments)
        return self._kept(to, key or subject, composition)

    def _kept(self, to: str, key: str, composition: Composition) -> str:
        self.letters.append(Letter(to=to, key=key, composition=composition))
        return f"<preview-{len(self.letters)}@example.com>"
