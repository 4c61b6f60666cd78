"""load_settings: reads every place that settings come from, the highest first, and checks what they make."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from skycap.settings import sources
from skycap.settings.invalid import InvalidSettings
from skycap.settings.layers import Provenance
from skycap.settings.model import Settings
from skycap.settings.problems import problems_of


def load_settings(
    config: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    """The settings that hold here; ``overrides`` has dotted keys: ``{"http.bind": "127.0.0.1:0"}``.

    Each place wins over those after it: ``overrides``, variables ``SKYCAP_…``, systemd credentials, the
    configuration file (``config``, else SKYCAP_CONFIG, else the default one if it exists), the backend's own
    variables, defaults. Raises InvalidSettings, a ConfigurationError whose message is one line.
    """
    provenance = _read(config, os.environ if environ is None else environ, overrides or {})
    try:
        return Settings.from_layers(provenance)
    except ValidationError as error:
        problems = tuple(problems_of(error, provenance))
    # Raised outside the handler: pydantic's error holds the values, secrets included.
    raise InvalidSettings(*problems)


def _read(config: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]) -> Provenance:
    file, path = sources.config_file(config, environ)
    above = (sources.command_line(overrides), sources.environment(environ), sources.credentials(environ), file)
    return Provenance(
        layers=(*above, sources.backend_lines(environ, above)),
        config_file=path,
        has_upstash_rest=sources.has_upstash_rest(environ),
    )
