"""Published kinds: what a program in any language must know of each kind in order to enqueue it, as JSON values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from skycap.job_type import JobType
from skycap.payload import Payload
from skycap.request_document import RequestDocument
from skycap.unique import Unique

DIALECT = GenerateJsonSchema.schema_dialect
"""The version of JSON Schema that the schemas are written in, as its address."""


def published(job_types: Iterable[JobType]) -> list[dict[str, Any]]:
    """Sorted by kind; names of fields are the wire's. ``unique`` is absent where jobs of the kind are never the same.

    ``schema`` says what is refused when a job is enqueued, as far as JSON Schema can: a field that is not in it is.
    """
    return [_published(job_type) for job_type in sorted(job_types, key=lambda job_type: job_type.kind)]


def payload_schema(payload: type[Payload]) -> dict[str, Any]:
    """The JSON Schema of a payload as it is read from the wire."""
    schema = payload.model_json_schema(by_alias=True, mode="validation", schema_generator=_Generator)
    if "$ref" in schema:  # a class that contains itself; what is inside may have fields of the future, as ever
        name = schema.pop("$ref").rpartition("/")[2]
        schema |= schema["$defs"][name]
    return {**schema, "additionalProperties": False}


def request_schema(kinds: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One JSON Schema for a whole request, of any of the ``published`` kinds, with the payload of its kind."""
    kinds = list(kinds)
    schema = RequestDocument.model_json_schema(by_alias=True, mode="validation", schema_generator=_Generator)
    own = schema.pop("$defs", {})
    return {
        "$schema": DIALECT,
        **schema,
        "oneOf": [_branch(name, kind) for kind in kinds for name in (kind["kind"], *kind["aliases"])],
        "$defs": {**own, **{kind["kind"]: _moved(kind["schema"], f"#/$defs/{kind['kind']}") for kind in kinds}},
    }


def _branch(name: str, kind: Mapping[str, Any]) -> dict[str, Any]:
    branch: dict[str, Any] = {
        "title": name,
        "properties": {"kind": {"const": name}, "payload": {"$ref": f"#/$defs/{kind['kind']}"}},
    }
    return {**branch, "required": ["kind", "payload"]} if kind["schema"].get("required") else branch


def _moved(part: object, to: str) -> object:
    """With its references as they are when it lies at ``to`` in another document."""
    if isinstance(part, dict):
        return {name: _moved(value, to) for name, value in cast("dict[str, object]", part).items()}
    if isinstance(part, list):
        return [_moved(each, to) for each in cast("list[object]", part)]
    return to + part.removeprefix("#") if isinstance(part, str) and part.startswith("#/$defs/") else part


def _published(job_type: JobType) -> dict[str, Any]:
    spec = job_type.payload.payload_spec
    document: dict[str, Any] = {
        "kind": spec.kind,
        "queue": spec.queue,
        "priority": spec.priority,
        "version": spec.version,
        "aliases": list(spec.aliases),
        "plugin": job_type.plugin,
        "largestBytes": spec.largest_bytes,
    }
    if spec.unique is not None:
        document["unique"] = _unique(spec.unique, job_type.payload.wire_names())
    return {**document, "schema": payload_schema(job_type.payload)}


def _unique(unique: Unique, names: Mapping[str, str]) -> dict[str, Any]:
    """As in a request; an empty ``by`` means all fields."""
    document: dict[str, Any] = {"by": [names[name] for name in unique.by], "onConflict": unique.on_conflict}
    if unique.key is not None:
        document["key"] = unique.key
    if unique.within is not None:
        document["withinSeconds"] = unique.within.total_seconds()
    return document


class _Generator(GenerateJsonSchema):
    """Without the titles that pydantic makes of fields' names, and with "anything" for what has no schema.

    A plugin's odd type must not keep the other kinds from being published.
    """

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 - pydantic's signature
        return False

    def handle_invalid_for_json_schema(
        self,
        schema: Any,  # noqa: ARG002 - pydantic's signature
        error_info: str,  # noqa: ARG002 - as above
    ) -> JsonSchemaValue:
        return {}

    def emit_warning(self, kind: object, detail: str) -> None:
        """A default that is no JSON value is left out, which nobody who enqueues can do anything about."""
