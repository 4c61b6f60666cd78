"""``skycap demo``: a booking confirmation, delivered before your eyes."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skycap.cli.loading import uncollected
from skycap.cli.output import json_option, print_json, print_table
from skycap.demo.daemon import DaemonProcess
from skycap.demo.travel import SAMPLE_BOOKING_ID, SAMPLE_USER_ID

if TYPE_CHECKING:
    from skycap.demo.stage import Delivery, Stage

_KIND = "send-booking-confirmation"
_BOOKING = {
    "bookingId": SAMPLE_BOOKING_ID,
    "userId": SAMPLE_USER_ID,
    "userEmail": "ayse.yilmaz@example.com",
    "bookingType": "HOTEL",
}

_ANOTHER_BOOKING = {
    "bookingId": "cmq1bk0a7000308l4b03k7m2q",
    "userId": "cmq1us0a7000608l4k1enji00",
    "userEmail": "kenji.sato@example.com",
    "bookingType": "HOTEL",
}
"""Of a guest who reads English and pays in yen."""


@click.command
@click.option("--keep", is_flag=True, help="Stay up afterwards, until Ctrl-C, with commands to try.")
@json_option
def demo(keep: bool, as_json: bool) -> None:
    """Start everything that a booking confirmation needs, and deliver one.

    A private Valkey and PostgreSQL, the travel company's tables with sample bookings, a mail server that writes
    what it takes to files, and the daemon itself. Nothing outlives this command but those files.
    """
    asyncio.run(_demo(keep=keep, as_json=as_json))


async def _demo(*, keep: bool, as_json: bool) -> None:
    folder = _folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    daemon = DaemonProcess(folder / "daemon.log", "--config", "/dev/stdin")
    await daemon.spawn()
    with uncollected():
        # Only now, so that the daemon loads at the same time.
        from skycap import discovery
        from skycap.demo.stage import staged

        registry = discovery.load()
    async with staged(folder, daemon, registry, tell=_tell) as stage:
        delivery = await stage.deliver(_KIND, _BOOKING)
        (_show_json if as_json else _show)(stage, delivery)
        if keep:
            await _stay(stage)


def _folder() -> Path:
    checkout = os.environ.get("SKYCAP_CHECKOUT")
    if checkout:
        return Path(checkout, ".skycap", "demo")
    from skycap.settings import Settings

    return Settings().state_dir() / "demo"


def _tell(line: str) -> None:
    click.echo(f"skycap: {line}", err=True)


def _show(stage: Stage, delivery: Delivery) -> None:
    click.echo()
    print_table(
        ("job", "kind", "attempts", "ms"),
        [(delivery.job_id, delivery.kind, delivery.attempts, f"{delivery.milliseconds:.0f}")],
    )
    click.echo(f"\nMessage-ID  {delivery.message_id}")
    click.echo(f"mail        {_short(delivery.file)}")
    click.echo(f"status      {stage.http_url}/")


def _show_json(stage: Stage, delivery: Delivery) -> None:
    print_json(
        {
            "delivered": 1,
            "http": stage.http_url,
            "jobs": [
                {
                    "id": delivery.job_id,
                    "kind": delivery.kind,
                    "state": delivery.state.value,
                    "attempts": delivery.attempts,
                    "milliseconds": round(delivery.milliseconds, 1),
                    "messageId": delivery.message_id,
                    "file": str(delivery.file),
                }
            ],
        }
    )


async def _stay(stage: Stage) -> None:
    command = "./skycap" if "SKYCAP_CHECKOUT" in os.environ else "skycap"
    config = f"--config {shlex.quote(str(_short(stage.config)))}"
    for line in (
        "\nEverything stays up until Ctrl-C. Try, in another terminal:",
        f"  {command} jobs list {config}",
        f"  {command} top {config}",
        f"  {command} enqueue {_KIND} --payload {shlex.quote(json.dumps(_ANOTHER_BOOKING))} {config}",
        f"  curl {stage.http_url}/api/health/ready",
        f"  ls {_short(stage.mails)}",
    ):
        click.echo(line, err=True)
    stop = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    await stop.wait()


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
