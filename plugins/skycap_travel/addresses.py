"""Mail addresses in payloads: refused when a job is enqueued, rather than when its mail is to be sent."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, EmailStr, Field
from pydantic_core import PydanticCustomError

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _one_line(text: object) -> object:
    # EmailStr itself would take a line break at the end for a blank, and drop it: whoever sent it should know.
    if isinstance(text, str) and _CONTROL.search(text):
        raise PydanticCustomError("one_line", "holds a line break or another control character; write one address")
    return text


MailAddress = Annotated[EmailStr, Field(max_length=254, repr=False), BeforeValidator(_one_line)]
"""``name@domain``, without a display name; 254 octets are what SMTP carries (RFC 5321 §4.5.3.1.3)."""
