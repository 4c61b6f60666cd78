"""``skycap alerts``: what is looked at, what is wrong, and whether notices arrive."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import click

from skycap.cli.cells import state_cell
from skycap.cli.database import connected_database
from skycap.cli.installation import connected_link, settings_of
from skycap.cli.options import config_option
from skycap.cli.output import json_option, print_json, print_table
from skycap.errors import ConfigurationError
from skycap.exits import Exit

if TYPE_CHECKING:
    from skycap.engine.alarms import Alarm, Looked
    from skycap.services.admin_mail import AdminMail
    from skycap.settings import Settings
    from skycap.settings.alerts import AlertRules, RuleSettings

_FRESH = timedelta(hours=1)
"""Older readings are of subjects that are no more."""

_PATIENCE = timedelta(seconds=60)


@click.group
def alerts() -> None:
    """List alarms and what they look at; send a test notice."""


@alerts.command("list")
@config_option
@json_option
def list_alerts(config: Path | None, as_json: bool) -> None:
    """List every rule with its alarms and last figures."""
    settings = settings_of(config)
    entries = list(_entries(settings.alerts.rules, *asyncio.run(_look(settings))))
    if as_json:
        print_json({"enabled": settings.alerts.is_on, "alerts": [entry.document() for entry in entries]})
        return
    if not settings.alerts.is_on:
        click.echo("nobody is told: set alerts.mail_to or alerts.webhook_url", err=True)
    columns = ("rule", "subject", "state", "severity", "since", "told", "last figures")
    print_table(columns, [entry.row() for entry in entries])


@alerts.command("test")
@config_option
@json_option
@click.pass_context
def test_alerts(context: click.Context, config: Path | None, as_json: bool) -> None:
    """Send a test notice by every configured way, and say what happened; exit code 69 if one did not arrive."""
    settings = settings_of(config)
    if not settings.alerts.is_on:
        raise ConfigurationError("alerts: nobody is told; set alerts.mail_to or alerts.webhook_url")
    problems = asyncio.run(_send(settings))
    if as_json:
        print_json(
            [{"way": way, "delivered": problem is None, "problem": problem} for way, problem in problems.items()]
        )
    else:
        print_table(("way", "result"), [(way, problem or "delivered") for way, problem in problems.items()])
    if any(problems.values()):
        context.exit(Exit.UNAVAILABLE)


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A rule and one of its subjects; the subject is blank, and the rest unknown, before anybody has looked."""

    rule: str
    subject: str
    settings: RuleSettings
    alarm: Alarm | None = None
    looked: Looked | None = None

    @property
    def state(self) -> str:
        if not self.settings.enabled:
            return "off"
        if self.alarm is not None:
            return self.alarm.state
        return "unknown" if self.looked is None else "ok"

    def document(self) -> dict[str, Any]:
        alarm, looked = self.alarm, self.looked
        reading = self._reading
        return {
            "rule": self.rule,
            "subject": self.subject,
            "state": self.state,
            "severity": self.settings.severity,
            "since": alarm and alarm.since,
            "firedAt": alarm and alarm.fired_at,
            "recoveredAt": alarm and alarm.recovered_at,
            "toldAt": alarm and alarm.told_at,
            "value": reading.get("value"),
            "summary": reading.get("text"),
            "lookedAt": looked and looked.at,
            "settings": self.settings.model_dump(mode="json"),
        }

    def row(self) -> tuple[object, ...]:
        alarm = self.alarm
        since, told = (alarm.since, alarm.told_at) if alarm else (None, None)
        text = self._reading.get("text")
        return (self.rule, self.subject or None, state_cell(self.state), self.settings.severity, since, told, text)

    @property
    def _reading(self) -> dict[str, Any]:
        if self.looked is not None:
            return dict(self.looked.reading)
        return {} if self.alarm is None else dict(self.alarm.reading)


def _entries(rules: AlertRules, alarms: list[Alarm], looked: list[Looked]) -> Iterator[_Entry]:
    newest = max((each.at for each in looked), default=None)
    fresh = {each.alarm: each for each in looked if newest is not None and newest - each.at < _FRESH}
    by_name = {alarm.name: alarm for alarm in alarms}
    for rule in type(rules).model_fields:
        settings: RuleSettings = getattr(rules, rule)
        names = [name for name in sorted(fresh.keys() | by_name.keys()) if name.partition(" ")[0] == rule]
        for name in names or [rule]:
            yield _Entry(
                rule=rule,
                subject=name.partition(" ")[2],
                settings=settings,
                alarm=by_name.get(name),
                looked=fresh.get(name),
            )


async def _look(settings: Settings) -> tuple[list[Alarm], list[Looked]]:
    from skycap.engine.alarms import alarms_now

    async with connected_link(settings) as link:
        return await alarms_now(link)


async def _send(settings: Settings) -> dict[str, str | None]:
    from skycap.alerts.notice import sample_notice
    from skycap.alerts.telling import Teller
    from skycap.alerts.ways import ways_of

    notice = sample_notice(daemon=f"{socket.gethostname()}:{uuid4().hex[:6]}")
    async with _admin_mail(settings) as mail:
        return await Teller(ways_of(settings.alerts, mail), patience=_PATIENCE).tell(notice, claim=1)


@asynccontextmanager
async def _admin_mail(settings: Settings) -> AsyncGenerator[AdminMail | None]:

    if not settings.alerts.mail_to:
        yield None
        return
    from skycap.installation import load_plugins
    from skycap.mailing import composer_of, mail_service_of, smtp_of, subscriptions_of, templates_of
    from skycap.services.admin_mail import AdminMail

    smtp = smtp_of(settings)
    if smtp is None:
        settings.require_smtp()
        return
    registry = load_plugins(settings)
    async with AsyncExitStack() as closing:
        closing.push_async_callback(smtp.close)
        database = await closing.enter_async_context(connected_database(settings))
        link = await closing.enter_async_context(connected_link(settings))
        service = mail_service_of(
            settings,
            composer=composer_of(
                settings, registry, templates_of(settings, registry), sender=settings.require_sender()
            ),
            database=database,
            smtp=smtp,
            subscriptions=subscriptions_of(settings, registry, database),
            link=link,
        )
        yield AdminMail(service, smtp)
