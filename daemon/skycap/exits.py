"""Exit codes, from BSD's sysexits.h; the systemd unit does not restart after CONFIGURATION."""

from enum import IntEnum


class Exit(IntEnum):
    """What a command's exit code says."""

    DONE = 0
    NOT_DONE = 1
    USAGE = 64
    UNAVAILABLE = 69
    INTERNAL = 70
    TRY_AGAIN = 75
    CONFIGURATION = 78
    INTERRUPTED = 130
