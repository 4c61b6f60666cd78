"""When failed jobs are tried again, as the tables of queues and of kinds say it: a shape, and waits that fit it."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator

from skycap.settings.masking import number_text
from skycap.settings.section import MONTH_SECONDS, Section

Shape: TypeAlias = Literal["exponential", "fixed", "linear", "list"]

Seconds: TypeAlias = Annotated[float, Field(ge=0, le=MONTH_SECONDS)]

FORMS = ("[number]", "[list]")
"""What stands in the place of an error, beside the key, for a value that can be one or the other."""


def _form(waits: object) -> str:
    return FORMS[isinstance(waits, list)]


Waits: TypeAlias = Annotated[
    Annotated[Seconds, Tag(FORMS[0])] | Annotated[list[Seconds], Tag(FORMS[1])],
    Discriminator(_form),  # so that an error is about the form that was meant, not about both
]
"""One wait, or one after the other."""


class Retrying(Section):
    """A table with ``backoff``, ``backoff_seconds`` and ``backoff_longest_seconds``, in this order."""

    @field_validator("backoff_seconds", check_fields=False)
    @classmethod
    def _as_the_shape_wants(cls, waits: Waits | None, info: ValidationInfo) -> Waits | None:
        if "backoff" not in info.data:  # it is wrong itself
            return waits
        shape: Shape | None = info.data["backoff"]
        if waits == []:
            raise ValueError("is an empty list; give at least one wait, like [1, 5, 30]")
        if isinstance(waits, list) and shape is None:
            raise ValueError('is a list of waits; give backoff = "list" beside it, or one number')
        if isinstance(waits, list) and shape != "list":
            raise ValueError(f'is a list of waits, and backoff is "{shape}"; give one number, or backoff = "list"')
        if shape == "list" and not isinstance(waits, list):
            is_now = "is not set here" if waits is None else f"is {number_text(waits)}"
            raise ValueError(f'{is_now}, and backoff is "list"; give a list of waits, like [1, 5, 30]')
        return waits

    @field_validator("backoff_longest_seconds", check_fields=False)
    @classmethod
    def _no_wait_is_longer(cls, longest: float | None, info: ValidationInfo) -> float | None:
        waits: Waits | None = info.data.get("backoff_seconds")
        asked = max(waits) if isinstance(waits, list) else waits
        if longest is not None and asked is not None and asked > longest:
            raise ValueError(
                f"{number_text(longest)} is less than a wait of backoff_seconds, {number_text(asked)}; "
                f"give at least {number_text(asked)}, or shorter waits"
            )
        return longest
