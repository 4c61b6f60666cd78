"""Section: what the tables of the configuration file have in common, and Name, how they are called."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

DAY_SECONDS = 86_400
MONTH_SECONDS = 30 * DAY_SECONDS
YEAR_SECONDS = 365 * DAY_SECONDS

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
"""Of a queue, a kind, a limit or a plugin."""


class Section(BaseModel):
    """One table of the configuration file; its docstring introduces it there."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)
