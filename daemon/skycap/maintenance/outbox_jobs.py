"""OutboxJobs: the job that each row of the outbox becomes; where it does not fit, a dead letter, which stops nobody."""

from __future__ import annotations

import json
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from skycap.engine.batches import encoded
from skycap.engine.queue import DeadOnArrival, NewJob
from skycap.envelope import Envelope
from skycap.errors import NewerPayload, PayloadTooLarge, Refused, UnknownKind
from skycap.intake import Intake, new_job
from skycap.outcome import DeadReason
from skycap.payload import PayloadSpec
from skycap.request_document import RequestDocument

if TYPE_CHECKING:
    from skycap.registry import Registry
    from skycap.request import Request
    from skycap.services.outbox import OutboxRow
    from skycap.signing import Signer

_log = structlog.get_logger("skycap.outbox")

_PRIORITY = 10
"""Of a kind that is not known here."""


@dataclass(frozen=True, kw_only=True)
class OutboxJob:
    """A row as its queue gets it. ``problem``: why it goes to the dead-letter queue."""

    row: OutboxRow
    encoded: list[str | bytes | int]
    problem: str | None = None


class OutboxJobs:
    """Makes one job of each row, whatever the row says."""

    def __init__(self, registry: Registry, *, signer: Signer | None = None) -> None:
        self._registry = registry
        self._intake = Intake(registry, signer=signer)
        self._signer = signer

    def queue_of(self) -> dict[str, str]:
        """By every name of every kind."""
        return {
            name: job_type.queue
            for job_type in self._registry.job_types
            for name in (job_type.kind, *job_type.payload.payload_spec.aliases)
        }

    def job_of(self, row: OutboxRow) -> OutboxJob:
        try:
            return OutboxJob(row=row, encoded=encoded(self._job(row)))
        except Refused as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 - a plugin's validator may raise anything; the rows behind are to go on
            # Not its words, which may repeat what it was given.
            place = traceback.extract_tb(error.__traceback__)[-1]
            problem = f"{row.kind}: {type(error).__name__} at {place.filename}:{place.lineno} when its payload was read"
        _log.error("job refused", job=row.job_id, kind=row.kind, problem=problem)
        return OutboxJob(row=row, encoded=self._dead_letter(row, problem), problem=problem)

    def _job(self, row: OutboxRow) -> NewJob:
        document: dict[str, Any] = json.loads(row.options)
        document |= {"kind": row.kind, "payload": json.loads(row.payload), "id": row.job_id}
        request = RequestDocument.read(document).request()
        try:
            job = self._intake.job_of(request)
        except (UnknownKind, NewerPayload):
            job = self._job_for_a_newer_worker(request, row)
        # Another relay, with other plugins, may have sent this batch before: what it decided holds.
        job.envelope.queue = row.queue
        job.envelope.enqueued_at = row.enqueued_at
        return job

    def _job_for_a_newer_worker(self, request: Request, row: OutboxRow) -> NewJob:
        """Unchecked: workers put off what they do not know yet, for a day."""
        job_type = self._registry.find(row.kind)
        spec = (
            job_type.payload.payload_spec
            if job_type
            else PayloadSpec(kind=row.kind, queue=row.queue, priority=_PRIORITY)
        )
        job = new_job(request, spec, request.payload, {}, signer=self._signer)
        job.envelope.version = request.version or spec.version
        return job

    def _dead_letter(self, row: OutboxRow, problem: str) -> list[str | bytes | int]:
        """With its payload, so that it can be redriven by plugins that take it; without it, when that is too large."""
        try:
            return encoded(self._dead(row, problem, json.loads(row.payload)))
        except (PayloadTooLarge, ValueError, RecursionError):
            return encoded(self._dead(row, problem, {}))

    def _dead(self, row: OutboxRow, problem: str, payload: dict[str, Any]) -> NewJob:
        version = json.loads(row.options).get("version", 1)
        return NewJob(
            envelope=Envelope(
                id=row.job_id,
                kind=row.kind,
                version=version,
                payload=payload,
                queue=row.queue,
                priority=_PRIORITY,
                enqueued_at=row.enqueued_at,
                signer=self._signer,
            ),
            dead=DeadOnArrival(reason=DeadReason.UNDECODABLE, error=problem),
        )
