"""Web pages of others: a browser on this machine, or behind a proxy, must not be made to ask in their name."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from aiohttp import web

from skycap.http.errors import FOREIGN, ApiError
from skycap.settings.addresses import is_loopback

_FAR = frozenset({"cross-site", "same-site"})
_SAFE_METHODS = frozenset({"GET", "HEAD"})


class WebPages:
    """Refuses what a page of somebody else has sent: forged requests, and names that were rebound to this machine.

    With a token the host may have any name: no page knows one. But a proxy may add it to whatever a browser sends, so
    that no other page's request may change anything.
    """

    def __init__(self, host: str, further_hosts: Iterable[str] = ()) -> None:
        """``host`` is the name that the server listens on; empty for a unix socket, which no browser reaches.

        ``further_hosts`` are names by which browsers reach it through a proxy. What a proxy says of itself in
        X-Forwarded-Host is not looked at: anybody can say so.
        """
        self._is_reachable = bool(host)
        self._own = frozenset(name.lower() for name in (host, *further_hosts))

    def refuse_foreign(self, request: web.Request) -> None:
        """Raises ApiError."""
        if self._is_reachable and self._is_foreign(request):
            raise ApiError(
                FOREIGN,
                "this daemon answers to the names of its own machine only, and to no web page of another; send a "
                "token, or add the name by which a proxy serves it to http.hosts",
            )

    def refuse_forged(self, request: web.Request) -> None:
        """Raises ApiError for one that would change something, and that a page of somebody else has sent."""
        if request.method in _SAFE_METHODS:
            return
        read = request.headers.get
        site, origin = read("Sec-Fetch-Site"), read("Origin")
        has_other_origin = origin is not None and not self._is_same(origin.partition("://")[2], read("Host", ""))
        if site in _FAR or (site is None and has_other_origin):
            raise ApiError(
                FOREIGN,
                "a web page of somebody else has sent this; if it is your own, add the name by which a proxy serves "
                "it to http.hosts",
            )

    def _is_foreign(self, request: web.Request) -> bool:
        read = request.headers.get
        host, origin = read("Host", ""), read("Origin")
        if not self._is_own(host):
            return True
        if read("Sec-Fetch-Site", "none") in _FAR and not _is_a_link(request):
            return True
        return origin is not None and not self._is_same(origin.partition("://")[2], host)

    def _is_own(self, host: str) -> bool:
        name = _host_name(host)
        return is_loopback(name) or name in self._own

    def _is_same(self, origin: str, host: str) -> bool:
        """A proxy may send its own name for this daemon as the host; other ports of this machine are other pages."""
        return origin == host or (_host_name(origin) in self._own and not is_loopback(_host_name(origin)))


def _is_a_link(request: web.Request) -> bool:
    """Somebody followed a link to here, as from a runbook: the page that has it does not see the answer."""
    read = request.headers.get
    return (
        request.method in _SAFE_METHODS
        and read("Sec-Fetch-Mode") == "navigate"
        and read("Sec-Fetch-Dest") == "document"
    )


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # such as an open bracket
        return ""
