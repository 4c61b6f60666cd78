"""The tables of breakers, with the backend's figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

from pydantic import Field

from skycap.breaker import BreakerSpec
from skycap.settings.section import DAY_SECONDS, Section


class BreakerSettings(Section):
    """A breaker, which shields a partner that fails, and the jobs that need it. What is not set is as its plugin has
    it, else as here.
    """

    opens_after: int = Field(
        default=5, ge=1, le=10_000, description="So many failures in a row, over all daemons, open it: calls fail."
    )
    closes_after: int = Field(
        default=2,
        ge=1,
        le=1000,
        description="So many successes close it again; as many calls are let through at once to find out.",
    )
    tries_again_seconds: float = Field(
        default=30.0, ge=0.05, le=DAY_SECONDS, description="How long it is open before calls are let through again."
    )
    timeout_seconds: float = Field(
        default=30.0,
        ge=0.05,
        le=DAY_SECONDS,
        description="A call that takes longer is ended and has failed; mails have time limits of their own ([smtp]).",
    )

    def over(self, declared: BreakerSpec) -> BreakerSpec:
        """What is set here, over what a plugin has ``declared``."""
        figures: dict[str, Any] = {}
        for name in self.model_fields_set:
            match name:
                case "tries_again_seconds":
                    figures["tries_again_after"] = timedelta(seconds=self.tries_again_seconds)
                case "timeout_seconds":
                    figures["timeout"] = timedelta(seconds=self.timeout_seconds)
                case _:
                    figures[name] = getattr(self, name)
        return replace(declared, **figures)


_SLOW: Mapping[str, Any] = {"opens_after": 5, "closes_after": 2, "tries_again_seconds": 30.0}
_QUICK: Mapping[str, Any] = {"opens_after": 3, "closes_after": 2, "tries_again_seconds": 20.0}

BACKEND_BREAKERS: Mapping[str, Mapping[str, Any]] = {
    "amadeus": _SLOW,
    "booking-com": _SLOW,
    "email": _SLOW,
    "google-places": _QUICK,
    "openai": _QUICK,
    "stripe": _QUICK,
}
"""The breakers that the travel backend has, with its figures."""


def backend_breakers() -> dict[str, BreakerSettings]:
    return {name: BreakerSettings(**figures) for name, figures in BACKEND_BREAKERS.items()}


def merged_breakers(breakers: Mapping[str, Any]) -> dict[str, Any]:
    """Each breaker over the backend's figures for it."""
    merged: dict[str, Any] = {}
    for name in [*BACKEND_BREAKERS, *(name for name in breakers if name not in BACKEND_BREAKERS)]:
        configured = breakers.get(name, {})
        if isinstance(configured, Mapping):
            configured = {**BACKEND_BREAKERS.get(name, {}), **cast("Mapping[str, Any]", configured)}
        merged[name] = configured
    return merged
