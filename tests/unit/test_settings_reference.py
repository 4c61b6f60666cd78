"""The reference configuration, which is the admin's documentation."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from skycap.settings import KeyLimitSettings, Settings, load_settings, reference
from skycap.settings.alerts import AlertRules
from skycap.settings.section import Section
from skycap.settings.tree import entry_of, has_entries, section_of
from skycap.settings.variables import understood

CONFIG = Path(__file__).parents[2] / "config"


def test_the_file_in_config_is_what_the_code_says() -> None:
    written = (CONFIG / "skycap.toml").read_text()
    assert written == reference(), "write it again: skycap config reference > config/skycap.toml"


def test_it_loads_as_the_defaults() -> None:
    assert load_settings(CONFIG / "skycap.toml", environ={}) == Settings()


def test_it_loads_with_every_example_switched_on(tmp_path: Path) -> None:
    file = tmp_path / "skycap.toml"
    file.write_text(re.sub(r"^#(?! |\n)", "", reference(), flags=re.MULTILINE))
    settings = load_settings(file, environ={})
    assert settings.require_redis().host == "localhost"
    assert settings.jobs["send-booking-confirmation"].attempts == 5
    assert settings.jobs["send-booking-confirmation"].limits == ["recipient-domain"]
    assert settings.limits["recipient-domain"].for_key("gmail.com").rate_max == 20
    assert settings.plugins == {"welcome": {"enabled": False}}


def test_every_setting_is_in_it() -> None:
    text = re.sub(r"^#(?! |\n)", "", reference(), flags=re.MULTILINE)
    written = tomllib.loads(text)
    for name, field in Settings.model_fields.items():
        section = section_of(field) or entry_of(field)
        if section is None:
            assert name in written
        else:
            tables = list(written[name].values()) if has_entries(field) else [written[name]]
            assert all(set(table) == set(section.model_fields) for table in tables)


def test_a_limit_shows_every_figure_that_a_key_can_have() -> None:
    limit = tomllib.loads(re.sub(r"^#(?! |\n)", "", reference(), flags=re.MULTILINE))["limits"]["recipient-domain"]
    assert set(limit["keys"]["gmail.com"]) == set(KeyLimitSettings.model_fields)


def test_every_setting_is_explained_by_a_sentence() -> None:
    def descriptions(model: type[Section | Settings]) -> dict[str, str | None]:
        return {f"{model.__name__}.{name}": field.description for name, field in model.model_fields.items()}

    sections = [section_of(field) or entry_of(field) for field in Settings.model_fields.values()]
    rules = [section_of(field) for field in AlertRules.model_fields.values()]
    explained: dict[str, str | None] = {}
    for model in filter(None, [*sections, *rules, KeyLimitSettings]):
        explained |= descriptions(model)
        assert model.__doc__
    explained |= {
        name: text
        for name, text in descriptions(Settings).items()
        if section_of(Settings.model_fields[name.split(".")[1]]) is None
        and not has_entries(Settings.model_fields[name.split(".")[1]])
    }
    assert [name for name, text in explained.items() if not (text or "").endswith(".")] == []


def test_no_line_is_too_long_to_read() -> None:
    assert max(len(line) for line in reference().splitlines()) <= 120


@pytest.mark.parametrize(
    "name",
    re.findall(r"^#?([A-Z][A-Z0-9_]*)=", (CONFIG / "skycap.env.example").read_text(), re.MULTILINE),
)
def test_every_variable_in_the_example_is_understood(name: str) -> None:
    assert understood(name) is not None


def test_every_setting_named_in_the_readme_exists() -> None:
    readme = (CONFIG / "README.md").read_text()
    misspelt_on_purpose = {"SKYCAP_REDIS_ULR"}
    names = set(re.findall(r"\bSKYCAP_[A-Z][A-Z0-9_]*[A-Z0-9]\b", readme)) - {"SKYCAP_CONFIG"} - misspelt_on_purpose
    assert names
    assert {name for name in names if understood(name) is None} == set()
