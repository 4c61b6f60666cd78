"""Payloads of the partners plugin."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from skycap import Payload
from skycap_travel.payloads.ids import Id

MOST_IDS_OF_A_JOB = 1_000


class SyncExternalData(Payload, kind="sync-external-data", queue="processing"):
    """Prices and availability of hotels, from a partner: of those named, or of all that are active.

    Only hotels have rows that can be brought up to date; prices of flights and tours are ``update-price-history``'s.
    ``since``, a moment with its offset, asks the partner for what has changed after it.
    """

    provider: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=64)]
    entity_type: Literal["HOTEL"] = "HOTEL"
    entity_ids: Annotated[tuple[Id, ...], Field(min_length=1, max_length=MOST_IDS_OF_A_JOB)] | None = None
    since: AwareDatetime | None = None
