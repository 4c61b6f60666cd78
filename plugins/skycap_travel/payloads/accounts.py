"""Payloads of the accounts plugin."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from skycap import Payload
from skycap_travel.addresses import MailAddress

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def _one_line(text: str) -> str:
    if _CONTROL.search(text):
        raise PydanticCustomError("one_line", "holds a line break or another control character; write one line")
    return text


class SendWelcomeEmail(Payload, kind="send-welcome-email", queue="email", priority=1):
    """What the backend enqueues when an account was made, maybe before the user's row can be read."""

    user_email: MailAddress
    user_name: Annotated[str, Field(max_length=10_000, repr=False), AfterValidator(_one_line)]
