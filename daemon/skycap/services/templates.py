"""Templates: turns a mail's name, a locale and variables into a RenderedMail, and checks every template at start."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import css_inline
import structlog
from jinja2 import BaseLoader, DictLoader, Environment, TemplateError, TemplateNotFound, TemplateSyntaxError, nodes

from skycap.context import Log
from skycap.errors import TemplateFailed
from skycap.services.environments import SOURCE_LANGUAGE, NamedByTemplate, environments, listed
from skycap.services.message import Document, RenderedMail

_log: Log = structlog.get_logger(__name__)

SUBJECT, TEXT, HTML = "subject.txt.j2", "body.txt.j2", "body.html.j2"
"""The three templates of a mail; what else lies in its folder is its own business, except the next two."""

FACTS = "facts.txt.j2"
"""What the mail says, put together once: the others know what it sets as ``mail`` (``mail.headline``)."""

ATTACHMENTS = "attachments"
"""Each template in this folder of a mail makes a file of its name: ``attachments/booking.ics.j2``, a booking.ics."""

_PARTS = (SUBJECT, TEXT, HTML)

# What an expression in a template can raise; MemoryError and its like are no template's fault.
_PROBLEMS = (TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)

_Reference = nodes.Extends | nodes.Include | nodes.Import | nodes.FromImport

# No guest means these and no mail program expects them. Line feeds and tabs stay, except in a subject.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_NOT_IN_A_SUBJECT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_BLANK_LINES = re.compile(r"\n(?:[ \t]*\n){2,}")


class Templates:
    """Renders the mails of all plugins; several threads may render at once.

    ``loaders`` are asked in order, for templates and for ``locale/LOCALE.po`` alike. ``brand`` has what BrandSettings
    has; its ``logo`` is what an ``img`` shows, or blank. ``locales`` are all that have a catalogue. A file in
    ``overrides`` takes the place of the shipped one of the same name, if it can be used; such files are an admin's, not
    an installed package's, and so run in a sandbox. Raises TemplateFailed for a broken catalogue.
    """

    def __init__(
        self,
        loaders: Sequence[BaseLoader],
        *,
        brand: Mapping[str, str],
        locales: Sequence[str] | None = None,
        overrides: Path | None = None,
    ) -> None:
        self._loaders = loaders
        self._brand = brand
        self._locales = locales
        self.refused: dict[str, str] = {}
        """The overrides that cannot be used, by name, and why."""
        self._inliner = css_inline.CSSInliner(load_remote_stylesheets=False, keep_at_rules=True)
        self._stock = self._stock_with_what_works_of({} if overrides is None else self._read(overrides))

    @property
    def overridden(self) -> int:
        """How many files of the admin's take the place of others."""
        return self._stock.overridden

    @property
    def locales(self) -> tuple[str, ...]:
        """The locales that a mail can be written in, English first."""
        return tuple(self._stock.environments)

    def render(self, template: str, *, locale: str | None, variables: Mapping[str, object]) -> RenderedMail:
        """The mail ``template`` (``bookings/confirmation``) in ``locale``, or the nearest: tr-TR, tr, en.

        Raises TemplateFailed, naming template, line and problem, rather than return half a mail.
        """
        stock = self._stock
        tag = stock.nearest(locale)
        environment = stock.environments[tag]
        if template in stock.with_facts:
            variables = {**variables, "mail": stock.module(environment, f"{template}/{FACTS}", variables)}
        return RenderedMail(
            subject=_one_line(stock.rendered(environment, f"{template}/{SUBJECT}", variables), template),
            text=_plain(stock.rendered(environment, f"{template}/{TEXT}", variables)),
            html=self._inlined(stock.rendered(environment, f"{template}/{HTML}", variables), template),
            locale=tag,
            documents=tuple(_documents(stock, environment, template, variables)),
        )

    def page(self, template: str, *, locale: str | None, variables: Mapping[str, object]) -> str:
        """The HTML of one template (``unsubscribe/page.html.j2``) that is shown in a browser."""
        stock = self._stock
        return _plain(stock.rendered(stock.environments[stock.nearest(locale)], template, variables))

    def check(self) -> None:
        """Compile every template, and see that what they extend and include is there.

        Raises TemplateFailed for the first problem, and for a mail that lacks one of its three templates.
        """
        self._stock.check()

    def _stock_with_what_works_of(self, overrides: dict[str, str]) -> _Stock:
        while overrides:
            stock = None
            try:
                stock = self._stock_with(overrides)
                stock.check()
            except TemplateFailed as error:
                # The problem may show in a shipped template that extends the broken one.
                name = _blamed(str(error), overrides)
                self._refuse(name, str(error))
                del overrides[name]
            else:
                return stock
        return self._stock_with({})

    def _refuse(self, name: str, problem: str) -> None:
        _log.error("template override refused; the shipped one stays", template=name, problem=problem)
        self.refused[name] = problem

    def _read(self, folder: Path) -> dict[str, str]:
        """The templates and catalogues in ``folder``, which need not exist; one that is no text is left out."""
        found: dict[str, str] = {}
        for file in sorted((*folder.rglob("*.j2"), *folder.glob("locale/*.po"))):
            name = file.relative_to(folder).as_posix()
            try:
                found[name] = file.read_text("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                self._refuse(name, str(error))
        return found

    def _stock_with(self, overrides: Mapping[str, str]) -> _Stock:
        loader = NamedByTemplate([DictLoader(overrides), *self._loaders] if overrides else self._loaders)
        return _Stock(
            overridden=len(overrides),
            loader=loader,
            environments=environments(loader, brand=self._brand, locales=self._locales, is_sandboxed=bool(overrides)),
        )

    def _inlined(self, html: str, template: str) -> str:
        try:
            inlined = self._inliner.inline(_plain(html))
        except css_inline.InlineError as error:
            raise TemplateFailed(f"{template}/{HTML}: the styles cannot be inlined: {error}") from error
        # What is kept of the styles now comes first, and a browser looks for the charset in 1,024 bytes only.
        return inlined.replace("<head>", '<head><meta charset="utf-8">', 1)


@dataclass(frozen=True, kw_only=True)
class _Stock:
    """All templates as they were read once."""

    overridden: int
    loader: NamedByTemplate
    environments: Mapping[str, Environment]

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(name for name in listed(self.loader) if name.endswith(".j2"))

    @cached_property
    def attachments(self) -> dict[str, list[str]]:
        """Mail → file names of the templates of its attachments."""
        return _attachments(self.names)

    @cached_property
    def with_facts(self) -> frozenset[str]:
        """The mails that have FACTS."""
        return frozenset(name.removesuffix(f"/{FACTS}") for name in self.names if name.endswith(f"/{FACTS}"))

    def nearest(self, locale: str | None) -> str:
        offered = {tag.casefold(): tag for tag in self.environments}
        wanted = (locale or "").replace("_", "-").casefold()
        while wanted:
            if wanted in offered:
                return offered[wanted]
            wanted = wanted.rpartition("-")[0]
        return SOURCE_LANGUAGE

    def rendered(self, environment: Environment, name: str, variables: Mapping[str, object]) -> str:
        try:
            return environment.get_template(name).render(variables)
        except _PROBLEMS as error:
            raise self._failure(error, name, environment) from error

    def module(self, environment: Environment, name: str, variables: Mapping[str, object]) -> object:
        """What a template sets, as attributes."""
        try:
            return environment.get_template(name).make_module(dict(variables))
        except _PROBLEMS as error:
            raise self._failure(error, name, environment) from error

    def check(self) -> None:
        """See Templates.check."""
        # One locale is enough: the others differ in what messages and formats say when a mail is rendered. Compiling a
        # template takes milliseconds, which the first mail in a further locale pays.
        environment = self.environments[SOURCE_LANGUAGE]
        for name in sorted(self.names):
            self._check_template(environment, name)
        for folder in sorted(
            {folder for folder, _, part in (name.rpartition("/") for name in self.names) if part in _PARTS}
        ):
            missing = [part for part in _PARTS if f"{folder}/{part}" not in self.names]
            if missing:
                raise TemplateFailed(f"{folder}: the mail has no {' and no '.join(missing)}")

    def _check_template(self, environment: Environment, name: str) -> None:
        try:
            environment.get_template(name)
            source = self.loader.get_source(environment, name)[0]
            for line, reference in _references(environment.parse(source, name)):
                if reference not in self.names:
                    raise TemplateFailed(f"{name}:{line}: there is no template {reference}")
        except _PROBLEMS as error:
            raise self._failure(error, name, environment) from error

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
        source = self.loader.get_source(environment, name)[0].splitlines()
        return TemplateFailed(f"{name}:{line}: {problem}, in: {source[line - 1].strip()}")


def _documents(
    stock: _Stock, environment: Environment, template: str, variables: Mapping[str, object]
) -> Iterator[Document]:
    """One for each template of an attachment that has anything to say."""
    for name in stock.attachments.get(template, ()):
        source = _plain(stock.rendered(environment, f"{template}/{ATTACHMENTS}/{name}", variables))
        if source.strip():
            yield Document(filename=name.removesuffix(".j2"), source=source)


def _blamed(problem: str, overrides: Mapping[str, str]) -> str:
    """The override that ``problem`` begins with, else the first one: each round must leave one out."""
    return next((name for name in overrides if problem.startswith(f"{name}:")), next(iter(overrides)))


def _attachments(names: Iterable[str]) -> dict[str, list[str]]:
    """Mail → file names of the templates of its attachments, in the order of the alphabet."""
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        mail, folder, file = name.rpartition(f"/{ATTACHMENTS}/")
        if folder and "/" not in file:
            found.setdefault(mail, []).append(file)
    return found


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
