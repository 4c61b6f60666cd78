"""Accounts: welcomes a new guest, with information about the account and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from skycap import Context, Payload, Plugin, Sample
from skycap_travel.addresses import MailAddress
from skycap_travel.rows import LANGUAGE_OF_ADDRESS, LANGUAGE_OF_ADDRESS_IN_ANY_CASE, one_line
from skycap_travel.templates import TEMPLATES

# Who registers others' addresses to have advertisements sent to them writes the advertisement where the name goes.
# "St.John" and "J.Smith" are names; a mail program makes a link of "prize.example".
_LIKE_AN_ADDRESS = re.compile(r"[/@]|www\.|\w\.(?:[a-z]{2,}|[A-Z]{2,})(?![a-zA-Z])")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class AccountsSettings(BaseModel):
    """``[plugins.accounts]``. ``locale`` is the language of the welcome when the guest has not chosen one yet."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    locale: Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")] = "tr"


plugin = Plugin("accounts", settings=AccountsSettings, templates=TEMPLATES)


def _one_line(text: str) -> str:
    if _CONTROL.search(text):
        raise PydanticCustomError("one_line", "holds a line break or another control character; write one line")
    return text


class SendWelcomeEmail(Payload, kind="send-welcome-email", queue="email", priority=1):
    """What the backend enqueues when an account was made, maybe before the user's row can be read."""

    user_email: MailAddress
    user_name: Annotated[str, Field(max_length=10_000, repr=False), AfterValidator(_one_line)]


@plugin.job()
async def send_welcome_email(ctx: Context[AccountsSettings], payload: SendWelcomeEmail) -> dict[str, str]:
    language = await ctx.db.fetchval(LANGUAGE_OF_ADDRESS, payload.user_email)
    language = language or await ctx.db.fetchval(LANGUAGE_OF_ADDRESS_IN_ANY_CASE, payload.user_email)
    message_id = await ctx.mailer.send(
        payload.user_email,
        "accounts/welcome",
        key=f"welcome:{payload.user_email}",
        locale=language or ctx.settings.locale,
        on_unknown="resend",
        name=_name(payload.user_name),
        address=payload.user_email,
    )
    return {"messageId": message_id}


@plugin.samples
def samples() -> Iterable[Sample]:
    from skycap_travel import samples

    return samples.accounts()


def _name(written: str) -> str | None:
    """How to greet the guest; None for a blank, and for what is no name but leads somewhere."""
    return None if _LIKE_AN_ADDRESS.search(written) else one_line(written)
