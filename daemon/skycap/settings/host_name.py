"""HostName: a name of the HTTP server as settings give it."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from skycap.settings.masking import quoted

_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def host_name(text: str) -> str:
    """``text`` if it is the name or the address (v4) of a host and nothing more, else ValueError."""
    if not _NAME.fullmatch(text):
        raise ValueError(f"{quoted(text)} is no name of a host; write it without scheme and port, as jobs.example.com")
    return text.lower()


HostName = Annotated[str, AfterValidator(host_name)]
