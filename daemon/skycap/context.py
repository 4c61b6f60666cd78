"""Context: what a handler may reach while it runs, and the protocols of the services in it.

The daemon brings the real services, ``skycap.testing`` brings ones that need no server. A service connects
when it is first used: a handler that does not touch the database never waits for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Protocol

from typing_extensions import TypeVar

from skycap.payload import Payload
from skycap.unique import Unique

if TYPE_CHECKING:
    from skycap.job import Enqueued

S = TypeVar("S", default=None)
T = TypeVar("T")
S_co = TypeVar("S_co", default=None, covariant=True)

OnUnknown = Literal["resend", "hold"]
"""What to do with a mail whose last delivery may or may not have been accepted (see Mailer.send)."""


class Log(Protocol):
    """structlog's words; job, kind, attempt and plugin are bound already."""

    def debug(self, event: str, **fields: object) -> Any: ...
    def info(self, event: str, **fields: object) -> Any: ...
    def warning(self, event: str, **fields: object) -> Any: ...
    def error(self, event: str, **fields: object) -> Any: ...


class Database(Protocol):
    """The travel database, in asyncpg's words. Every call raises Unavailable when it cannot be reached."""

    async def fetch(self, query: str, *args: object) -> Sequence[Mapping[str, Any]]: ...
    async def fetchrow(self, query: str, *args: object) -> Mapping[str, Any] | None: ...
    async def fetchval(self, query: str, *args: object) -> Any: ...
    async def execute(self, query: str, *args: object) -> str: ...
    def transaction(self) -> AbstractAsyncContextManager[Database]: ...


class Mailer(Protocol):
    """Sends mails, each meaning once."""

    async def send(
        self,
        to: str,
        template: str,
        /,
        *,
        key: str | None = None,
        locale: str | None = None,
        on_unknown: OnUnknown = "resend",
        **variables: object,
    ) -> str:
        """Render ``template`` (``bookings/confirmation``), send it to ``to`` and return its Message-ID.

        ``key`` names what the mail means (``booking-confirmation:BK-1``): a second send with the same key, by
        whatever job, sends nothing and returns the first Message-ID. It defaults to this job and template.
        ``locale`` (``tr``, ``tr-TR``) falls back to English. ``on_unknown`` decides when a crash or a lost
        connection hides whether the server took the mail: ``resend`` risks a second copy, ``hold`` a missing one.

        Raises MailRefused (5xx) and TemplateFailed, which are permanent, and Unavailable, which snoozes the job.
        """
        ...


class Enqueue(Protocol):
    """``await ctx.enqueue(payload, delay=…)``: another job, in the client's words (see AsyncClient.enqueue)."""

    async def __call__(
        self,
        payload: Payload,
        *,
        delay: timedelta | None = None,
        at: datetime | None = None,
        deadline: timedelta | datetime | None = None,
        priority: int | None = None,
        job_id: str | None = None,
        unique: Unique | None = None,
        tags: Sequence[str] = (),
    ) -> Enqueued: ...


class RunningJob(NamedTuple):
    """The job that a handler is running. ``attempt`` starts at 1."""

    id: str
    kind: str
    queue: str
    attempt: int
    max_attempts: int
    enqueued_at: datetime
    tags: tuple[str, ...] = ()


class Context(Protocol, Generic[S_co]):
    """What a handler may reach. ``ctx.settings`` is its own plugin's settings, validated."""

    @property
    def job(self) -> RunningJob: ...
    @property
    def settings(self) -> S_co: ...
    @property
    def db(self) -> Database: ...
    @property
    def mailer(self) -> Mailer: ...
    @property
    def log(self) -> Log: ...
    @property
    def enqueue(self) -> Enqueue: ...

    async def progress(self, fraction: float, note: str = "", /) -> None:
        """Tell whoever watches the job how far it has come, from 0 to 1. Raises ValueError beyond."""
        ...

    async def note(self, line: str, /) -> None:
        """Keep a line with the job, for whoever looks at it later; the newest hundred are kept."""
        ...

    def run(self, awaitable: Awaitable[T], /) -> T:
        """The result of ``awaitable``, for a handler that is not async: ``ctx.run(ctx.db.fetch(…))``.

        Raises RuntimeError in an async handler, which awaits by itself.
        """
        ...

    def now(self) -> datetime:
        """The current time with its zone (UTC); frozen in tests."""
        ...
