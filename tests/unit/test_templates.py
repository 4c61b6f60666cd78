"""How templates become mails, in the reader's language."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier

import pytest
from jinja2 import DictLoader

from skycap.errors import ConfigurationError, TemplateFailed
from skycap.services.message import Document, RenderedMail
from skycap.services.templates import Templates
from tests.support.mails import BRAND, booking, confirmation_mail
from tests.support.templates import TURKISH, mail, render, templates


@pytest.mark.parametrize(
    ("wanted", "text", "locale"),
    [
        ("tr", "Merhaba Ada\n", "tr"),
        ("tr-TR", "Merhaba Ada\n", "tr"),
        ("tr_TR", "Merhaba Ada\n", "tr"),
        ("TR", "Merhaba Ada\n", "tr"),
        ("en-GB", "Hello Ada\n", "en"),
        ("de", "Hello Ada\n", "en"),
        ("", "Hello Ada\n", "en"),
        (None, "Hello Ada\n", "en"),
        ("nonsense-_-", "Hello Ada\n", "en"),
    ],
)
def test_a_mail_is_in_the_nearest_language_that_there_is(wanted: str | None, text: str, locale: str) -> None:
    source = mail(text="{% trans %}Hello {{ name }}{% endtrans %}") | {"locale/tr.po": TURKISH}
    found = render(source, wanted, name="Ada")
    assert (found.text, found.locale) == (text, locale)


def test_a_language_without_a_catalogue_is_not_half_spoken() -> None:
    found = render(mail(text="{{ amount|money('TRY') }} {{ lang }}"), "tr", amount=Decimal(5))
    assert (found.locale, found.text) == ("en", "TRY\u00a05.00 en\n")


def test_a_region_adds_to_the_catalogue_of_its_language() -> None:
    cypriot = TURKISH.replace("Hello %(name)s", "Bye").replace("Merhaba %(name)s", "Hoşça kal")
    source = mail(text="{{ _('Hello %(name)s', name=name) }} {{ _('Bye') }}")
    found = templates(source | {"locale/tr.po": TURKISH, "locale/tr_CY.po": cypriot}, locales=("tr", "tr-CY"))
    assert found.locales == ("en", "tr", "tr-CY")
    assert found.render("a/mail", locale="tr-CY", variables={"name": "Ada"}).text == "Merhaba Ada Hoşça kal\n"


def test_an_arabic_mail_runs_from_right_to_left() -> None:
    source = mail(html='<p dir="{{ dir }}" lang="{{ lang }}">x</p>') | {"locale/ar.po": TURKISH}
    arabic = templates(source, locales=("ar",))
    assert '<p dir="rtl" lang="ar">' in arabic.render("a/mail", locale="ar", variables={}).html
    assert '<p dir="ltr" lang="en">' in arabic.render("a/mail", locale="en", variables={}).html


def test_a_locale_that_does_not_exist_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="locale 'turkish'"):
        templates(mail(), locales=("turkish",))


def test_two_languages_at_once_do_not_mix() -> None:
    start = Barrier(4)

    def write(locale: str) -> list[RenderedMail]:
        start.wait()
        return [confirmation_mail(booking(), locale=locale) for _ in range(25)]

    with ThreadPoolExecutor(4) as threads:
        written = list(threads.map(write, ["tr", "en", "tr", "en"]))
    for locale, mails in zip(["tr", "en", "tr", "en"], written, strict=True):
        assert mails == [confirmation_mail(booking(), locale=locale)] * 25


def test_the_first_loader_that_has_a_template_or_a_translation_wins() -> None:
    hers = {"a/mail/subject.txt.j2": "{{ _('Hello %(name)s', name='Ada') }}", "locale/tr.po": TURKISH}
    hers["locale/tr.po"] = TURKISH.replace("Merhaba", "Selam")
    ours = mail(subject="ours", text="{{ _('Bye') }}")
    ours["locale/tr.po"] = TURKISH + '\nmsgid "Bye"\nmsgstr "Hoşça kal"\n'
    found = templates(hers, ours).render("a/mail", locale="tr", variables={})
    assert (found.subject, found.text) == ("Selam Ada", "Hoşça kal\n")


def test_html_is_escaped_and_text_is_not() -> None:
    found = render(mail("{{ x }}", "{{ x }}", "<p title='{{ x }}'>{{ x }}</p>"), x='<b>"O\'Brien" & co</b>')
    assert found.subject == '<b>"O\'Brien" & co</b>'
    assert found.text == '<b>"O\'Brien" & co</b>\n'
    assert "<b>" not in found.html.replace('title="<b>', "")
    assert '&lt;b&gt;"O\'Brien" &amp; co&lt;/b&gt;</p>' in found.html


def test_styles_are_written_onto_the_elements_and_media_rules_are_kept() -> None:
    found = render(mail(html="<style>p { color: red } @media print { p { color: black } }</style><p>Hi</p>"))
    assert re.search(r'<p style="color: red;?">Hi</p>', found.html)
    assert "@media print { p { color: black } }" in found.html
    assert "p { color: red }" not in found.html
    assert found.html.index("charset") < found.html.index("@media")


def test_no_stylesheet_is_fetched() -> None:
    # Nothing listens there: a fetch would be an error.
    assert render(mail(html='<link rel="stylesheet" href="http://127.0.0.1:9/a.css"><p>Hi</p>')).html


def test_control_characters_are_dropped_and_blank_lines_are_few() -> None:
    found = render(mail(text="{{ x }}\n\n \n\nEnd", html="<p>{{ x }}</p>"), x="a\x00\x1b\x85\ud800b\r\nc\rd\te")
    assert found.text == "ab\nc\nd\te\n\nEnd\n"
    assert "<p>ab\nc\nd\te</p>" in found.html


@pytest.mark.parametrize("evil", ["\n", "\r", "\x00", "\t", "\x7f", "\x9f", "\u2028", "\u2029", "\ud800"])
def test_a_subject_is_one_line(evil: str) -> None:
    with pytest.raises(TemplateFailed, match=rf"^a/mail/subject\.txt\.j2: U\+{ord(evil):04X} in the subject"):
        render(mail(subject="for {{ name }}"), name=f"Ada{evil}Bcc: all@example.com")


def test_an_empty_subject_is_refused() -> None:
    with pytest.raises(TemplateFailed, match=r"^a/mail/subject\.txt\.j2: the subject is empty$"):
        render(mail(subject="{% if false %}x{% endif %}\n"))


def test_what_a_mail_says_is_put_together_once() -> None:
    counted: list[int] = []

    def count() -> int:
        counted.append(1)
        return len(counted)

    source = mail(text="{{ mail.number }}", html="<p>{{ mail.number }}</p>", subject="{{ mail.number }}")
    facts = {"a/mail/facts.txt.j2": "{% set number = count() %}"}
    made = render(source | facts, count=count)
    assert (made.subject, made.text) == ("1", "1\n")
    assert "<p>1</p>" in made.html


def test_each_template_in_the_folder_attachments_makes_a_file_unless_it_is_blank() -> None:
    files = {
        "a/mail/attachments/notes.txt.j2": "{{ _('Hello %(name)s', name='Ada') }}",
        "a/mail/attachments/nothing.txt.j2": "{% if false %}x{% endif %}\n",
    }
    made = templates(mail() | files, {"locale/tr.po": TURKISH}).render("a/mail", locale="tr", variables={})
    assert made.documents == (Document(filename="notes.txt", source="Merhaba Ada\n"),)


def test_every_language_that_has_a_catalogue_is_offered() -> None:
    catalogues = {f"locale/{name}.po": TURKISH for name in ("tr", "de", "pt_BR")}
    made = Templates([DictLoader(mail() | catalogues)], brand=BRAND)
    assert sorted(made.locales) == ["de", "en", "pt-BR", "tr"]
    assert made.render("a/mail", locale="pt_br", variables={}).locale == "pt-BR"
