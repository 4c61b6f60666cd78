"""How a template that cannot become a mail says so: when it is used, and before, at start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from jinja2 import FunctionLoader

from skycap.errors import TemplateFailed
from skycap.services.templates import Templates
from tests.support.mails import BRAND, TEMPLATES
from tests.support.templates import TURKISH, mail, render, templates


def failure(source: Mapping[str, str], **variables: Any) -> str:
    with pytest.raises(TemplateFailed) as failed:
        render(source, **variables)
    return str(failed.value)


def test_a_mail_that_does_not_exist_is_named() -> None:
    with pytest.raises(
        TemplateFailed, match=r"^a/other/subject\.txt\.j2: there is no template a/other/subject\.txt\.j2$"
    ):
        templates(mail()).render("a/other", locale="en", variables={})


def test_a_name_cannot_leave_the_templates() -> None:
    with pytest.raises(TemplateFailed, match="there is no template"):
        TEMPLATES.render("../skycap_templates/bookings/confirmation", locale="en", variables={})


def test_an_undefined_variable_is_named_with_its_place() -> None:
    assert failure(mail(text="Hello\n{{ guest }}")) == "a/mail/body.txt.j2:2: 'guest' is undefined, in: {{ guest }}"


def test_an_undefined_field_is_named_with_its_place() -> None:
    problem = failure(mail(html="<p>\n{% if row.rom %}x{% endif %}"), row={"room": 1})
    assert problem == "a/mail/body.html.j2:2: 'dict object' has no attribute 'rom', in: {% if row.rom %}x{% endif %}"


@pytest.mark.parametrize("filter_", ["money('TRY')", "date", "time", "datetime", "number", "nights"])
def test_an_undefined_variable_in_a_filter_is_named(filter_: str) -> None:
    assert failure(mail(text=f"{{{{ total|{filter_} }}}}")).startswith("a/mail/body.txt.j2:1: 'total' is undefined")


def test_a_wrong_type_in_a_filter_names_the_type_and_never_the_value() -> None:
    problem = failure(mail(text="\n{{ total|money('TRY') }}"), total="a secret")
    assert problem == "a/mail/body.txt.j2:2: money takes a Decimal, not str, in: {{ total|money('TRY') }}"


def test_a_problem_in_a_macro_names_the_template_of_the_macro() -> None:
    parts = "{% macro twice(x) %}\n{{ x * 2 }}{{ y }}\n{% endmacro %}"
    source = mail(text="{% import 'a/parts.txt.j2' as parts %}{{ parts.twice(2) }}") | {"a/parts.txt.j2": parts}
    problem = failure(source)
    assert problem.startswith("a/parts.txt.j2:2: 'y' is undefined")


@pytest.mark.parametrize(
    "expression",
    ["1 / 0", "x[0].real.missing", "x + 1", "'%d' % x", "[x] | sum"],
)
def test_whatever_an_expression_does_is_a_failure_of_its_template(expression: str) -> None:
    assert failure(mail(text=f"\n\n{{{{ {expression} }}}}"), x=[1, 2]).startswith("a/mail/body.txt.j2:3: ")


def problem_at_start(*sources: Mapping[str, str]) -> str:
    with pytest.raises(TemplateFailed) as failed:
        templates(*sources).check()
    return str(failed.value)


def test_sound_templates_pass_the_check() -> None:
    templates(mail(), {"locale/tr.po": TURKISH}).check()
    TEMPLATES.check()


def test_the_check_finds_a_syntax_error() -> None:
    problem = problem_at_start(mail(html="<p>\n{% if x %}</p>"))
    assert problem.startswith("a/mail/body.html.j2:2: Unexpected end of template")


def test_the_check_finds_an_unknown_filter_in_a_template_of_no_mail() -> None:
    problem = problem_at_start(mail(), {"base/parts.html.j2": "\n\n{{ x|shout }}"})
    assert problem == "base/parts.html.j2:3: No filter named 'shout'."


@pytest.mark.parametrize(
    "tag",
    [
        "{% extends 'b/gone.j2' %}",
        "{% include 'b/gone.j2' %}",
        "{% import 'b/gone.j2' as x %}",
        "{% from 'b/gone.j2' import x %}",
    ],
)
def test_the_check_finds_a_template_that_another_one_needs(tag: str) -> None:
    assert problem_at_start(mail(text=f"\n{tag}")) == "a/mail/body.txt.j2:2: there is no template b/gone.j2"


def test_the_check_lets_a_template_do_without_another_one() -> None:
    templates(mail(text="{% include 'b/gone.j2' ignore missing %}")).check()


@pytest.mark.parametrize(
    ("kept", "missing"),
    [
        ("subject.txt.j2", "body.txt.j2 and no body.html.j2"),
        ("body.html.j2", "subject.txt.j2 and no body.txt.j2"),
        ("body.txt.j2", "subject.txt.j2 and no body.html.j2"),
    ],
)
def test_the_check_finds_a_mail_that_lacks_a_part(kept: str, missing: str) -> None:
    assert problem_at_start(mail(), {f"b/half/{kept}": "x"}) == f"b/half: the mail has no {missing}"


def test_a_template_that_is_named_almost_like_a_part_makes_no_mail() -> None:
    templates(mail(), {"b/antibody.txt.j2": "x"}).check()


def test_the_parts_of_a_mail_may_come_from_two_plugins() -> None:
    templates({"a/mail/subject.txt.j2": "hers"}, mail()).check()


def test_a_loader_that_cannot_list_its_templates_is_refused() -> None:
    with pytest.raises(TemplateFailed, match="give a PackageLoader"):
        Templates([FunctionLoader(lambda _: None)], brand=BRAND).check()


@pytest.mark.parametrize(
    ("catalogue", "problem"),
    [
        ("msgid 'Hi'\n", "locale/tr.po:"),
        (TURKISH.replace("Merhaba %(name)s", "Merhaba %(ad)s"), "locale/tr.po:6: 'Hello %(name)s': there is no 'ad'"),
        (TURKISH.replace("Merhaba %(name)s", "Merhaba %(name)"), "locale/tr.po:6: 'Hello %(name)s': incomplete format"),
        (TURKISH.replace("Merhaba %(name)s", "%100 merhaba"), "locale/tr.po:6: 'Hello %(name)s': unsupported format"),
        (TURKISH + '\nmsgid "all"\nmsgstr "%100"\n', "locale/tr.po:9: 'all': incomplete format"),
        (
            TURKISH + '\nmsgid "a"\nmsgid_plural "b"\nmsgstr[0] "c"\nmsgstr[1] "d"\n',
            "locale/tr.po:8: msg has more translations than",
        ),
    ],
)
def test_a_catalogue_that_would_break_mails_is_refused_at_start(catalogue: str, problem: str) -> None:
    with pytest.raises(TemplateFailed) as failed:
        templates(mail(), {"locale/tr.po": catalogue})
    assert str(failed.value).startswith(problem)
