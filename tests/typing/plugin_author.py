"""What a plugin author's type checker must accept, and, on the lines marked so, refuse.

Never run: mypy and pyright, both strict, read it; an ignore that is not needed is an error to both.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel

from skycap import Context, Payload, Plugin
from skycap.testing import perform


class GreetSettings(BaseModel):
    greeting: str = "Hello"


class OtherSettings(BaseModel):
    volume: int = 1


class Greet(Payload, kind="greet"):
    user_name: str


plugin = Plugin("greet", settings=GreetSettings)


@plugin.job()
async def greet(ctx: Context[GreetSettings], payload: Greet) -> str:
    greeting: str = ctx.settings.greeting
    row = await ctx.db.fetchrow("SELECT 1 AS one")
    if row is not None:
        ctx.log.info("found", one=row["one"])
    message_id: str = await ctx.mailer.send("ada@example.com", "greet/hello", locale="tr", name=payload.user_name)
    await ctx.enqueue(Greet(user_name=message_id))
    return greeting


class Shout(Payload, kind="shout"):
    user_name: str


@plugin.job()
def shout(ctx: Context[GreetSettings], payload: Shout) -> dict[str, str]:
    message_id: str = ctx.run(ctx.mailer.send("ada@example.com", "greet/hello", name=payload.user_name))
    return {"sent": message_id}


plugin.schedule("0 9 * * *", Greet(user_name="Ada"), zone="Europe/Istanbul", catch_up="skip")
plugin.schedule(payload=Greet(user_name="Ada"), every=timedelta(minutes=5), overlap="allow")
plugin.schedule(payload=Greet(user_name="Ada"), at=datetime(2026, 12, 24, 8, tzinfo=UTC))


async def accepted() -> None:
    done = await perform(greet, Greet(user_name="Ada"), settings=GreetSettings())
    print(done.state, done.mails[0].message_id)
    print((await perform(shout, Shout(user_name="Ada"), settings=GreetSettings())).result)


Greet(username="Ada")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # no such field

Greet(user_name=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # wrong type


@plugin.job()  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # a generator
def generator(ctx: Context[GreetSettings], payload: Greet) -> Iterator[str]:
    yield payload.user_name


@plugin.job()  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # no JSON value
def no_json(ctx: Context[GreetSettings], payload: Greet) -> OtherSettings:
    return OtherSettings()


@plugin.job()  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # the settings of another plugin
def other_settings_in_a_thread(ctx: Context[OtherSettings], payload: Greet) -> None: ...


@plugin.job()  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]  # no Payload
async def no_payload(ctx: Context[GreetSettings], payload: GreetSettings) -> None: ...


@plugin.job()  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # the settings of another plugin
async def other_settings(ctx: Context[OtherSettings], payload: Greet) -> None: ...


async def refused(ctx: Context[GreetSettings]) -> None:
    _ = ctx.settings.gretting  # type: ignore[attr-defined]  # pyright: ignore  # misspelt, hence of no known type
    await ctx.mailer.send(template="greet/hello")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # to whom?


GREET = Greet(user_name="Ada")
plugin.schedule("0 9 * * *", GREET, overlap="no")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
