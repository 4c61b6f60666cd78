"""The configuration: read, understood, free of contradictions, and meant for where it runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from skycap.checks.access import problem_of_secret
from skycap.checks.finding import CannotLook, Finding, misconfigured, of_error, ok, warn
from skycap.checks.group import Group
from skycap.checks.installation import Installation
from skycap.contradictions import refuse_contradictions
from skycap.errors import ConfigurationError
from skycap.http.scopes import Scope
from skycap.http.tokens import Token, read_tokens
from skycap.settings import InvalidSettings


@asynccontextmanager
async def _opened(installation: Installation) -> AsyncGenerator[Installation]:
    yield installation


configuration = Group("configuration", _opened)


@configuration.check
def read(installation: Installation) -> list[Finding]:
    """The file is there, can be read and parsed, and every key and variable is known."""
    settings = installation.settings
    if isinstance(settings, InvalidSettings):
        return [_in_two(problem) for problem in settings.problems]
    if isinstance(settings, ConfigurationError):
        return [of_error(settings)]
    file = settings.config_file
    return [ok("no file: all of it comes from the environment" if file is None else f"{file} is understood")]


@configuration.check
def contradictions(installation: Installation) -> Finding:
    """Plugins and settings do not contradict each other."""
    settings, registry = installation.require_settings(), installation.require_registry()
    if settings.redis.url is None:
        raise CannotLook("redis.url is not set")
    refuse_contradictions(registry, settings)
    return ok("nothing contradicts")


@configuration.check
def environment(installation: Installation) -> Finding:
    """SKYCAP_ENV is production, and no setting is one for development."""
    settings = installation.require_settings()
    if not settings.production:
        return warn("SKYCAP_ENV is development", "SKYCAP_ENV=production, as the shipped unit sets it")
    if settings.log.level == "debug":
        return warn("log.level is debug in production", 'log.level = "info"')
    if settings.smtp.url is not None and settings.smtp.starttls == "off" and not settings.smtp.url.implicit_tls:
        return warn("smtp.starttls is off in production: mails leave unencrypted", 'smtp.starttls = "required"')
    return ok("production")


@configuration.check
def servers(installation: Installation) -> Finding:
    """The three addresses are set: Redis, PostgreSQL, mail."""
    settings = installation.require_settings()
    settings.require_redis()
    absent = [
        key
        for key, address in (("database.url", settings.database.url), ("smtp.url", settings.smtp.url))
        if address is None
    ]
    if absent:
        return warn(f"{' and '.join(absent)}: not set, and jobs that need it wait", "set it, if there are such jobs")
    return ok("Redis, PostgreSQL and the mail server are named")


@configuration.check
def http(installation: Installation) -> Finding:
    """The HTTP server listens for this host only, or asks for tokens."""
    settings = installation.require_settings()
    bind, tokens_file = settings.http.bind, settings.http.tokens_file
    if not settings.http.enabled:
        return ok("does not listen")
    if not bind.is_local:
        return ok(f"listens on {bind} for other hosts, and asks for tokens")
    if tokens_file is None and not settings.production:
        return ok(f"listens on {bind}; everybody on this host may enqueue")
    return ok(f"listens on {bind}")


@configuration.check
def tokens(installation: Installation) -> list[Finding]:
    """The file of tokens is closed to others, one token has the admin scope, and none has expired."""
    settings = installation.require_settings()
    file = settings.http.tokens_file
    if file is None or not settings.http.enabled:
        raise CannotLook("http.tokens_file is not set")
    known = read_tokens(file)
    problem = problem_of_secret(file)
    found = [*_expired(known), *([] if problem is None else [problem])]
    if not any(Scope.ADMIN in token.scopes and not token.is_expired() for token in known):
        new = f"skycap tokens new NAME --scope admin --file {file}"
        found.append(warn("no token has the admin scope: nobody can act over HTTP", f"{new}, if somebody is to"))
    return found or [ok(f"{len(known)} tokens")]


@configuration.check
def signing(installation: Installation) -> Finding:
    """There is a key where jobs must be signed, as send-email in production."""
    settings, registry = installation.require_settings(), installation.require_registry()
    required = settings.signing.required_kinds(production=settings.production)
    must = sorted(kind for kind in required if registry.find(kind) is not None)
    if settings.signing.verify == "require":
        must = ["every kind"]
    if must and not settings.signing.keys:
        return misconfigured(
            f"signing.keys: there is none, and {', '.join(must)} must be signed: such jobs are dead-lettered",
            "make one with `skycap config signing-key`, and give it here and to whoever enqueues; or set "
            "signing.require_kinds = []",
        )
    if not settings.signing.keys:
        return ok("no job must be signed")
    return ok(f"{len(settings.signing.keys)} keys, {', '.join(must) or 'no kind'} must be signed")


def _expired(known: list[Token]) -> list[Finding]:
    return [
        warn(f"the token {token.name} has expired", "replace it where it is used, and take its table out of the file")
        for token in known
        if token.is_expired()
    ]


def _in_two(problem: str) -> Finding:
    says, _, fix = problem.partition("; ")
    return misconfigured(says, fix or "correct it as it says")
