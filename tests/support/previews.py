"""Every sample of every plugin in every locale, rendered once for all tests of one process."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Final

from skycap import discovery
from skycap.preview.files import named
from skycap.preview.previews import Preview, Previews
from skycap.settings import Settings
from skycap.settings.sections import BrandSettings
from tests.support.mails import BRAND

SETTINGS: Final = Settings(brand=BrandSettings.model_validate(dict(BRAND) | {"logo": None}))


@cache
def all_previews() -> dict[str, Preview]:
    """``KIND.SAMPLE.LOCALE`` → mail."""
    return named(asyncio.run(_all()))


async def _all() -> list[Preview]:
    previews = Previews(SETTINGS, discovery.load())
    return [preview for sample in previews.samples for preview in await previews.every_locale(sample)]
