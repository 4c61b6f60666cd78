"""The ways by which a notice reaches people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from skycap.alerts.notice import Notice

if TYPE_CHECKING:
    from skycap.services.admin_mail import AdminMail
    from skycap.services.webhook import Webhook
    from skycap.settings.alerts import AlertSettings

TEMPLATE = "operations/alert"


class Way(Protocol):
    """One way. Its name is one word: Redis keeps it with the notice."""

    @property
    def name(self) -> str: ...

    async def deliver(self, notice: Notice, *, claim: int) -> None:
        """Raises a SkycapError when it did not arrive; it is tried again. ``claim`` is greater whenever it is."""
        ...


class MailWay:
    """One admin's mail. ``place`` tells the ways of several admins apart without their addresses."""

    def __init__(self, mail: AdminMail, address: str, *, place: int) -> None:
        self.name = f"mail-{place}"
        self._mail = mail
        self._address = address

    async def deliver(self, notice: Notice, *, claim: int) -> None:
        await self._mail.send(
            self._address, TEMPLATE, key=notice.key, claim=claim, subject=notice.title, about=_about(notice)
        )


class WebhookWay:
    """The webhook."""

    name = "webhook"

    def __init__(self, webhook: Webhook) -> None:
        self._webhook = webhook

    async def deliver(self, notice: Notice, *, claim: int) -> None:
        del claim  # whoever receives it knows it by its key
        await self._webhook.post(notice.document(), delivery=notice.key)


def ways_of(settings: AlertSettings, mail: AdminMail | None) -> list[Way]:
    """Every way that is configured; ``mail`` may be None where no address is.

    Each address is a way of its own, so that one that fails has no other one tried again.
    """
    ways: list[Way] = []
    if mail is not None:
        ways += (MailWay(mail, address, place=place) for place, address in enumerate(settings.mail_to, start=1))
    if settings.webhook_url is not None:
        from skycap.services.webhook import Webhook

        secret = settings.webhook_secret
        ways.append(
            WebhookWay(
                Webhook(
                    settings.webhook_url.get_secret_value(),
                    secret=None if secret is None else secret.get_secret_value(),
                )
            )
        )
    return ways


def _about(notice: Notice) -> dict[str, object]:
    return {
        "title": notice.title,
        "word": notice.word,
        "event": notice.event,
        "severity": notice.severity,
        "rule": notice.rule,
        "subject": notice.subject,
        "text": notice.text,
        "since": notice.since,
        "recovered_at": notice.recovered_at,
        "daemon": notice.daemon,
    }
