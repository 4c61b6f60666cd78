"""[signing]: where keys come from, how they are shown, and what is refused in one line."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from skycap.settings import InvalidSettings, Settings, load_settings
from skycap.signing import Signer

# Always the same ones: their text is in the names of tests, which every process must call alike.
OLD, NEW, OTHER = (Signer(key_id=key_id, secret=bytes([n]) * 32) for n, key_id in enumerate(("old", "new", "new")))
BOTH = f"{NEW.text()},{OLD.text()}"
ENVELOPE = b'{"v":1,"id":"1","kind":"take-note","payload":{}}'


def load(tmp_path: Path, toml: str = "", **environ: str) -> Settings:
    file = tmp_path / "skycap.toml"
    file.write_text(toml)
    return load_settings(file, environ=environ)


def test_nothing_of_it_need_be_set() -> None:
    signing = Settings().signing
    assert (signing.keys, signing.verify, signing.require_kinds) == ([], "present", None)
    assert (signing.signer, signing.signing_key, len(signing.keyring)) == (None, None, 0)


@pytest.mark.parametrize(
    "text", [BOTH, f"{NEW.text()}, {OLD.text()}", f"{NEW.text()}\n{OLD.text()}\n", f" {NEW.text()} {OLD.text()} ,"]
)
def test_keys_may_stand_in_one_variable_or_file_between_commas_or_in_lines(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys").write_text(text)
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "signing_keys").write_text(text)
    for environ in (
        {"SKYCAP_SIGNING_KEYS": text},
        {"SKYCAP_SIGNING_KEYS_FILE": str(tmp_path / "keys")},
        {"CREDENTIALS_DIRECTORY": str(credentials)},
    ):
        signing = load(tmp_path, **environ).signing
        assert [key.get_secret_value() for key in signing.keys] == [NEW.text(), OLD.text()]


def test_the_first_key_signs_and_all_are_believed(tmp_path: Path) -> None:
    signing = load(tmp_path, f'[signing]\nkeys = ["{NEW.text()}", "{OLD.text()}"]').signing
    assert signing.signer == NEW
    assert signing.signing_key == NEW.text()
    for signer in (NEW, OLD):
        assert signing.keyring.verified_by(signer.sign(ENVELOPE)) == signer.key_id


@pytest.mark.parametrize(
    ("toml", "production", "kinds"),
    [
        ("", True, {"send-email"}),
        ("", False, set[str]()),
        ("[signing]\nrequire_kinds = []", True, set[str]()),
        ('[signing]\nrequire_kinds = ["take-note"]', True, {"take-note"}),
        ('[signing]\nrequire_kinds = ["take-note"]', False, {"take-note"}),
    ],
)
def test_mails_to_anybody_must_be_signed_in_production_unless_a_list_says_otherwise(
    tmp_path: Path, toml: str, production: bool, kinds: set[str]
) -> None:
    assert load(tmp_path, toml).signing.required_kinds(production=production) == kinds


def test_a_secret_is_in_no_way_to_print_settings_but_its_id_is(tmp_path: Path) -> None:
    settings = load(tmp_path, SKYCAP_SIGNING_KEYS=BOTH)
    for shown in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())):
        for signer in (OLD, NEW):
            assert signer.text().partition(":")[2] not in shown
    assert settings.model_dump(mode="json")["signing"]["keys"] == ["new:***", "old:***"]


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ('keys = ["hunter2"]', r"signing\.keys: a signing key is KEY-ID:SECRET"),
        ('keys = ["a:hunter2"]', r"signing\.keys: a signing key is KEY-ID:SECRET"),
        (f'keys = ["{NEW.text()}", "hunter2"]', r"signing\.keys: a signing key is KEY-ID:SECRET"),
        (
            f'keys = ["{NEW.text()}", "{OTHER.text()}"]',
            r"signing\.keys: two keys have the id new; give each",
        ),
        ('keys = [["hunter2"]]', r"signing\.keys: has an entry that is no text"),
        ('keys = { new = "hunter2" }', r"signing\.keys: is no list"),
        ('verify = "hunter2"', r"signing\.verify: .*give off, present or require"),
        ('require_kinds = ["Send Email"]', r"signing\.require_kinds\.0: is no name"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_key_and_without_its_value(
    tmp_path: Path, toml: str, problem: str
) -> None:
    with pytest.raises(InvalidSettings, match=problem) as raised:
        load(tmp_path, f"[signing]\n{toml}")
    shown = "".join(traceback.format_exception(raised.value))
    assert "hunter2" not in shown or toml.startswith("verify")
    assert NEW.text().partition(":")[2] not in shown
    assert raised.value.__context__ is None
