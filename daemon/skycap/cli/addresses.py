"""Mail addresses as commands take them: checked, and never shown."""

from __future__ import annotations

import sys

from skycap.cli.quantities import Typed
from skycap.services.replies import SmtpRefused


def address_of(text: str) -> str:
    """The address as skycap itself would write to it; ``-`` reads it from standard input."""
    from skycap.services.recipient import Recipient

    given = sys.stdin.readline().strip() if text == "-" else text
    try:
        return Recipient.parse(given).address
    except SmtpRefused:
        raise ValueError("this is no mail address of the form name@domain") from None


ADDRESS = Typed("address", address_of)
"""Other users of the machine see the arguments of a command: `-` keeps an address out of them, and of the history."""
