"""Intake: from what somebody asks for to the job that its kind makes of it, checked by the plugin that will run it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from skycap.engine.queue import NewJob, Repeat
from skycap.envelope import Envelope
from skycap.payload import PayloadSpec
from skycap.registry import Registry
from skycap.request import Request

if TYPE_CHECKING:
    from skycap.signing import Signer

_NO_DELAY = timedelta(0)


class Intake:
    """Takes requests for every kind that a plugin handles, whichever way they came."""

    def __init__(self, registry: Registry, *, signer: Signer | None = None) -> None:
        self._registry = registry
        self._signer = signer

    def job_of(self, request: Request, *, repeat: Repeat | None = None, enqueued_at: datetime | None = None) -> NewJob:
        """The job to add. Raises UnknownKind, NewerPayload, and InvalidPayload with every problem."""
        payload = self._registry.accepted_payload(request.kind, request.payload, version=request.version)
        fields = payload.on_the_wire()
        return new_job(
            request,
            payload.payload_spec,
            fields,
            payload.wire_names(),
            signer=self._signer,
            enqueued_at=enqueued_at,
            repeat=repeat,
        )


def new_job(
    request: Request,
    spec: PayloadSpec,
    fields: Mapping[str, Any],
    names: Mapping[str, str],
    *,
    version: int | None = None,
    signer: Signer | None = None,
    enqueued_at: datetime | None = None,
    repeat: Repeat | None = None,
) -> NewJob:
    """The job of a checked request. ``fields`` are the payload's on the wire, ``names`` the wire's of the class's.

    ``version`` is theirs, if it is not the newest.
    """
    unique = request.unique or spec.unique
    when = request.delay if request.at is None else request.at
    return NewJob(
        envelope=Envelope(
            id=request.id,
            kind=spec.kind,
            version=version or spec.version,
            payload=fields,
            queue=spec.queue,
            priority=spec.priority if request.priority is None else request.priority,
            enqueued_at=enqueued_at or datetime.now(UTC),
            labels=request.labels,
            tags=request.tags,
            largest_bytes=spec.largest_bytes,
            signer=signer,
        ),
        when=_NO_DELAY if when is None else when,
        deadline=request.deadline,
        unique_key=unique.key_of(spec.kind, fields, names) if unique else None,
        unique_within=unique.within if unique else None,
        on_conflict=unique.on_conflict if unique else "keep",
        repeat=repeat,
    )
