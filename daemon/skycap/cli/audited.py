"""Marks the commands that change something: each run is written into the audit log, whatever comes of it."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar, cast

import click

from skycap.cli.installation import settings_in_use
from skycap.cli.quantities import duration_text, rate_text
from skycap.engine.policy import Rate
from skycap.errors import SkycapError, Unavailable
from skycap.exits import Exit
from skycap.observe import logs

if TYPE_CHECKING:
    from skycap.engine.audit import Action, Outcome

_F = TypeVar("_F", bound=Callable[..., Any])

_NEVER_LOGGED_IN = 2**32 - 1
"""The login of a process that no login began (credentials(7)): a service, or a container's."""

Options = Mapping[str, Any]


def audited(
    action: str,
    *,
    target: str | Callable[[Options], str],
    asked: Sequence[str] = (),
    when: Callable[[Options], bool] = lambda _: True,
) -> Callable[[_F], _F]:
    """Marks a command as an action, such as ``queue.pause``; stands directly above the function.

    ``target`` is the parameter that names of what, or makes it of all parameters; ``asked`` are those that say how:
    no payloads, no addresses. ``when`` it changes something.
    """

    def mark(command: _F) -> _F:
        @wraps(command)
        def run(*args: Any, **options: Any) -> Any:
            from skycap.engine.audit import Action

            outcome: Outcome = "failed"
            code: int = Exit.INTERNAL
            is_redis_away = False
            try:
                result = command(*args, **options)
                code = result if isinstance(result, int) else Exit.DONE
                outcome = "done" if code == Exit.DONE else "refused"
            except click.ClickException:
                outcome, code = "refused", Exit.USAGE
                raise
            except SkycapError as error:
                outcome, code = "refused", error.exit_code
                if isinstance(error, Unavailable):
                    outcome, is_redis_away = "failed", error.dependency == "redis"
                raise
            except (KeyboardInterrupt, click.Abort):
                code = Exit.INTERRUPTED
                raise
            finally:
                if when(options):
                    named = options[target] if isinstance(target, str) else target(options)
                    done = Action(
                        action=action,
                        target=_plain(named),
                        who=_who(),
                        via="cli",
                        outcome=outcome,
                        code=None if code == Exit.DONE else f"EXIT_{int(code)}",
                        asked={name: _plain(options[name]) for name in asked if options[name] not in _NOT_GIVEN},
                    )
                    _note(done, is_redis_away=is_redis_away)
            return result

        run.__dict__["audited"] = action
        return cast("_F", run)

    return mark


_NOT_GIVEN: tuple[Any, ...] = (None, False, ())


def _note(action: Action, *, is_redis_away: bool) -> None:
    """Into the log of the system, and into Redis if there is one. What cannot be noted was done all the same."""
    from skycap.engine.audit import tell

    logs.to_syslog("skycap.audit")
    settings = settings_in_use()
    url = None if settings is None else settings.redis.url
    if url is None or is_redis_away:
        tell(action)
        return
    asyncio.run(_stored(url.unmasked, action))


async def _stored(url: str, action: Action) -> None:
    from skycap.engine.audit import AuditLog
    from skycap.engine.link import Link

    link = Link.to(url)
    try:
        await AuditLog(link).note(action)
    finally:
        await link.close()


def _who() -> str:
    """The system's user; where that is another one than who logged in, as with sudo, both: ``ada as root``."""
    user = os.geteuid()
    try:
        login = int(Path("/proc/self/loginuid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        login = _NEVER_LOGGED_IN
    return _name(user) if login in {user, _NEVER_LOGGED_IN} else f"{_name(login)} as {_name(user)}"


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def _is_several(value: Any) -> TypeGuard[tuple[Any, ...]]:
    return isinstance(value, tuple)


def _plain(value: Any) -> Any:
    """As somebody would type it."""
    if _is_several(value):
        return ", ".join(str(_plain(each)) for each in value)
    match value:
        case timedelta():
            return duration_text(value)
        case datetime():
            return value.isoformat()
        case Rate():
            return rate_text(value)
        case Enum():
            return str(value.value)
        case _:
            return value
