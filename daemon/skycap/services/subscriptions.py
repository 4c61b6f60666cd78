"""Subscriptions: the links in mails by which guests have no more of them, and what follows when one is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from skycap.context import Database, Log
from skycap.services import unsubscribe_links
from skycap.services.secrets import MailSecret
from skycap.services.unsubscribe_links import Link
from skycap.unsubscribing import Unsubscriber

_log: Log = structlog.get_logger(__name__)


class Subscriptions:
    """The links of all plugins. Without ``public_url`` there are none, since nobody could follow them."""

    def __init__(
        self,
        database: Database,
        *,
        secret: MailSecret,
        public_url: str | None,
        unsubscribers: Mapping[str, Unsubscriber],
    ) -> None:
        self._database = database
        self._secret = secret
        self._public_url = public_url
        self._unsubscribers = unsubscribers

    async def link(self, plugin: str, who: Mapping[str, str], *, locale: str | None) -> str | None:
        """See skycap.services.mailer.Unsubscribing. Raises TypeError for a plugin that could not answer it."""
        if plugin not in self._unsubscribers:
            raise TypeError(f"plugin {plugin} sends mails with unsubscribe=…, and has no @plugin.unsubscribe()")
        if self._public_url is None:
            return None
        token = unsubscribe_links.token_of(await self._secret.value(), plugin, who)
        await unsubscribe_links.remember(self._database, token, plugin, who, locale)
        return f"{self._public_url}/unsubscribe/{token}"

    async def find(self, token: str) -> Link | None:
        """What a link stops; None for one that is not ours, which no query tells, and for one that was erased."""
        if not unsubscribe_links.is_ours(await self._secret.value(), token):
            return None
        return await unsubscribe_links.find(self._database, token)

    async def stop(self, link: Link) -> None:
        """Do what the guest wishes. Does nothing for a plugin that is not installed any more: it sends nothing either.

        Raises Unavailable, and whatever the plugin raises.
        """
        unsubscriber = self._unsubscribers.get(link.plugin)
        if unsubscriber is None:
            _log.warning("unsubscribed from a plugin that is not loaded", plugin=link.plugin)
            return
        log: Log = structlog.get_logger(f"skycap.plugin.{link.plugin}")
        await unsubscriber.stop(_Context(settings=unsubscriber.settings, db=self._database, log=log), link.who)
        _log.info("guest unsubscribed", plugin=link.plugin)


@dataclass(frozen=True, kw_only=True)
class _Context:
    """See skycap.context.UnsubscribeContext."""

    settings: Any
    db: Database
    log: Log

    def now(self) -> datetime:
        return datetime.now(UTC)
