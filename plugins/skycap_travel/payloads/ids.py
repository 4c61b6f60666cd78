"""Ids in payloads: those of the backend's rows."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Id = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[!-~]+$")]
"""A cuid today; whatever the backend uses tomorrow, it is printable ASCII without blanks."""
