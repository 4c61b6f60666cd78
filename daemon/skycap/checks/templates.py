"""Templates: compiled, overrides included, and every sample mail written in every language."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from skycap.checks.finding import Finding, fail, misconfigured, ok
from skycap.checks.group import Group
from skycap.checks.installation import Installation
from skycap.checks.threads import in_thread
from skycap.errors import PermanentError
from skycap.preview.previews import Previews
from skycap.settings import Settings

_PATIENCE_SECONDS = 3.0
"""For the samples, which take a second or two where nobody else wants the processor."""


@dataclass(frozen=True, kw_only=True)
class Stock:
    """The templates as a daemon would have them, and what is made of them."""

    settings: Settings
    previews: Previews


@asynccontextmanager
async def _opened(installation: Installation) -> AsyncGenerator[Stock]:
    settings, registry = installation.require_settings(), installation.require_registry()
    yield Stock(settings=settings, previews=await in_thread(lambda: Previews(settings, registry)))


templates = Group("templates", _opened)


@templates.check
def compiled(stock: Stock) -> Finding:
    """Every template compiles, and what it extends and includes is there."""
    return ok(f"in {', '.join(stock.previews.locales)}")


@templates.check
def overrides(stock: Stock) -> list[Finding]:
    """The admin's own templates (mail.templates_dir) work with the others."""
    folder, made = stock.settings.mail.templates_dir, stock.previews.templates
    found = [
        misconfigured(f"{name} is refused, and the shipped one used: {why}", f"correct {folder / name}")
        for name, why in made.refused.items()
    ]
    return found or [ok(f"{made.overridden} in {folder}")]


@templates.check
def samples(stock: Stock) -> list[Finding]:
    """Every sample mail of every plugin can be written in every language, as far as there is time."""
    return asyncio.run(_samples(stock.previews))


async def _samples(previews: Previews) -> list[Finding]:
    broken: dict[str, Finding] = {}
    written, ends = 0, time.monotonic() + _PATIENCE_SECONDS
    tried = [(sample, locale) for locale in previews.locales for sample in previews.samples]
    for number, (sample, locale) in enumerate(tried):
        if time.monotonic() > ends:
            broken.setdefault("", ok(f"{written} mails were written; there was no time for {len(tried) - number}"))
            break
        try:
            written += len(await previews.of(sample, locale=locale))
        except PermanentError as error:
            fix = "look at it with `skycap mail preview`, and correct the template"
            broken.setdefault(str(error), fail(f"in {locale}: {error}", fix))
    return [*broken.values()] or [ok(f"{written} mails of {len(previews.samples)} samples were written")]
