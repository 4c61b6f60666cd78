"""What a Redis says of itself (INFO), by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skycap.engine.link import Link
from skycap.errors import Unavailable


async def information(link: Link, *sections: str) -> Mapping[str, str]:
    """Empty where the user may not ask. Raises Unavailable."""
    try:
        reply: Any = await link.command("INFO", *sections)
    except Unavailable as error:
        if "NOPERM" in str(error) or "INFO" in str(error):
            return {}  # what may not be asked cannot be warned of
        raise
    if not isinstance(reply, bytes):
        return {}
    lines = (line.partition(":") for line in reply.decode().splitlines())
    return {name: value for name, colon, value in lines if colon}
