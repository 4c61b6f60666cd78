"""Payloads of the price history plugin."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from skycap import Payload
from skycap_travel.payloads.ids import Id
from skycap_travel.payloads.price_alerts import EntityType


class UpdatePriceHistory(Payload, kind="update-price-history", queue="processing"):
    """Ask a provider for prices, of these entities; or of all that active price alerts watch, of one type or any.

    Without ``provider``, it is the one of the settings.
    """

    provider: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=64)] | None = None
    entity_type: EntityType | None = None
    entity_ids: Annotated[tuple[Id, ...], Field(max_length=2_000)] = ()

    @model_validator(mode="after")
    def _ids_of_a_type(self) -> Self:
        if self.entity_ids and self.entity_type is None:
            raise PydanticCustomError("ids_of_a_type", "entityIds are given without the entityType that they are of")
        return self
