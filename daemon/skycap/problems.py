"""Problems: what pydantic found wrong, in sentences that name the field and never repeat a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


def problems_of(error: ValidationError, whole: str = "payload") -> list[str]:
    """One ``field: what is wrong`` each; ``whole`` names what is wrong in no single field.

    The input is left out on purpose: it may be an address or a secret.
    """
    return [
        f"{'.'.join(str(part) for part in problem['loc']) or whole}: {_plain(problem['type'], problem['msg'])}"
        for problem in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def _plain(kind: str, message: str) -> str:
    if kind == "missing":
        return "is missing; give a value"
    said = message.removeprefix("Value error, ")  # by a validator of the model's own
    return said[:1].lower() + said[1:]
