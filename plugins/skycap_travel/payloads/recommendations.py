"""Payloads of the recommendations plugin."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from skycap import Payload
from skycap_travel.payloads.ids import Id


class GenerateAiRecommendations(Payload, kind="generate-ai-recommendations", queue="processing"):
    """What the backend enqueues, delayed by some seconds, when there is news about a user's taste."""

    user_id: Id
    limit: Annotated[int, Field(ge=1, le=20, strict=True)] = 5
