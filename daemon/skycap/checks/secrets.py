"""Secrets: where they lie, and who may read them there."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from skycap.checks.access import problem_of_secret
from skycap.checks.certificates import finding_of_end, moment
from skycap.checks.finding import CannotLook, Finding, misconfigured, ok, warn
from skycap.checks.group import Group
from skycap.checks.installation import Installation
from skycap.settings import Settings


@asynccontextmanager
async def _opened(installation: Installation) -> AsyncGenerator[Installation]:
    yield installation


secrets = Group("secrets", _opened)


@secrets.check
def files(installation: Installation) -> list[Finding]:
    """Every file that a secret was read from is closed to others."""
    settings = installation.require_settings()
    found = sorted({file for origin in settings.secrets().values() if (file := _file_of(origin, settings.config_file))})
    problems = [problem for file in found if (problem := problem_of_secret(file)) is not None]
    return problems or [ok(f"{len(found)} files are closed to others")]


@secrets.check
def variables(installation: Installation) -> Finding:
    """In production no secret is a plain environment variable, which every process of the user can read."""
    settings = installation.require_settings()
    names = sorted({origin for origin in settings.secrets().values() if origin in installation.environ})
    if names and settings.production:
        return warn(
            f"{', '.join(names)}: in the environment, which other processes of this user can read",
            "make each a file in /etc/skycap/credentials (LoadCredential=), or name a file with its _FILE variable",
        )
    return ok("no secret is a plain variable" if not names else f"{len(names)} are plain variables, in development")


@secrets.check
def credentials(installation: Installation) -> list[Finding]:
    """The folder of credentials, and each file in it, is closed to others."""
    folder = installation.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise CannotLook("CREDENTIALS_DIRECTORY is not set")
    try:
        paths = [Path(folder), *sorted(Path(folder).iterdir())]
    except OSError as error:
        return [misconfigured(f"{folder} cannot be read: {error.strerror}", "correct CREDENTIALS_DIRECTORY")]
    problems = [problem for path in paths if (problem := problem_of_secret(path)) is not None]
    return problems or [ok(f"{folder} and {len(paths) - 1} files are closed to others")]


@secrets.check
def keys(installation: Installation) -> list[Finding]:
    """The private keys that settings name (DKIM, TLS) are there, and closed to others."""
    named = [path for name, path in _tls_files(installation.require_settings()) if "key" in name]
    if not named:
        raise CannotLook("no private key is configured")
    problems = [problem for path in named if (problem := problem_of_secret(path)) is not None]
    return problems or [ok(f"{', '.join(map(str, named))}")]


@secrets.check
def authorities(installation: Installation) -> list[Finding]:
    """The files of certificates of authorities can be read, and none ends within 14 days."""
    named = [(name, path) for name, path in _tls_files(installation.require_settings()) if "ca" in name]
    if not named:
        raise CannotLook("the system's authorities are trusted, and no others")
    return [_finding_of_authorities(name, path) for name, path in named]


def _finding_of_authorities(name: str, path: Path) -> Finding:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(path)
    except OSError as error:
        return misconfigured(f"{name}: {path} cannot be used: {error.strerror or 'no certificate'}", "correct it (PEM)")
    ends = [str(certificate.get("notAfter")) for certificate in context.get_ca_certs()]
    if not ends:
        return misconfigured(f"{name}: {path} has no certificate of an authority", "give the authority's own (PEM)")
    return finding_of_end(f"{path}", min(map(moment, ends)))


def _tls_files(settings: Settings) -> Iterator[tuple[str, Path]]:
    """Each under the name of the setting or of the parameter of an address."""
    if settings.mail.dkim_key_file is not None:
        yield "mail.dkim_key_file", settings.mail.dkim_key_file
    if settings.smtp.ca_file is not None:
        yield "smtp.ca_file", settings.smtp.ca_file
    addresses = [address for address in (settings.redis.url, settings.database.url) if address is not None]
    for address in addresses:
        for name, value in address.url.query.items():
            if name in {"ssl_keyfile", "sslkey", "ssl_ca_certs"}:
                yield name, Path(value)
            elif name == "sslrootcert" and value != "system":
                yield "ca (sslrootcert)", Path(value)


def _file_of(origin: str, config_file: Path | None) -> Path | None:
    """The file that an origin names: the configuration, a credential, or that of a ``_FILE`` variable."""
    if config_file is not None and origin == str(config_file):
        return config_file
    if origin.endswith(")"):
        return Path(origin.partition(" (")[2][:-1])
    return Path(origin) if "/" in origin else None
