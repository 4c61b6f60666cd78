"""Tokens: what a caller shows to be let in, and the file that says which there are.

The file has one table for each token, under the name that logs and errors call it by:

    [backend]
    sha256 = ["9f86d081…", "60303ae2…"]     # or one; two while the old token is being replaced
    scopes = ["enqueue", "read"]
    rate = "100/1s"                         # else as http.token_rate says
    expires = 2027-06-30                    # no longer taken from this day on (UTC)

Only SHA-256 is stored. That is right for tokens, unlike for passwords: one has 32 random bytes, which nobody finds
by trying however quick the hash is.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import structlog
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from skycap.errors import ConfigurationError
from skycap.http.scopes import Scope
from skycap.problems import problems_of
from skycap.settings.call_rate import CallRate, call_rate

_log = structlog.get_logger("skycap.http")

PREFIX = "sc_"
_SECRET_BYTES = 32
_LOOK_AGAIN_SECONDS = 1.0
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FOR_OTHERS = 0o006


@dataclass(frozen=True, kw_only=True)
class Token:
    """What the file says of one token. ``rate`` is None where it says none."""

    name: str
    digests: tuple[str, ...]
    scopes: frozenset[Scope]
    rate: tuple[int, timedelta] | None
    expires: date | None

    def is_expired(self) -> bool:
        return self.expires is not None and datetime.now(UTC).date() >= self.expires


class _Table(BaseModel):
    """A token's table in the file."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    sha256: Annotated[
        list[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]],
        BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
        Field(min_length=1, max_length=10),
    ]
    scopes: Annotated[frozenset[Scope], Field(min_length=1)]
    rate: CallRate | None = None
    expires: date | None = None


def new_token() -> str:
    """A token that nobody can guess."""
    return PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def digest_of(token: str) -> str:
    # A header may hold bytes that are no text.
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()


def read_tokens(path: Path) -> list[Token]:
    """The tokens of a file. Raises ConfigurationError with the line and the fix."""
    return tokens_of(_text(path), path)


def tokens_of(text: str, path: Path) -> list[Token]:
    """As ``read_tokens``, for what the file at ``path`` would say."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: {error}; write it as `skycap tokens new` prints it") from error
    return [_token(name, table, text, path) for name, table in tables.items()]


def found(tokens: list[Token], presented: str) -> Token | None:
    """The token that was presented; takes the same time for all that are wrong."""
    digest = digest_of(presented)
    matching = [token for token in tokens for known in token.digests if hmac.compare_digest(known, digest)]
    return matching[0] if matching else None


class TokenFile:
    """The tokens of a file, read again when it has changed; a file that is broken by then changes nothing."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigurationError for a file that cannot be used."""
        self._path = path
        self._seen = _state_of(path)
        self._tokens = read_tokens(path)
        self._look_at = time.monotonic() + _LOOK_AGAIN_SECONDS
        self._warn_of_others()

    def require_one(self) -> None:
        """Raises ConfigurationError when nobody has a token that is taken."""
        if all(token.is_expired() for token in self._tokens):
            raise ConfigurationError(
                f"{self._path}: has no token that is still taken, and http.bind is for other machines; make one with "
                f"`skycap tokens new NAME --scope enqueue --file {self._path}`, or give http.bind an address of this "
                "machine"
            )

    def tokens(self) -> list[Token]:
        """Looks at the file at most once a second."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_AGAIN_SECONDS
            self._look()
        return self._tokens

    def _look(self) -> None:
        state = _state_of(self._path)
        if state == self._seen:
            return
        self._seen = state
        try:
            self._tokens = read_tokens(self._path)
        except ConfigurationError as error:
            _log.error("tokens not read again; the old ones stay", problem=str(error))
            return
        _log.info("tokens read again", tokens=len(self._tokens))
        self._warn_of_others()

    def _warn_of_others(self) -> None:
        if self._seen is not None and self._seen.mode & _FOR_OTHERS:
            _log.warning("others on this machine can read or change the tokens file", fix=f"chmod o-rw {self._path}")


@dataclass(frozen=True, kw_only=True)
class _State:
    """By which a change of the file is seen."""

    inode: int
    modified_ns: int
    size_bytes: int
    mode: int


def _state_of(path: Path) -> _State | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return _State(
        inode=status.st_ino, modified_ns=status.st_mtime_ns, size_bytes=status.st_size, mode=status.st_mode & 0o777
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"{path}: {os.strerror(error.errno or 0)}; it is http.tokens_file, and "
            f"`skycap tokens new NAME --scope enqueue --file {path}` makes one"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: is no text in UTF-8; write it anew") from error


def _token(name: str, table: Any, text: str, path: Path) -> Token:
    if not _NAME.fullmatch(name) or not isinstance(table, Mapping):
        raise ConfigurationError(
            f"{path}: line {_line_of(text, name)}: {name[:64]!r} is no token; write a table [NAME], the name of "
            "letters, digits, - and _"
        )
    try:
        read = _Table.model_validate(table)
    except ValidationError as error:
        problem = problems_of(error)[0]
        line = _line_of(text, name, problem.partition(":")[0].partition(".")[0])
        raise ConfigurationError(f"{path}: line {line}: {name}.{problem}") from None
    return Token(
        name=name,
        digests=tuple(read.sha256),
        scopes=read.scopes,
        rate=None if read.rate is None else call_rate(read.rate),
        expires=read.expires,
    )


def _line_of(text: str, table: str, key: str = "") -> int:
    """Where the key stands, or else the head of its table; 1 for one that is written in some rarer way."""
    head = 1
    is_inside = False
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            is_inside = stripped.partition("]")[0].strip("[ \"'") == table
            head = number if is_inside else head
        elif is_inside and key and stripped.partition("=")[0].strip() == key:
            return number
    return head
