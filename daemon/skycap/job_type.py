"""JobType: what a worker knows about one kind of job."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic

from typing_extensions import TypeVar

from skycap.backoff import Backoff
from skycap.context import Context
from skycap.payload import Payload

P_co = TypeVar("P_co", bound=Payload, default=Payload, covariant=True)

Handler = Callable[..., Any]
"""``handler(ctx, payload) -> result``, async or not; further parameters may be taskiq dependencies."""


@dataclass(frozen=True, kw_only=True)
class JobType(Generic[P_co]):
    """A registered kind: its payload class, its handler and how the worker treats it.

    ``backoff`` and ``timeout`` are None where the author left them to the queue's configuration. ``breakers`` are
    those without which no job of the kind can get anywhere, ``tables`` the backend's without which the kind is off.
    """

    payload: type[P_co]
    handler: Handler
    plugin: str
    backoff: Backoff | None = None
    timeout: timedelta | None = None
    breakers: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    settings: Any = field(default=None, compare=False)

    @property
    def kind(self) -> str:
        return self.payload.payload_spec.kind

    @property
    def names(self) -> tuple[str, ...]:
        """Its kind, and what that was called before: a job keeps the name that it was enqueued with."""
        spec = self.payload.payload_spec
        return (spec.kind, *spec.aliases)

    @property
    def queue(self) -> str:
        return self.payload.payload_spec.queue

    async def __call__(self, ctx: Context[Any], payload: Payload) -> Any:
        """Run the handler itself, here and now: what an author's unit test may do."""
        result = self.handler(ctx, payload)
        return await result if inspect.isawaitable(result) else result
