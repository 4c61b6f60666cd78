from __future__ import annotations

import json
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from skycap.discovery import PluginChoice, load
from skycap.envelope import Envelope
from skycap.errors import InvalidPayload, Refused
from skycap.intake import Intake
from skycap.published_kinds import published, request_schema
from skycap.registry import Registry
from skycap.request import Request
from skycap.request_document import RequestDocument
from skycap.unique import Unique

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
ENQUEUED_AT = "2026-11-23T06:00:00.000Z"

Vector = dict[str, Any]


def vectors(name: str) -> list[Vector]:
    read: list[Vector] = json.loads((VECTORS / f"{name}.json").read_text())
    return read


def each(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", [pytest.param(vector, id=vector["name"]) for vector in vectors(name)])


@cache
def registry() -> Registry:
    return load(PluginChoice(only=frozenset({"accounts", "bookings", "mails", "payments", "price-alerts"})))


def test_every_kind_has_a_vector_and_every_vector_a_name_of_its_own() -> None:
    kinds = {job_type.kind for job_type in registry().job_types}
    assert {vector["kind"] for vector in vectors("requests")} == kinds
    assert {vector["envelope"]["kind"] for vector in vectors("envelopes")} == kinds
    for file in ("requests", "envelopes", "errors"):
        names = [vector["name"] for vector in vectors(file)]
        assert len(names) == len(set(names))


@each("requests")
def test_options_become_the_document(vector: Vector) -> None:
    options = vector["options"]
    request = Request(
        kind=vector["kind"],
        payload=vector["payload"],
        id=options["id"],
        version=options.get("version"),
        delay=_span(options, "delaySeconds"),
        at=_moment(options, "at"),
        deadline=_span(options, "deadlineSeconds") or _moment(options, "deadline"),
        priority=options.get("priority"),
        unique=_unique(options["unique"]) if "unique" in options else None,
        tags=tuple(options.get("tags", ())),
        labels=options.get("labels", {}),
    )
    request.check()
    assert request.document() == vector["document"]
    assert RequestDocument.read(vector["document"]).request() == request


@each("requests")
def test_the_published_schema_accepts_the_document(vector: Vector) -> None:
    schema = request_schema(published(registry().job_types))
    jsonschema_rs.validator_for(schema).validate(vector["document"])


@each("envelopes")
def test_a_document_becomes_the_envelope(vector: Vector) -> None:
    job = Intake(registry()).job_of(RequestDocument.read(vector["document"]).request())
    job.envelope.enqueued_at = datetime.fromisoformat(ENQUEUED_AT)
    assert json.loads(job.envelope.to_json()) == vector["envelope"]
    assert job.unique_key == vector.get("uniqueKey")


@each("envelopes")
def test_an_envelope_is_read_by_a_worker(vector: Vector) -> None:
    envelope = Envelope.from_json(json.dumps(vector["envelope"]).encode())
    job_type, payload = registry().read(envelope)
    assert job_type.kind == vector["document"]["kind"]
    assert payload.on_the_wire() == vector["envelope"]["payload"]
    assert json.loads(envelope.to_json()) == vector["envelope"]


@each("errors")
def test_a_wrong_document_is_refused_with_every_problem(vector: Vector) -> None:
    with pytest.raises(Refused) as refused:
        Intake(registry()).job_of(RequestDocument.read(vector["document"]).request())
    assert type(refused.value).__name__ == vector["error"]
    if isinstance(refused.value, InvalidPayload):
        assert refused.value.problems == vector["problems"]


def _span(options: Vector, name: str) -> timedelta | None:
    return timedelta(seconds=options[name]) if name in options else None


def _moment(options: Vector, name: str) -> datetime | None:
    return datetime.fromisoformat(options[name]) if name in options else None


def _unique(options: Vector) -> Unique:
    return Unique(
        by=tuple(options.get("by", ())),
        key=options.get("key"),
        within=_span(options, "withinSeconds"),
        on_conflict=options["onConflict"],
    )
