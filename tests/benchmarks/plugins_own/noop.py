"""The plugin of scale.py: a job that does nothing, so that only skycap's own work is measured."""

from skycap import Context, Payload, Plugin

plugin = Plugin("noop")


class Noop(Payload, kind="noop", queue="a"):
    number: int


@plugin.job()
async def noop(_: Context, __: Noop) -> None:
    return None
