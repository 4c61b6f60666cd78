"""Section: what the tables of the configuration file have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

DAY_SECONDS = 86_400
YEAR_SECONDS = 365 * DAY_SECONDS


class Section(BaseModel):
    """One table of the configuration file; its docstring introduces it there."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)
