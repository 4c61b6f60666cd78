"""The sockets that systemd holds for the HTTP server (sd_listen_fds(3)): they accept also while no daemon runs."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

from skycap.errors import ConfigurationError

_FIRST = 3
"""After standard input, output and error."""
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def passed_sockets(environ: MutableMapping[str, str] = os.environ) -> tuple[socket.socket, ...]:
    """Take the sockets that were passed to this very process; no child will take them for its own.

    Raises ConfigurationError for what nobody can connect to.
    """
    pid, count, names = (environ.pop(name, "") for name in _VARIABLES)
    # A child that inherited the variables was passed nothing.
    if pid != str(os.getpid()):
        return ()
    labels = names.split(":")
    return tuple(
        _listening(_FIRST + index, labels[index] if index < len(labels) else "") for index in range(int(count or 0))
    )


def _listening(descriptor: int, label: str) -> socket.socket:
    try:
        passed = socket.socket(fileno=descriptor)
        passed.set_inheritable(False)
        if passed.type is socket.SOCK_STREAM and passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return passed
    except OSError:  # such as a pipe
        pass
    raise ConfigurationError(
        f"{label or 'the socket unit'}: what systemd passed as descriptor {descriptor} accepts no connections; let the "
        "socket unit have ListenStream= and Accept=no"
    )
