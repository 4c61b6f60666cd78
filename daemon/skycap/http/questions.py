"""Questions: the parameters and small bodies of requests, read into models; what is wrong is named by its field."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from skycap.admission import LONGEST_DELAY
from skycap.http.bodies import Bodies, Bounds
from skycap.http.errors import INVALID_REQUEST, ApiError
from skycap.problems import problems_of

_M = TypeVar("_M", bound=BaseModel)

_BOUNDS = Bounds(largest_bytes=16 * 1024, most_values=100)

PARAMETERS = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True, hide_input_in_errors=True)
"""Of what stands behind the question mark, where all is text."""
BODY = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True, hide_input_in_errors=True, strict=True)


class Nothing(BaseModel):
    """An action that needs no more than its path."""

    model_config = BODY


class ForSomeTime(BaseModel):
    """How long something is to last."""

    model_config = BODY

    for_seconds: Annotated[float, Field(gt=0, le=LONGEST_DELAY.total_seconds(), allow_inf_nan=False)] | None = Field(
        default=None, description="If not given, until somebody ends it."
    )

    @property
    def duration(self) -> timedelta | None:
        return None if self.for_seconds is None else timedelta(seconds=self.for_seconds)


def parameters_of(request: web.Request, model: type[_M]) -> _M:
    """Raises ApiError."""
    twice = [name for name in request.query if len(request.query.getall(name)) > 1]
    if twice:
        raise invalid(f"{twice[0]}: is given more than once; give it once")
    return _read(dict(request.query), model)


async def body_of(request: web.Request, bodies: Bodies, model: type[_M]) -> _M:
    """What the body asks for; no body is as an empty one. Raises ApiError."""
    return _read(await bodies.optional_object(request, _BOUNDS), model)


def invalid(*problems: str) -> ApiError:
    """Each is ``field: what is wrong and the fix``."""
    return ApiError(INVALID_REQUEST, "; ".join(problems), problems=problems)


def _read(document: dict[str, Any], model: type[_M]) -> _M:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise invalid(*problems_of(error, "request")) from None
