"""An admin's own templates: they replace shipped ones, cannot harm, and are refused where they do not work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from jinja2 import DictLoader
from structlog.testing import capture_logs

from skycap.errors import TemplateFailed
from skycap.services.templates import Templates
from tests.support.mails import BRAND
from tests.support.templates import TURKISH, mail

SHIPPED = mail(text="{% extends 'a/base.txt.j2' %}{% block words %}shipped{% endblock %}") | {
    "a/base.txt.j2": "{% block words %}{% endblock %}",
    "locale/tr.po": TURKISH,
}


def stocked(folder: Path, files: Mapping[str, str]) -> Templates:
    put(folder, files)
    return Templates([DictLoader(SHIPPED)], brand=BRAND, overrides=folder)


def put(folder: Path, files: Mapping[str, str]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def text(templates: Templates, locale: str = "en", **variables: Any) -> str:
    return templates.render("a/mail", locale=locale, variables=variables).text


def refused(logs: list[Any]) -> list[tuple[str, str]]:
    return [(line["template"], line["problem"]) for line in logs if line["log_level"] == "error"]


def test_a_file_takes_the_place_of_the_shipped_one(tmp_path: Path) -> None:
    assert text(stocked(tmp_path, {"a/mail/body.txt.j2": "ours"})) == "ours\n"


def test_the_folder_need_not_exist(tmp_path: Path) -> None:
    assert text(Templates([DictLoader(SHIPPED)], brand=BRAND, overrides=tmp_path / "none")) == "shipped\n"


def test_a_word_can_be_translated_otherwise(tmp_path: Path) -> None:
    catalogue = TURKISH.replace("Merhaba %(name)s", "Sayın %(name)s")
    templates = stocked(
        tmp_path, {"locale/tr.po": catalogue, "a/mail/body.txt.j2": '{{ _("Hello %(name)s", name="Ada") }}'}
    )
    assert text(templates, locale="tr") == "Sayın Ada\n"


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a/mail/body.txt.j2", "{% if %}", "Expected an expression"),
        ("a/mail/body.txt.j2", "{% extends 'a/bare.txt.j2' %}", "there is no template a/bare.txt.j2"),
        ("a/base.txt.j2", "{% block words %}", "Unexpected end of template"),
        ("locale/tr.po", 'msgid "Hello %(name)s"\nmsgstr "%(nom)s"', "there is no 'nom' in the message"),
    ],
)
def test_one_that_does_not_compile_is_refused_and_the_shipped_one_stays(
    tmp_path: Path, name: str, content: str, problem: str
) -> None:
    with capture_logs() as logs:
        templates = stocked(tmp_path, {name: content, "a/mail/subject.txt.j2": "ours"})
    ((refused_name, refused_problem),) = refused(logs)
    assert refused_name == name
    assert problem in refused_problem
    assert text(templates) == "shipped\n"
    assert templates.render("a/mail", locale="en", variables={}).subject == "ours"


def test_one_that_is_no_text_is_refused(tmp_path: Path) -> None:
    put(tmp_path, {"a/mail/body.txt.j2": ""})
    (tmp_path / "a/mail/body.txt.j2").write_bytes(b"\xff\xfe")
    with capture_logs() as logs:
        templates = stocked(tmp_path, {})
    assert [name for name, _ in refused(logs)] == [*templates.refused] == ["a/mail/body.txt.j2"]
    assert text(templates) == "shipped\n"


@pytest.mark.parametrize("expression", ["x.__class__", "x.append(3)", "range(10000000)"])
def test_an_admins_file_runs_in_a_sandbox(tmp_path: Path, expression: str) -> None:
    templates = stocked(tmp_path, {"a/mail/body.txt.j2": f"{{{{ {expression} }}}}"})
    with pytest.raises(TemplateFailed, match=r"^a/mail/body\.txt\.j2:1: "):
        text(templates, x=[1, 2])
