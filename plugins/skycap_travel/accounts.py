"""Accounts: welcomes a new guest, with information about the account and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from skycap import Context, Plugin, Sample
from skycap_travel.payloads.accounts import SendWelcomeEmail
from skycap_travel.rows import LANGUAGE_OF_ADDRESS, LANGUAGE_OF_ADDRESS_IN_ANY_CASE, one_line
from skycap_travel.templates import TEMPLATES

__all__ = ["AccountsSettings", "SendWelcomeEmail", "plugin", "send_welcome_email"]

# Who registers others' addresses to have advertisements sent to them writes the advertisement where the name goes.
# "St.John" and "J.Smith" are names; a mail program makes a link of "prize.example".
_LIKE_AN_ADDRESS = re.compile(r"[/@]|www\.|\w\.(?:[a-z]{2,}|[A-Z]{2,})(?![a-zA-Z])")


class AccountsSettings(BaseModel):
    """``[plugins.accounts]``. ``locale`` is the language of the welcome when the guest has not chosen one yet."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    locale: Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")] = "tr"


plugin = Plugin("accounts", settings=AccountsSettings, templates=TEMPLATES)


@plugin.job(breakers=("email",))
async def send_welcome_email(ctx: Context[AccountsSettings], payload: SendWelcomeEmail) -> dict[str, str]:
    language = await ctx.db.fresh.fetchval(LANGUAGE_OF_ADDRESS, payload.user_email)
    language = language or await ctx.db.fresh.fetchval(LANGUAGE_OF_ADDRESS_IN_ANY_CASE, payload.user_email)
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
