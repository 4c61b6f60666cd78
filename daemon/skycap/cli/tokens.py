"""``skycap tokens``: who may use the HTTP API."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skycap.cli.audited import audited
from skycap.cli.options import config_option
from skycap.cli.output import answer, json_option, print_json, print_table
from skycap.errors import ConfigurationError
from skycap.http.scopes import Scope

if TYPE_CHECKING:
    from skycap.http.tokens import Token


_MODE = 0o640
_SCOPES = click.Choice([scope.value for scope in Scope])
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def tokens() -> None:
    """Make and list the tokens of the HTTP API."""


@tokens.command()
@click.argument("name")
@click.option("--scope", "scopes", type=_SCOPES, multiple=True, required=True, help="What it is good for; repeatable.")
@click.option("--rate", help="Requests that a daemon takes with it, as 100/1s; else as http.token_rate says.")
@click.option("--expires", type=click.DateTime(["%Y-%m-%d"]), help="The day (UTC) from which it is no longer taken.")
@click.option("--file", "file", type=_FILE, help="The tokens file, which gets its table; it is made if not there.")
@json_option
@audited("token.new", target="name", asked=("scopes", "rate", "expires"))
def new(
    name: str,
    scopes: tuple[str, ...],
    rate: str | None,
    expires: datetime | None,
    file: Path | None,
    as_json: bool,
) -> None:
    """Make the token NAME. It is printed this once: only its hash is kept.

    Without --file the table to append to the tokens file (http.tokens_file) is printed, too.
    """
    from skycap.http.tokens import new_token, tokens_of

    token = new_token()
    table = _table(name, token, scopes, rate, expires)
    if file is None:
        tokens_of(table, Path("the new table"))
        answer({"name": name, "token": token, "table": table}, token, "", table.rstrip(), as_json=as_json)
        return
    _append(file, name, table)
    answer({"name": name, "token": token, "file": str(file)}, token, as_json=as_json)
    click.echo(f"{file}: added {name}; running daemons take it within a second", err=True)


@tokens.command("list")
@click.option("--file", "file", type=_FILE, help="Instead of http.tokens_file.")
@config_option
@json_option
def list_tokens(file: Path | None, config: Path | None, as_json: bool) -> None:
    """List the tokens by their names; nobody can tell what they are."""
    from skycap.http.tokens import read_tokens

    found = read_tokens(file or _configured_file(config))
    if as_json:
        print_json([_document(token) for token in found])
        return
    rows = [
        (token.name, ", ".join(sorted(token.scopes)), _rate(token), _expiry(token), len(token.digests))
        for token in found
    ]
    print_table(("name", "scopes", "rate", "expires", "secrets"), rows, empty="the file has no token")


def _configured_file(config: Path | None) -> Path:
    from skycap.settings import load_settings

    file = load_settings(config).http.tokens_file
    if file is None:
        raise click.UsageError("http.tokens_file is not set; give --file")
    return file


def _table(name: str, token: str, scopes: tuple[str, ...], rate: str | None, expires: datetime | None) -> str:
    from skycap.http.tokens import digest_of

    quoted = ", ".join(f'"{scope}"' for scope in dict.fromkeys(scopes))
    lines = [f"[{name}]", f'sha256 = "{digest_of(token)}"', f"scopes = [{quoted}]"]
    if rate is not None:
        lines.append(f'rate = "{rate}"')
    if expires is not None:
        lines.append(f"expires = {expires.date().isoformat()}")
    return "\n".join(lines) + "\n"


def _append(file: Path, name: str, table: str) -> None:
    """All at once: a daemon that reads the file meanwhile sees it as it was, or as it will be."""
    from skycap.http.tokens import tokens_of

    before = file.read_text(encoding="utf-8") if file.exists() else ""
    if any(token.name == name for token in tokens_of(before, file)):
        raise click.UsageError(
            f"{file}: has a token {name!r} already; to replace its secret, add a second hash to its sha256, as a list"
        )
    after = f"{before.rstrip()}\n\n{table}" if before.strip() else table
    tokens_of(after, file)
    try:
        _replace(file, after)
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be written: {os.strerror(error.errno or 0)}") from error


def _replace(file: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            _keep_owner(file, descriptor)
            stream.flush()
            os.fsync(descriptor)
        Path(temporary).replace(file)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise


def _keep_owner(file: Path, descriptor: int) -> None:
    if not file.exists():
        os.fchmod(descriptor, _MODE)
        return
    status = file.stat()
    os.fchmod(descriptor, status.st_mode & 0o777)
    if (status.st_uid, status.st_gid) != (os.getuid(), os.getgid()):
        os.fchown(descriptor, status.st_uid, status.st_gid)


def _document(token: Token) -> dict[str, object]:
    return {
        "name": token.name,
        "scopes": sorted(token.scopes),
        "rate": _rate(token),
        "expires": None if token.expires is None else token.expires.isoformat(),
        "secrets": len(token.digests),
    }


def _rate(token: Token) -> str | None:
    return None if token.rate is None else f"{token.rate[0]}/{token.rate[1].total_seconds():g}s"


def _expiry(token: Token) -> str | None:
    if token.expires is None:
        return None
    return f"{token.expires.isoformat()}{' (expired)' if token.is_expired() else ''}"
