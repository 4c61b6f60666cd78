"""PartnerClient: how handlers call partners over HTTP; pooled, each partner behind its breaker, and to no other place.

Which address a connection goes to is looked at when it is made, by what the name stands for at that moment: a look
before would be answered by one address, and the connection by another (DNS rebinding).
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import aiohttp
from yarl import URL

from skycap import tracing
from skycap.breaker import Breakers
from skycap.errors import PartnerRefused, PermanentError, RateLimited, Unavailable
from skycap.http_client import HttpReply
from skycap.repetition import retrying

_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""RFC 9110 9.2.2: sent twice, they mean the same."""
_FOLLOWED = frozenset({"GET", "HEAD"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_TOO_MANY_REQUESTS, _ERROR, _SERVER_ERROR = 429, 400, 500

_UNSAID_PAUSE = timedelta(minutes=1)
"""For a 429 that does not say how long."""
_LONGEST_PAUSE = timedelta(hours=1)

_NAT64 = ip_network("64:ff9b::/96")
"""Addresses that a gateway turns into IPv4 (RFC 6052)."""

Network = IPv4Network | IPv6Network


class PartnerClient:
    """See skycap.http_client.HttpClient. Its session is made when it is first used, and lasts until ``close``."""

    def __init__(
        self,
        breakers: Breakers,
        *,
        allow_private: Sequence[Network] = (),
        connections: int = 100,
        connections_per_host: int = 20,
        connect_timeout: timedelta = timedelta(seconds=5),
        largest_answer_bytes: int = 10 * 1024 * 1024,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._breakers = breakers
        self._allow_private = tuple(allow_private)
        self._connections = connections
        self._connections_per_host = connections_per_host
        self._connect_timeout = connect_timeout
        self._ssl_context = ssl_context
        self._largest_answer_bytes = largest_answer_bytes
        self._session: aiohttp.ClientSession | None = None
        self._is_closed = False

    async def request(
        self,
        method: str,
        url: str,
        *,
        breaker: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        timeout: timedelta | None = None,
        idempotency_key: str | None = None,
    ) -> HttpReply:
        sent = dict(headers or {})
        if idempotency_key is not None:
            sent["Idempotency-Key"] = idempotency_key
        call = _Call(method=method.upper(), url=_url_of(url, params, breaker), partner=breaker, headers=sent, json=json)

        async def attempt() -> HttpReply:
            try:
                with tracing.span(call.method, kind="client", attributes=call.attributes) as span:
                    async with self._breakers[breaker].guard(timeout=timeout):
                        reply = await self._answered(call)
                    span.set("http.response.status_code", reply.status)
            except _NotCalled as error:
                raise PermanentError(f"{breaker}: {error}") from None
            return reply

        if call.method in _REPEATABLE or idempotency_key is not None:
            return await retrying(Unavailable)(attempt)()
        return await attempt()

    async def close(self) -> None:
        self._is_closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _answered(self, call: _Call) -> HttpReply:
        for _ in range(_MOST_REDIRECTS + 1):
            try:
                reply, next_call = await self._exchanged(call)
            except aiohttp.ClientConnectorError as error:
                if isinstance(error.os_error, _PrivateAddress):
                    raise _NotCalled(str(error.os_error)) from None
                raise _unavailable(call, error) from None
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                # Not `from` it: aiohttp's errors name the address, which may have a key in it.
                raise _unavailable(call, error) from None
            if next_call is None:
                return reply
            call = next_call
        raise PermanentError(f"{call.partner}: more than {_MOST_REDIRECTS} redirects")

    async def _exchanged(self, call: _Call) -> tuple[HttpReply, _Call | None]:
        """The reply, or where it leads."""
        _check_literal(call.url, self._allow_private)
        body: dict[str, Any] = {} if call.json is None else {"json": call.json}
        async with self._opened().request(
            call.method, call.url, headers=call.headers, allow_redirects=False, **body
        ) as response:
            if response.status in _REDIRECTS and call.method in _FOLLOWED:
                return HttpReply(status=response.status), call.redirected(response.headers.get("Location", ""))
            _raise_for(response, call.partner)
            return (
                HttpReply(
                    status=response.status,
                    headers={name.lower(): value for name, value in response.headers.items()},
                    content=await self._content(response, call.partner),
                ),
                None,
            )

    async def _content(self, response: aiohttp.ClientResponse, partner: str) -> bytes:
        content = bytearray()
        async for part in response.content.iter_any():
            content += part
            if len(content) > self._largest_answer_bytes:
                response.close()
                raise PermanentError(
                    f"{partner}: its answer is longer than the {self._largest_answer_bytes:,} bytes that "
                    "http_client.largest_answer_bytes allows"
                )
        return bytes(content)

    def _opened(self) -> aiohttp.ClientSession:
        if self._is_closed:
            raise Unavailable("http", "the client is closed, since the daemon is stopping")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._connections,
                    limit_per_host=self._connections_per_host,
                    socket_factory=self._socket,
                    ssl=True if self._ssl_context is None else self._ssl_context,
                ),
                # The whole call is the breaker's to end; a proxy would make the connections that are checked here.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout.total_seconds()),
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                raise_for_status=False,
            )
        return self._session

    def _socket(self, address: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, where = address
        _check_address(ip_address(str(where[0]).partition("%")[0]), self._allow_private)
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)  # noqa: FBT003 - it has no name
        return made


class _PrivateAddress(OSError):
    """As the connector wants it."""


class _NotCalled(BaseException):
    """The partner was not asked: says nothing of it to its breaker. Never leaves this module."""


@dataclass(frozen=True, kw_only=True)
class _Call:
    method: str
    url: URL
    partner: str
    headers: Mapping[str, str]
    json: object

    @property
    def attributes(self) -> dict[str, str]:
        """What a span says of it; of its address only the host, for a path may have a key in it."""
        return {
            "http.request.method": self.method,
            "server.address": self.url.host or "",
            "skycap.breaker": self.partner,
        }

    def redirected(self, location: str) -> _Call:
        try:
            url = self.url.join(URL(location))
        except ValueError:
            url = URL()
        if url.scheme not in {"http", "https"} or not url.host or url.user is not None:
            raise PermanentError(f"{self.partner}: redirects to what is no address of the web")
        if self.url.scheme == "https" and url.scheme == "http":
            raise PermanentError(f"{self.partner}: redirects from https to http")
        # What was meant for one host, such as a key, is nothing for another.
        return replace(self, url=url, headers=self.headers if url.origin() == self.url.origin() else {})


def _url_of(text: str, params: Mapping[str, str] | None, partner: str) -> URL:
    try:
        url = URL(text)
    except (ValueError, TypeError):
        url = URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise PermanentError(f"{partner}: what is to be called is no http:// or https:// address")
    return url.update_query(params) if params else url


def _check_literal(url: URL, allowed: Sequence[Network]) -> None:
    try:
        address = ip_address((url.host or "").partition("%")[0])
    except ValueError:
        return  # a name, which is looked at when it is connected to
    try:
        _check_address(address, allowed)
    except _PrivateAddress as error:
        raise _NotCalled(str(error)) from None


def _check_address(address: IPv4Address | IPv6Address, allowed: Sequence[Network]) -> None:
    meant = _meant_by(address)
    if any(each in network for each in (address, meant) for network in allowed if network.version == each.version):
        return
    if not (address.is_global and meant.is_global) or address.is_multicast or meant.is_multicast:
        raise _PrivateAddress("its address is none of the public internet; http_client.allow_private could allow it")


def _meant_by(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that lies in an IPv6 one, if any does."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1] or address


def _raise_for(response: aiohttp.ClientResponse, partner: str) -> None:
    if response.status < _ERROR:
        return
    if response.status == _TOO_MANY_REQUESTS:
        pause = min(_asked_pause(response.headers.get("Retry-After", "")), _LONGEST_PAUSE)
        raise RateLimited(pause, reason=f"{partner} asks for a pause (429)")
    if response.status >= _SERVER_ERROR:
        raise Unavailable(partner, f"answered {response.status}")
    raise PartnerRefused(partner, response.status)


def _asked_pause(text: str) -> timedelta:
    """Of a Retry-After (RFC 9110 10.2.3): seconds, or a date."""
    if text.isascii() and text.isdigit():
        return timedelta(seconds=min(int(text), 10**6))
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return _UNSAID_PAUSE
    return max(moment.astimezone(UTC) - datetime.now(UTC), timedelta(0))


def _unavailable(call: _Call, error: Exception) -> Unavailable:
    return Unavailable(call.partner, f"no answer ({type(error).__name__})")
