"""BaseClient: from a payload and options to the request or the envelope that is sent; does no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from skycap.admission import checked_priority, checked_tags
from skycap.envelope import Envelope
from skycap.job import new_id
from skycap.payload import Payload
from skycap.raw_payload import RawPayload
from skycap.request import Request
from skycap.signing import Signer
from skycap.tracing import carried_from_here
from skycap.unique import Unique


@dataclass(slots=True, kw_only=True)
class Order:
    """A request, and the payload that it was made of, whose class knows the kind."""

    request: Request
    payload: Payload | RawPayload


class BaseClient:
    """Builds and checks what is sent; ``signer`` signs what goes to Redis."""

    def __init__(self, *, signer: Signer | None = None) -> None:
        self._signer = signer

    def envelope(
        self,
        payload: Payload,
        *,
        job_id: str | None = None,
        priority: int | None = None,
        tags: Sequence[str] = (),
        fields: Mapping[str, Any] | None = None,
        enqueued_at: datetime | None = None,
    ) -> Envelope:
        """The envelope of a new job. Raises PayloadTooLarge when it is written.

        ``fields`` are the payload's as on the wire, for a caller that has made them already.
        """
        spec = type(payload).payload_spec
        return Envelope(
            id=job_id or new_id(),
            kind=spec.kind,
            version=spec.version,
            payload=payload.on_the_wire() if fields is None else fields,
            queue=spec.queue,
            priority=spec.priority if priority is None else checked_priority(priority),
            enqueued_at=enqueued_at or datetime.now(UTC),
            labels=carried_from_here(),
            tags=checked_tags(tags),
            largest_bytes=spec.largest_bytes,
            signer=self._signer,
        )

    def order(
        self,
        payload: Payload | RawPayload,
        *,
        delay: timedelta | None = None,
        at: datetime | None = None,
        deadline: timedelta | datetime | None = None,
        priority: int | None = None,
        job_id: str | None = None,
        unique: Unique | None = None,
        tags: Sequence[str] = (),
    ) -> Order:
        """What to send for one job. Raises Refused for options that no kind takes."""
        kind, version, fields = _contents(payload)
        if isinstance(payload, RawPayload) and priority is None:
            priority = payload.priority
        request = Request(
            kind=kind,
            payload=fields,
            id=job_id or new_id(),
            version=version,
            delay=delay,
            at=at,
            deadline=deadline,
            priority=priority,
            unique=unique,
            tags=checked_tags(tags),
            labels=carried_from_here(),
        )
        request.check()
        return Order(request=request, payload=payload)

    def orders(self, payloads: Iterable[Payload | RawPayload], *, delay: timedelta | None = None) -> list[Order]:
        return [self.order(payload, delay=delay) for payload in payloads]


def _contents(payload: Payload | RawPayload) -> tuple[str, int | None, Mapping[str, Any]]:
    if isinstance(payload, RawPayload):
        return payload.kind, payload.version, payload.fields
    spec = type(payload).payload_spec
    return spec.kind, spec.version, payload.on_the_wire()
