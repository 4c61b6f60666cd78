"""RequestDocument: a Request as JSON brings it from outside; every problem is named, and none repeats a value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from skycap.admission import LONGEST_DELAY
from skycap.errors import InvalidPayload
from skycap.job import new_id
from skycap.payload import HIGHEST_PRIORITY, LOWEST_PRIORITY
from skycap.problems import problems_of
from skycap.request import Request
from skycap.unique import SHORTEST_WITHIN, Unique

_LONGEST_SECONDS = LONGEST_DELAY.total_seconds()

JobId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,200}$")]
Kind = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=100)]
Seconds = Annotated[float, Field(ge=0, le=_LONGEST_SECONDS, allow_inf_nan=False)]
ShortText = Annotated[str, StringConstraints(min_length=1, max_length=200)]


def _written_out(value: object) -> object:
    # pydantic also takes seconds since 1970: whoever counts in milliseconds would wait for centuries.
    if not isinstance(value, str) or not _DATE.match(value):
        raise ValueError("write a time like 2026-12-24T08:00:00+03:00 (RFC 3339)")
    return value


_DATE = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]")

# Strict as the others are, it would take no text.
Time = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_written_out)]

_WIRE = ConfigDict(
    alias_generator=to_camel,
    extra="forbid",
    frozen=True,
    hide_input_in_errors=True,
    strict=True,  # true is no number, and "3" is not 3: whoever sends it means something else, or will be surprised
    validate_by_name=False,
)


class UniqueDocument(BaseModel):
    """Which jobs of the kind count as the same one; see ``Unique``."""

    model_config = _WIRE

    key: ShortText | None = Field(default=None, description="Outright; or give `by`.")
    by: list[ShortText] = Field(default=[], max_length=20, description="The payload's fields that make the key.")
    within_seconds: Annotated[float, Field(ge=SHORTEST_WITHIN.total_seconds(), le=_LONGEST_SECONDS)] | None = Field(
        default=None, description="How long it holds; if not given, until its job has ended."
    )
    on_conflict: Literal["keep", "replace", "debounce"] = Field(
        default="keep", description="What a further job does while it holds."
    )

    @model_validator(mode="after")
    def _one_key(self) -> UniqueDocument:
        if self.key is not None and self.by:
            raise ValueError("give either key or by, not both")
        return self

    def unique(self) -> Unique:
        within = None if self.within_seconds is None else timedelta(seconds=self.within_seconds)
        return Unique(by=tuple(self.by), key=self.key, within=within, on_conflict=self.on_conflict)


class RequestDocument(BaseModel):
    """One job to enqueue."""

    model_config = _WIRE

    kind: Kind = Field(description="What to do: one of GET /api/kinds.", examples=["send-welcome-email"])
    payload: dict[str, Any] = Field(
        default_factory=dict, json_schema_extra={"default": {}}, description="As the kind's own schema says."
    )
    id: JobId | None = Field(default=None, description="The job's id: the same id twice is one job. Made if not given.")
    version: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="Of the payload's schema; if not given, the newest."
    )
    delay_seconds: Seconds | None = Field(default=None, description="Run it this much later.")
    at: Time | None = Field(default=None, description="Or run it at this time.")
    deadline_seconds: Seconds | None = Field(default=None, description="Do not run it any more so long from now.")
    deadline: Time | None = Field(default=None, description="Or after this time.")
    priority: Annotated[int, Field(ge=HIGHEST_PRIORITY, le=LOWEST_PRIORITY)] | None = Field(
        default=None, description="1 is first; if not given, the kind's own."
    )
    unique: UniqueDocument | None = Field(default=None, description="If not given, the kind's own.")
    tags: list[ShortText] = Field(
        default_factory=list, json_schema_extra={"default": []}, max_length=20, description="To find it by."
    )
    labels: dict[ShortText, Annotated[str, StringConstraints(max_length=1000)]] = Field(
        default_factory=dict,
        json_schema_extra={"default": {}},
        max_length=20,
        description="Carried along for middlewares, such as a trace.",
    )

    @model_validator(mode="after")
    def _one_time_each(self) -> RequestDocument:
        if self.delay_seconds is not None and self.at is not None:
            raise ValueError("give either delaySeconds or at, not both")
        if self.deadline_seconds is not None and self.deadline is not None:
            raise ValueError("give either deadlineSeconds or deadline, not both")
        return self

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> RequestDocument:
        """Raises InvalidPayload with every problem."""
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise InvalidPayload("request", problems_of(error, "request")) from None

    def request(self) -> Request:
        """What it asks for. Raises Refused for a time more than ten years ahead."""
        deadline = None if self.deadline_seconds is None else timedelta(seconds=self.deadline_seconds)
        request = Request(
            kind=self.kind,
            payload=self.payload,
            id=self.id or new_id(),
            version=self.version,
            delay=None if self.delay_seconds is None else timedelta(seconds=self.delay_seconds),
            at=self.at,
            deadline=deadline or self.deadline,
            priority=self.priority,
            unique=None if self.unique is None else self.unique.unique(),
            tags=tuple(self.tags),
            labels=self.labels,
        )
        request.check()
        return request
