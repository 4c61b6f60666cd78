from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jsonschema_rs
import pytest
from pydantic import BaseModel, Field

from skycap import JobType, Payload, Unique
from skycap.discovery import load
from skycap.published_kinds import DIALECT, published, request_schema

NEVER = object()


class Stop(BaseModel):
    city: str


class PlanTrip(
    Payload,
    kind="plan-trip",
    queue="trips",
    priority=7,
    version=2,
    upgrades={1: dict},
    aliases=("make-trip",),
    unique=Unique(by=("user_id",), within=timedelta(minutes=2), on_conflict="debounce"),
    largest_bytes=1000,
):
    """Plans a trip."""

    user_id: str = Field(description="Whose.")
    stops: tuple[Stop, ...] = ()
    on_arrival: Callable[[], None] | None = None
    until: object = NEVER


class Nested(Payload, kind="be-nested"):
    inside: Nested | None = None


def _job_type(payload: type[Payload]) -> JobType:
    return JobType(payload=payload, handler=_nothing, plugin="trips")


def _nothing(ctx: object, payload: object) -> None: ...


def _published(payload: type[Payload]) -> dict[str, Any]:
    (document,) = published([_job_type(payload)])
    return document


def test_a_kind_is_published_with_its_options_and_the_names_of_the_wire() -> None:
    document = _published(PlanTrip)
    schema = document.pop("schema")
    assert document == {
        "kind": "plan-trip",
        "queue": "trips",
        "priority": 7,
        "version": 2,
        "aliases": ["make-trip"],
        "plugin": "trips",
        "largestBytes": 1000,
        "unique": {"by": ["userId"], "withinSeconds": 120.0, "onConflict": "debounce"},
    }
    assert schema["title"] == "PlanTrip"
    assert schema["required"] == ["userId"]
    assert schema["properties"]["userId"] == {"type": "string", "description": "Whose."}
    assert schema["$defs"]["Stop"] == {
        "title": "Stop",
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    }


def test_a_field_that_is_unknown_is_refused_by_the_schema_too() -> None:
    assert _published(PlanTrip)["schema"]["additionalProperties"] is False


def test_a_kind_whose_jobs_are_never_the_same_has_no_unique() -> None:
    assert "unique" not in _published(Nested)


def test_a_type_that_json_schema_cannot_say_is_published_as_anything() -> None:
    assert _published(PlanTrip)["schema"]["properties"]["onArrival"]["anyOf"] == [{}, {"type": "null"}]


def test_a_payload_that_contains_itself_refuses_unknown_fields_at_its_top() -> None:
    schema = _published(Nested)["schema"]
    assert schema["additionalProperties"] is False
    assert schema["properties"] == {
        "inside": {"anyOf": [{"$ref": "#/$defs/Nested"}, {"type": "null"}], "default": None}
    }


def test_kinds_are_sorted() -> None:
    assert [each["kind"] for each in published([_job_type(PlanTrip), _job_type(Nested)])] == ["be-nested", "plan-trip"]


def test_every_installed_kind_is_published_as_json() -> None:
    kinds = published(load().job_types)
    assert json.loads(json.dumps(kinds, allow_nan=False)) == kinds
    assert "send-welcome-email" in {each["kind"] for each in kinds}
    assert DIALECT == "https://json-schema.org/draft/2020-12/schema"


WELCOME = {"userEmail": "ada@example.com", "userName": "Ada"}


@pytest.mark.parametrize(
    ("request_", "is_valid"),
    [
        ({"kind": "send-welcome-email", "payload": WELCOME}, True),
        ({"kind": "send-welcome-email", "payload": WELCOME, "delaySeconds": 5, "tags": ["a"]}, True),
        ({"kind": "send-welcome-email", "payload": WELCOME | {"phone": "1"}}, False),
        ({"kind": "send-welcome-email", "payload": {"userName": "Ada"}}, False),
        ({"kind": "send-welcome-email"}, False),
        ({"kind": "send-payment-receipt", "payload": WELCOME}, False),
        ({"kind": "send-nothing", "payload": WELCOME}, False),
        ({"kind": "send-welcome-email", "payload": WELCOME, "delay": 5}, False),
        ({"kind": "plan-trip", "payload": {"userId": "u1", "stops": [{"city": "Çeşme"}]}}, True),
        ({"kind": "make-trip", "payload": {"userId": "u1"}}, True),
        ({"kind": "plan-trip", "payload": {"userId": "u1", "stops": [{"town": "Çeşme"}]}}, False),
        ({"kind": "be-nested"}, True),
        ({"kind": "be-nested", "payload": {"inside": {"inside": {}}}}, True),
        ({"kind": "be-nested", "payload": {"inside": {"inside": 1}}}, False),
    ],
)
def test_one_schema_says_which_requests_are_valid(request_: dict[str, Any], is_valid: bool) -> None:
    kinds = published([*load().job_types, _job_type(PlanTrip), _job_type(Nested)])
    schema = request_schema(kinds)
    assert schema["$schema"] == DIALECT
    assert jsonschema_rs.validator_for(schema).is_valid(request_) is is_valid
