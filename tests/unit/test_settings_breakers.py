"""Breakers and the client for partners in the configuration: the backend's figures, and what wins over what."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest

from skycap import BreakerSpec, Plugin
from skycap.installation import breaker_specs
from skycap.registry import Registry
from skycap.settings import InvalidSettings, Settings, load_settings


def load(tmp_path: Path, toml: str, **environ: str) -> Settings:
    file = tmp_path / "skycap.toml"
    file.write_text(toml)
    return load_settings(file, environ=environ)


@pytest.mark.parametrize(
    ("names", "opens_after", "seconds"),
    [(("amadeus", "booking-com", "email"), 5, 30), (("google-places", "openai", "stripe"), 3, 20)],
)
def test_breakers_are_as_the_backend_has_them(names: tuple[str, ...], opens_after: int, seconds: int) -> None:
    specs = breaker_specs(Settings(), Registry())
    for name in names:
        assert specs[name] == BreakerSpec(
            name=name, opens_after=opens_after, closes_after=2, tries_again_after=timedelta(seconds=seconds)
        )
    assert len(specs) == 6


def test_what_is_configured_wins_over_a_plugin_and_the_rest_is_the_plugins(tmp_path: Path) -> None:
    registry = Registry()
    plugin = Plugin("rates")
    plugin.breaker(BreakerSpec(name="rates", opens_after=9, closes_after=4, timeout=timedelta(seconds=3)))
    registry.add(plugin, name="rates", origin="the test")
    settings = load(tmp_path, "[breakers.rates]\nopens_after = 7\n[breakers.stripe]\nopens_after = 1\n")
    specs = breaker_specs(settings, registry)
    assert specs["rates"] == BreakerSpec(name="rates", opens_after=7, closes_after=4, timeout=timedelta(seconds=3))
    assert (specs["stripe"].opens_after, specs["stripe"].tries_again_after) == (1, timedelta(seconds=20))


def test_a_breaker_may_be_set_by_a_variable(tmp_path: Path) -> None:
    settings = load(tmp_path, "", SKYCAP_BREAKERS_BOOKING_COM_TRIES_AGAIN_SECONDS="5")
    assert breaker_specs(settings, Registry())["booking-com"].tries_again_after == timedelta(seconds=5)


def test_a_breaker_that_would_never_open_or_close_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"breakers\.stripe\.opens_after"):
        load(tmp_path, "[breakers.stripe]\nopens_after = 0\n")


def test_networks_inside_may_be_allowed_and_must_be_networks(tmp_path: Path) -> None:
    settings = load(tmp_path, '[http_client]\nallow_private = ["10.20.0.0/16", "fd00::7"]\n')
    assert settings.http_client.private_networks == (ip_network("10.20.0.0/16"), ip_network("fd00::7"))
    with pytest.raises(InvalidSettings, match=r"rates\.internal.* is no network; write it as"):
        load(tmp_path, '[http_client]\nallow_private = ["rates.internal"]\n')
