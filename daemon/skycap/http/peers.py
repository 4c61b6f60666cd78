"""Who is at the other end of a unix socket, as the kernel says."""

from __future__ import annotations

import pwd
import socket
import struct

from aiohttp import web

_CREDENTIALS = struct.Struct("3i")
"""Process, user and group (unix(7))."""


def peer_user(request: web.Request) -> str | None:
    """The system's user who asks; None where that is not known, as over TCP."""
    transport = request.transport
    own: socket.socket | None = None if transport is None else transport.get_extra_info("socket")
    if own is None or own.family != socket.AF_UNIX:
        return None
    try:
        _, user, _ = _CREDENTIALS.unpack(own.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    except OSError:
        return None
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:  # of another container, perhaps
        return str(user)
