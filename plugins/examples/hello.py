"""The smallest plugin: try it with ``skycap run --embedded --plugins-dir plugins/examples``."""

from skycap import Context, Payload, Plugin

plugin = Plugin("hello")


class Hello(Payload, kind="say-hello"):
    name: str


@plugin.job()
async def say_hello(ctx: Context, payload: Hello) -> str:
    ctx.log.info("hello")
    return f"Hello, {payload.name}!"
