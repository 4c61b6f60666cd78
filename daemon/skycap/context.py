"""Context: what a handler may reach while it runs, and the protocols of the services in it.

The daemon brings the real services, ``skycap.testing`` brings ones that need no server. A service connects
when it is first used: a handler that does not touch the database never waits for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Protocol

from typing_extensions import TypeVar

from skycap.breaker import Breakers
from skycap.cache import Cache
from skycap.http_client import HttpClient
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
    """The travel database, in asyncpg's words. Every call raises Unavailable when it cannot be reached.

    Where the installation has read replicas, reads may go to one, and be a moment behind; what follows a write of the
    same job, and what is asked of ``fresh`` or in a transaction, does not.
    """

    @property
    def fresh(self) -> Database:
        """The same, always on the primary server."""
        ...

    async def fetch(self, query: str, *args: object) -> Sequence[Mapping[str, Any]]: ...
    async def fetchrow(self, query: str, *args: object) -> Mapping[str, Any] | None: ...
    async def fetchval(self, query: str, *args: object) -> Any: ...
    async def execute(self, query: str, *args: object) -> str: ...

    def stream(self, query: str, *args: object, batch: int = 1000) -> AsyncIterator[Mapping[str, Any]]:
        """The rows one by one, of which the server is asked for ``batch`` at a time: for results of any size.

        ``statement_timeout`` limits each batch. Whoever takes more than a minute for one loses the connection.
        """
        ...

    def transaction(self) -> AbstractAsyncContextManager[Database]: ...

    async def in_transaction(self, function: Callable[[Database], Awaitable[T]]) -> T:
        """What ``function(tx)`` returns, in a transaction that is committed then.

        When it collided with others (a serialization failure, a deadlock), the server has undone it, and ``function``
        runs again, up to six times in all: let it do nothing but what ``tx`` does. Raises Unavailable after that, and
        when the commit's answer was lost, in which case nobody knows.
        """
        ...


MAIL_MAX_AGE = timedelta(hours=24)
"""How long a mail that the server keeps putting off is tried, unless its sender says otherwise: a day, in which an
outage ends or is noticed. RFC 5321 4.5.4.1 gives four to five, too late for a traveller."""


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """A file of a mail. ``media_type`` may have parameters: ``text/calendar; method=PUBLISH``."""

    filename: str
    content: bytes = field(repr=False)
    media_type: str


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
        max_age: timedelta = MAIL_MAX_AGE,
        unsubscribe: Mapping[str, str] | None = None,
        attachments: Sequence[Attachment] = (),
        **variables: object,
    ) -> str:
        """Render ``template`` (``bookings/confirmation``), send it to ``to`` and return its Message-ID.

        ``key`` names what the mail means (``booking-confirmation:BK-1``): a second send with the same key, by
        whatever job, sends nothing and returns the first Message-ID. It defaults to this job and template.
        ``locale`` (``tr``, ``tr-TR``) falls back to English. ``on_unknown`` decides when a crash or a lost
        connection hides whether the server took the mail: ``resend`` risks a second copy, ``hold`` a missing one.
        A mail that the server puts off is tried until ``max_age`` after it was first meant to be sent.

        ``unsubscribe`` is what this plugin's ``@plugin.unsubscribe()`` is given when the guest has had enough: the
        mail gets the headers of RFC 8058, and the template ``unsubscribe_url``, which is None where guests cannot
        reach the daemon (no ``mail.public_url``).

        Raises MailRefused (5xx, or suppressed) and TemplateFailed, which are permanent, and Unavailable, which snoozes
        the job.
        """
        ...

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
        """Send a mail that somebody else has written, as it is; otherwise as ``send``.

        With ``repeat_after``, a mail of the same ``key`` is a new one when the last is older.
        """
        ...


class Enqueue(Protocol):
    """``await ctx.enqueue(payload, delay=…)``: another job, in the client's words (see AsyncClient.enqueue).

    ``tx`` is what ``ctx.db.transaction()`` gives: the job then exists if and only if that commits.
    """

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
        tx: Any = None,
    ) -> Enqueued: ...


class UnsubscribeContext(Protocol, Generic[S_co]):
    """What a plugin may reach when a guest unsubscribes: no job is running."""

    @property
    def settings(self) -> S_co: ...
    @property
    def db(self) -> Database: ...
    @property
    def log(self) -> Log: ...

    def now(self) -> datetime:
        """The current time with its zone (UTC)."""
        ...


class RunningJob(NamedTuple):
    """The job that a handler is running. ``attempt`` starts at 1."""

    id: str
    kind: str
    queue: str
    attempt: int
    max_attempts: int
    enqueued_at: datetime
    tags: tuple[str, ...] = ()


class QueueCounts(NamedTuple):
    """How many jobs stand where in one queue, for the whole fleet; ``discarded`` are its dead letters."""

    available: int
    later: int
    running: int
    discarded: int
    is_paused: bool


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
    def cache(self) -> Cache: ...
    @property
    def breakers(self) -> Breakers: ...
    @property
    def http(self) -> HttpClient: ...
    @property
    def log(self) -> Log: ...
    @property
    def enqueue(self) -> Enqueue: ...

    async def queues(self) -> Mapping[str, QueueCounts]:
        """How each queue of this installation stands, by name. Raises Unavailable."""
        ...

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
