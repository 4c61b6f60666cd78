"""Finding: what a check has to say, and what becomes of the errors that it meets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from skycap.errors import ConfigurationError, SkycapError, Unavailable
from skycap.exits import Exit

_IS_REFUSED = re.compile(r"password is refused|refused the log-in|no database of this name")
"""What the parts of skycap say of a server that is there, and does not know us."""


class Status(StrEnum):
    """``SKIPPED`` is what could not be looked at, or does not apply here."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line that says what is so, and the ``fix`` where something is to be done; neither ever has a secret in it.

    ``exit_code`` is what a failure asks of the command.
    """

    status: Status
    says: str
    fix: str = ""
    exit_code: Exit = Exit.DONE


class CannotLook(Exception):
    """There is nothing to look at here, or no way to: the check is skipped with this reason."""


def ok(says: str) -> Finding:
    return Finding(status=Status.OK, says=says)


def warn(says: str, fix: str) -> Finding:
    return Finding(status=Status.WARN, says=says, fix=fix)


def fail(says: str, fix: str, *, exit_code: Exit = Exit.NOT_DONE) -> Finding:
    return Finding(status=Status.FAIL, says=says, fix=fix, exit_code=exit_code)


def misconfigured(says: str, fix: str) -> Finding:
    return fail(says, fix, exit_code=Exit.CONFIGURATION)


def unreachable(says: str, fix: str) -> Finding:
    return fail(says, fix, exit_code=Exit.UNAVAILABLE)


def skipped(reason: str) -> Finding:
    return Finding(status=Status.SKIPPED, says=reason)


def of_error(error: Exception) -> Finding:
    """What an error that ended a check says of the installation."""
    if isinstance(error, CannotLook):
        return skipped(str(error))
    if not isinstance(error, SkycapError):
        # Its words are somebody else's, and may quote an address.
        problem = f"this check itself failed with {type(error).__name__}"
        return fail(problem, "report it as a bug, with the versions of skycap and of the server")
    says, _, fix = str(error).partition("; ")
    if isinstance(error, Unavailable) and _IS_REFUSED.search(says):
        return misconfigured(says, fix or "correct the user and the password in its address")
    if isinstance(error, Unavailable):
        return unreachable(says, fix or "start it, correct its address, or let this host reach it")
    exit_code = Exit.CONFIGURATION if isinstance(error, ConfigurationError) else Exit.NOT_DONE
    return fail(says, fix or "correct it as it says", exit_code=exit_code)
