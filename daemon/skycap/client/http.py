"""HttpTransport: through a daemon's HTTP API, where only HTTP goes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import aiohttp
from pydantic_core import from_json, to_json

from skycap.client.base import Order
from skycap.client.documents import job_of
from skycap.errors import (
    ConfigurationError,
    InvalidPayload,
    KeyReused,
    NewerPayload,
    PayloadTooLarge,
    QueueFull,
    Refused,
    SkycapError,
    Unavailable,
    UnknownKind,
)
from skycap.job import Enqueued, Job, JobState

_LIMIT = aiohttp.ClientTimeout(total=15, sock_connect=5)
_FINAL_EVENTS = frozenset(state.value for state in JobState if state.is_final)
_TRY_AGAIN = frozenset({408, 425, 429, 502, 503, 504})
_TOO_LARGE = 413
_NOT_FOUND = 404

_BY_CODE: Mapping[str, type[Refused]] = {
    "VALIDATION_002": UnknownKind,
    "VALIDATION_003": NewerPayload,
    "CONFLICT_001": KeyReused,
    "EXTERNAL_SERVICE_002": QueueFull,
}


class HttpTransport:
    """See Transport."""

    def __init__(self, url: str, *, token: str | None = None) -> None:
        base = url.rstrip("/")
        if "@" in base.partition("://")[2].partition("/")[0]:
            raise ConfigurationError("the client's address names a user; give the token as token=…, not in the address")
        self._base = base
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._session: aiohttp.ClientSession | None = None

    async def add(self, orders: Sequence[Order]) -> list[Enqueued]:
        documents = [order.request.document() for order in orders]
        if len(documents) == 1:
            return [_enqueued(await self._ask("POST", "/api/jobs", documents[0]))]
        answer = await self._ask("POST", "/api/jobs/batch", {"jobs": documents})
        return [_enqueued(each) for each in answer["jobs"]]

    async def get(self, job_id: str, *, queue: str | None) -> Job | None:
        del queue
        answer = await self._ask("GET", _path(job_id), missing_is_none=True)
        return None if answer is None else job_of(answer)

    async def wait(self, job_id: str, *, queue: str | None, timeout: timedelta) -> Job | None:
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                while not await self._followed_to_its_end(job_id):
                    pass  # the daemon has closed the stream, being restarted perhaps: another one may know
        except TimeoutError:
            pass
        return await self.get(job_id, queue=queue)

    async def cancel(self, job_id: str, *, queue: str | None) -> JobState | None:
        del queue
        return await self._changed(f"{_path(job_id)}/cancel")

    async def retry(self, job_id: str, *, queue: str | None) -> JobState | None:
        del queue
        return await self._changed(f"{_path(job_id)}/retry")

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _changed(self, path: str) -> JobState | None:
        answer = await self._ask("POST", path, {}, missing_is_none=True)
        return None if answer is None else JobState(answer["state"])

    async def _followed_to_its_end(self, job_id: str) -> bool:
        """Whether the job has come to its end, or is unknown."""
        headers = {"Accept": "text/event-stream"}
        try:
            async with self._opened().get(
                f"{self._base}{_path(job_id)}/events", headers=headers, timeout=aiohttp.ClientTimeout(sock_connect=5)
            ) as response:
                if response.status == _NOT_FOUND:
                    return True
                if response.status >= 400:  # noqa: PLR2004 - an error
                    raise _error(response, await response.read())
                async for line in response.content:
                    name, _, value = line.decode().strip().partition(": ")
                    if name == "event" and value in _FINAL_EVENTS:
                        return True
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(error) from error
        return False

    async def _ask(self, method: str, path: str, body: Any = None, *, missing_is_none: bool = False) -> Any:
        data = None if body is None else to_json(body)
        try:
            async with self._opened().request(method, f"{self._base}{path}", data=data) as response:
                answer = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(error) from error
        if response.status == _NOT_FOUND and missing_is_none:
            return None
        if response.status >= 400:  # noqa: PLR2004 - an error
            raise _error(response, answer)
        return _json(answer)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(headers=self._headers, timeout=_LIMIT, raise_for_status=False)
        return self._session


def _path(job_id: str) -> str:
    return f"/api/jobs/{quote(job_id, safe='')}"


def _enqueued(answer: Mapping[str, Any]) -> Enqueued:
    return Enqueued(job_id=answer["jobId"], state=JobState(answer["state"]), duplicate=answer["duplicate"])


def _unreachable(error: Exception) -> Unavailable:
    # In words of our own: aiohttp's name the host.
    return Unavailable("skycap over HTTP", f"no answer ({type(error).__name__})")


def _json(data: bytes) -> Any:
    try:
        return from_json(data)
    except ValueError as error:
        raise Unavailable("skycap over HTTP", "what answers there is no skycap: its answer is no JSON") from error


def _error(response: aiohttp.ClientResponse, body: bytes) -> SkycapError:
    """What the daemon answered, in the words of the library."""
    try:
        answer = from_json(body)
        message, code = str(answer["message"]), str(answer["code"])
    except (ValueError, KeyError, TypeError):
        message, code = f"HTTP {response.status}", ""
    status = response.status
    if code in _BY_CODE:
        error: SkycapError = _BY_CODE[code](message)
    elif code.startswith("VALIDATION_"):
        kind, _, problems = message.partition(": ")
        error = InvalidPayload(kind, problems.split("; "))
    elif status in {401, 403}:
        error = ConfigurationError(f"skycap over HTTP: {message}")
    elif status == _TOO_LARGE:
        error = PayloadTooLarge(message)
    elif status in _TRY_AGAIN or status >= 500:  # noqa: PLR2004 - the server's mistakes
        error = Unavailable("skycap over HTTP", message)
    else:
        error = Refused(message)
    return error
