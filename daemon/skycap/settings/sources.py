"""Where settings come from: each function reads one place into a Layer.

Every one raises InvalidSettings, with all that is wrong in its place, before anything is validated.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skycap.settings.addresses import SUBMISSION_PORT, SUBMISSIONS_PORT
from skycap.settings.invalid import InvalidSettings
from skycap.settings.layers import Layer
from skycap.settings.masking import quoted
from skycap.settings.model import DEFAULT_FILE
from skycap.settings.url import url_text, whole_number
from skycap.settings.variables import is_setting, suggestion, understood, value_of

_SHORT_CREDENTIALS = {
    "redis_url": "SKYCAP_REDIS_URL",
    "cache_url": "SKYCAP_CACHE_URL",
    "database_url": "SKYCAP_DATABASE_URL",
    "direct_url": "SKYCAP_DATABASE_DIRECT_URL",
    "smtp_url": "SKYCAP_SMTP_URL",
    "smtp_password": "SKYCAP_SMTP_PASSWORD",
    "signing_keys": "SKYCAP_SIGNING_KEYS",
}


def command_line(overrides: Mapping[str, object]) -> Layer:
    """Values given by option, under dotted keys: ``{"http.bind": "unix:/run/skycap.sock"}``."""
    layer = Layer()
    for key, value in overrides.items():
        layer.put(tuple(key.split(".")), value, "command line")
    return layer


def environment(environ: Mapping[str, str]) -> Layer:
    """Variables ``SKYCAP_…`` and ``SKYCAP_…_FILE``; an empty one is as good as none."""
    return _layer(
        _Value(variable=name, origin=name, text=text)
        for name, text in sorted(environ.items())
        if is_setting(name) and text
    )


def credentials(environ: Mapping[str, str]) -> Layer:
    """Files in systemd's ``$CREDENTIALS_DIRECTORY``, named like variables; files of other names are passed over."""
    folder = environ.get("CREDENTIALS_DIRECTORY")
    return _layer(_credentials(Path(folder))) if folder else Layer()


def config_file(chosen: Path | None, environ: Mapping[str, str]) -> tuple[Layer, Path | None]:
    """The TOML file and its path: ``chosen``, else what SKYCAP_CONFIG names, else the default one if it exists."""
    named = environ.get("SKYCAP_CONFIG")
    path = chosen or (Path(named) if named else DEFAULT_FILE)
    try:
        text = _text(path, str(path))
    except FileNotFoundError:
        if chosen is None and not named:
            return Layer(), None
        by = "--config" if chosen else "SKYCAP_CONFIG"
        raise InvalidSettings(f"{path}: there is no such file; correct {by}, or create it") from None
    return Layer(values=_toml(text, path), origins={(): str(path)}), path


def backend_lines(environ: Mapping[str, str], above: tuple[Layer, ...]) -> Layer:
    """The lines that the backend's admins already have; an address counts only if no layer ``above`` has it."""
    # A container's --env-file keeps the quotes that a shell or systemd would take off.
    lines = {name: _unquoted(text.strip()) for name, text in environ.items()}
    layer = Layer()
    if lines.get("DATABASE_URL") and not any(other.has(("database", "url")) for other in above):
        layer.put(("database", "url"), lines["DATABASE_URL"], "DATABASE_URL")
        # Only beside its own DATABASE_URL: next to any other address it could be another database.
        if lines.get("DIRECT_URL"):
            layer.put(("database", "direct_url"), lines["DIRECT_URL"], "DIRECT_URL")
    if lines.get("SMTP_HOST") and not any(other.has(("smtp", "url")) for other in above):
        layer.put(("smtp", "url"), _smtp_url(lines), "SMTP_HOST")
    if lines.get("SMTP_FROM"):
        layer.put(("smtp", "sender"), lines["SMTP_FROM"], "SMTP_FROM")
    return layer


def has_upstash_rest(environ: Mapping[str, str]) -> bool:
    """Whether the backend has a cache over REST, which could be taken for a queue server."""
    return bool(environ.get("UPSTASH_REDIS_REST_URL") or environ.get("UPSTASH_REDIS_REST_TOKEN"))


@dataclass(frozen=True, kw_only=True)
class _Value:
    """The text of a variable, and the origin to name when it is wrong."""

    variable: str
    origin: str
    text: str = field(repr=False)

    def put_into(self, layer: Layer) -> None:
        variable = understood(self.variable)
        if variable is None:
            raise InvalidSettings(f"{self.origin}: is no setting of skycap; {suggestion(self.variable)}")
        text, origin = self.text, self.origin
        if variable.from_file:
            text, origin = _secret(Path(self.text), origin), f"{origin} ({self.text})"
        try:
            value = value_of(variable.key, text)
        except ValueError as error:
            raise InvalidSettings(f"{origin}: {'.'.join(variable.key)}: {error}") from None
        layer.put(variable.key, value, origin)


def _layer(values: Iterable[_Value]) -> Layer:
    layer, problems = Layer(), list[str]()
    for value in values:
        try:
            value.put_into(layer)
        except InvalidSettings as error:
            problems += error.problems
    if problems:
        raise InvalidSettings(*problems)
    return layer


def _credentials(folder: Path) -> Iterator[_Value]:
    try:
        files = sorted(folder.iterdir())
    except OSError as error:
        raise InvalidSettings(
            f"CREDENTIALS_DIRECTORY: {folder} cannot be read ({error.strerror}); let systemd set it, or unset it"
        ) from None
    for file in files:
        # LoadCredential=skycap:FOLDER puts skycap_ before the name of each file, the short ones included.
        short = file.name.lower().removeprefix("skycap_")
        variable = _SHORT_CREDENTIALS.get(short, file.name.upper())
        if is_setting(variable):
            yield _Value(variable=variable, origin=str(file), text=_secret(file, str(file)))


def _secret(file: Path, origin: str) -> str:
    where = origin if origin == str(file) else f"{origin}: {file}"
    try:
        text = _text(file, where).strip()
    except FileNotFoundError:
        raise InvalidSettings(f"{where}: there is no such file; correct the path, or create it") from None
    if not text:
        raise InvalidSettings(f"{where}: is empty; write the value into it")
    return text


def _text(file: Path, where: str) -> str:
    """The content of ``file``; raises FileNotFoundError, and InvalidSettings for every other reason."""
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise
    except OSError as error:
        fix = "let the user that runs skycap read it" if isinstance(error, PermissionError) else "correct the path"
        raise InvalidSettings(f"{where}: cannot be read ({error.strerror}); {fix}") from None
    except UnicodeDecodeError as error:
        raise InvalidSettings(f"{where}: byte {error.start} is not UTF-8; save it as UTF-8") from None


def _toml(text: str, file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problem, _, place = str(error).rpartition(" (at ")
        at = re.search(r"line (\d+), column (\d+)", place)
        line, column = at.groups() if at else (str(text.count("\n") + 1), "1")
        raise InvalidSettings(
            f"{file}:{line}: {problem[:1].lower()}{problem[1:]} at column {column}; correct the line"
        ) from None


def _unquoted(text: str) -> str:
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if is_quoted else text


def _smtp_url(lines: Mapping[str, str]) -> str:
    """One address of SMTP_HOST, SMTP_PORT, SMTP_USER and SMTP_PASSWORD; the port decides about TLS."""
    written = lines.get("SMTP_PORT") or str(SUBMISSION_PORT)
    port = whole_number(written)
    if port is None:
        raise InvalidSettings(f"SMTP_PORT: {quoted(written)} is no port; give {SUBMISSION_PORT} or {SUBMISSIONS_PORT}")
    scheme = "smtps" if port == SUBMISSIONS_PORT else "smtp"
    username, password = lines.get("SMTP_USER") or None, lines.get("SMTP_PASSWORD") or None
    return url_text(scheme, lines["SMTP_HOST"], port, username, password)
