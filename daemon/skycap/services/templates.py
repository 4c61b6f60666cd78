"""Templates: turns a mail's name, a locale and variables into a RenderedMail, and checks every template at start."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

import css_inline
from babel import Locale, UnknownLocaleError
from babel.support import Translations
from jinja2 import (
    BaseLoader,
    ChoiceLoader,
    Environment,
    StrictUndefined,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
    nodes,
)
from jinja2.sandbox import ImmutableSandboxedEnvironment

from skycap.errors import ConfigurationError, TemplateFailed
from skycap.services.catalogues import read_catalogue
from skycap.services.formats import Formats
from skycap.services.message import RenderedMail

SUBJECT, TEXT, HTML = "subject.txt.j2", "body.txt.j2", "body.html.j2"
"""The three templates of a mail; what else lies in its folder is its own business."""

_PARTS = (SUBJECT, TEXT, HTML)

SOURCE_LANGUAGE: Final = "en"
"""What the templates themselves are written in, and what every other locale falls back to."""

# What an expression in a template can raise; MemoryError and its like are no template's fault.
_PROBLEMS = (TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)

_Reference = nodes.Extends | nodes.Include | nodes.Import | nodes.FromImport

# No guest means these and no mail program expects them. Line feeds and tabs stay, except in a subject.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_NOT_IN_A_SUBJECT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_BLANK_LINES = re.compile(r"\n(?:[ \t]*\n){2,}")


class Templates:
    """Renders the mails of all plugins; several threads may render at once.

    ``loaders`` are asked in order, for templates and for ``locale/LOCALE.po`` alike. ``brand`` has ``name``,
    ``website`` and ``support_email``. Of ``locales``, those without a catalogue are not offered, so that a mail
    never has the words of one language and the dates of another. Raises TemplateFailed for a broken catalogue.
    """

    def __init__(
        self, loaders: Sequence[BaseLoader], *, brand: Mapping[str, str], locales: Sequence[str] = ("en", "tr")
    ) -> None:
        self._loader = _NamedByTemplate(loaders)
        # One environment for each locale: nothing that is translated, or cached, can meet another language.
        self._environments: dict[str, Environment] = {}
        for tag in (SOURCE_LANGUAGE, *locales):
            environment = _environment(self._loader, tag, brand)
            if environment is not None:
                self._environments[tag] = environment
        self._inliner = css_inline.CSSInliner(load_remote_stylesheets=False, keep_at_rules=True)

    @property
    def locales(self) -> tuple[str, ...]:
        """The locales that a mail can be written in, English first."""
        return tuple(self._environments)

    def render(self, template: str, *, locale: str | None, variables: Mapping[str, object]) -> RenderedMail:
        """The mail ``template`` (``bookings/confirmation``) in ``locale``, or the nearest: tr-TR, tr, en.

        Raises TemplateFailed, naming template, line and problem, rather than return half a mail.
        """
        tag = self._nearest(locale)
        environment = self._environments[tag]
        return RenderedMail(
            subject=_one_line(self._rendered(environment, f"{template}/{SUBJECT}", variables), template),
            text=_plain(self._rendered(environment, f"{template}/{TEXT}", variables)),
            html=self._inlined(self._rendered(environment, f"{template}/{HTML}", variables), template),
            locale=tag,
        )

    def check(self) -> None:
        """Compile every template in every locale, and see that what they extend and include is there.

        Raises TemplateFailed for the first problem, and for a mail that lacks one of its three templates.
        """
        names = self._names()
        for environment in self._environments.values():
            for name in sorted(names):
                self._check_template(environment, name, names)
        for folder in sorted(
            {folder for folder, _, part in (name.rpartition("/") for name in names) if part in _PARTS}
        ):
            missing = [part for part in _PARTS if f"{folder}/{part}" not in names]
            if missing:
                raise TemplateFailed(f"{folder}: the mail has no {' and no '.join(missing)}")

    def _nearest(self, locale: str | None) -> str:
        offered = {tag.casefold(): tag for tag in self._environments}
        wanted = (locale or "").replace("_", "-").casefold()
        while wanted:
            if wanted in offered:
                return offered[wanted]
            wanted = wanted.rpartition("-")[0]
        return SOURCE_LANGUAGE

    def _names(self) -> frozenset[str]:
        try:
            return frozenset(name for name in self._loader.list_templates() if name.endswith(".j2"))
        except TypeError as error:
            raise TemplateFailed(f"{error}; give a PackageLoader, FileSystemLoader or DictLoader") from error

    def _check_template(self, environment: Environment, name: str, names: frozenset[str]) -> None:
        try:
            environment.get_template(name)
            source = self._loader.get_source(environment, name)[0]
            for line, reference in _references(environment.parse(source, name)):
                if reference not in names:
                    raise TemplateFailed(f"{name}:{line}: there is no template {reference}")
        except _PROBLEMS as error:
            raise self._failure(error, name, environment) from error

    def _rendered(self, environment: Environment, name: str, variables: Mapping[str, object]) -> str:
        try:
            return environment.get_template(name).render(variables)
        except _PROBLEMS as error:
            raise self._failure(error, name, environment) from error

    def _inlined(self, html: str, template: str) -> str:
        try:
            inlined = self._inliner.inline(_plain(html))
        except css_inline.InlineError as error:
            raise TemplateFailed(f"{template}/{HTML}: the styles cannot be inlined: {error}") from error
        # What is kept of the styles now comes first, and a browser looks for the charset in 1,024 bytes only.
        return inlined.replace("<head>", '<head><meta charset="utf-8">', 1)

    def _failure(self, error: Exception, name: str, environment: Environment) -> TemplateFailed:
        """``error`` as one line that names the template, the line, the problem and what stands there."""
        if isinstance(error, TemplateSyntaxError):
            return TemplateFailed(f"{error.name or name}:{error.lineno}: {error.message}")
        is_missing = isinstance(error, TemplateNotFound)
        problem = f"there is no template {error}" if is_missing else " ".join(str(error).split())
        place = _last_place(error)
        if place is None:
            return TemplateFailed(f"{name}: {problem}")
        name, line = place
        source = self._loader.get_source(environment, name)[0].splitlines()
        return TemplateFailed(f"{name}:{line}: {problem}, in: {source[line - 1].strip()}")


class _NamedByTemplate(ChoiceLoader):
    """Says ``bookings/confirmation/body.txt.j2`` in tracebacks, where other loaders would say a path, or nothing."""

    load = BaseLoader.load  # ChoiceLoader's own asks the other loaders, and never comes past get_source

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool] | None]:
        source, _, is_fresh = super().get_source(environment, template)
        return source, template, is_fresh


def _environment(loader: ChoiceLoader, tag: str, brand: Mapping[str, str]) -> Environment | None:
    """An environment that speaks ``tag``; None when no loader has its catalogue, and it is not English."""
    try:
        locale = Locale.parse(tag, sep="-")
    except (UnknownLocaleError, ValueError) as error:
        raise ConfigurationError(f"locale {tag!r} is not known: write it like 'tr' or 'pt-BR'") from error
    environment = ImmutableSandboxedEnvironment(
        loader=loader,
        autoescape=_is_html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
        auto_reload=False,  # a mail is made of the templates that were checked at start
    )
    catalogue = read_catalogue(loader.loaders, locale, environment)
    if catalogue is None and locale.language != SOURCE_LANGUAGE:
        return None
    environment.policies["ext.i18n.trimmed"] = True
    # The extension adds this method when it is loaded, which no type checker sees.
    cast("Any", environment).install_gettext_translations(catalogue or Translations(), newstyle=True)
    environment.filters.update(Formats(locale).filters())
    # Jinja's own globals are all that pyright expects in there.
    cast("dict[str, Any]", environment.globals).update(brand=dict(brand), lang=tag, dir=locale.text_direction)
    return environment


def _is_html(name: str | None) -> bool:
    return name is not None and name.endswith(".html.j2")


def _references(template: nodes.Template) -> Iterator[tuple[int, str]]:
    """Line and name of each template that this one names outright; one that it computes is not known before."""
    found: Iterator[_Reference] = template.find_all((nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport))
    for node in found:
        if isinstance(node.template, nodes.Const) and not getattr(node, "ignore_missing", False):
            yield node.lineno, str(node.template.value)


def _last_place(error: Exception) -> tuple[str, int] | None:
    """The template and line at which ``error`` was raised; Jinja writes them into the traceback."""
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    return next(((name, line) for name, line in reversed(places) if name.endswith(".j2") and line), None)


def _one_line(subject: str, template: str) -> str:
    subject = subject.strip()
    if not subject:
        raise TemplateFailed(f"{template}/{SUBJECT}: the subject is empty")
    if found := _NOT_IN_A_SUBJECT.search(subject):
        raise TemplateFailed(f"{template}/{SUBJECT}: U+{ord(found[0]):04X} in the subject, which must be one line")
    return subject


def _plain(text: str) -> str:
    """``text`` without control characters, and with no more than one blank line where conditions left several."""
    text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _BLANK_LINES.sub("\n\n", text).strip() + "\n"
