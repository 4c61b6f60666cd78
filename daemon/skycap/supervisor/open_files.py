"""Open files: as many as a daemon with all its clients may need."""

from __future__ import annotations

import resource

OPEN_FILES = 65_536
"""As many as the unit allows."""


def allow_many_connections() -> None:
    """Raise the soft limit.

    A shell's usual 1,024 are used up by as many clients of the HTTP API, and then Redis cannot be reached either.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
