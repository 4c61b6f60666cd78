"""From settings and plugins to what each queue allows."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from skycap.engine.link import Link
from skycap.engine.policy import Figures, Limit, QueuePolicy, Rate
from skycap.installation import queues, shared_limits
from skycap.payload import Payload
from skycap.plugin import Plugin
from skycap.registry import Registry
from skycap.settings import Settings, load_settings

CONFIGURATION = """
[queues.email]
fleet_concurrency = 9
order = "lifo"
max_waiting = 100
limits = ["receivers"]

[queues.processing]
limits = ["partner"]

[jobs.send-mail]
rate_max = 3
rate_seconds = 2
limits = ["partner"]

[limits.receivers]
key = "userEmail|domain"
rate_max = 5
[limits.receivers.keys."gmail.com"]
rate_max = 20

[limits.partner]
concurrency = 4
"""

plugin = Plugin("mails")


class SendMail(Payload, kind="send-mail", queue="email", aliases=("mail",)):
    user_email: str


@plugin.job()
async def send_mail(_ctx: Any, _payload: SendMail) -> None: ...


def installed(tmp_path: Path) -> tuple[Settings, Registry, dict[str, QueuePolicy]]:
    file = tmp_path / "skycap.toml"
    file.write_text(CONFIGURATION)
    settings = load_settings(file, environ={})
    registry = Registry()
    registry.add(plugin, name="mails", origin="the test")
    found = queues(Link.to("redis://nowhere"), settings, registry)
    return settings, registry, {queue.name: queue.policy for queue in found}


async def test_a_queue_has_the_figures_of_its_table(tmp_path: Path) -> None:
    _, _, policies = installed(tmp_path)
    email = policies["email"]
    assert (email.fleet_concurrency, email.lifo, email.max_waiting) == (9, True, 100)
    assert email.rate == Rate(max=10, per=timedelta(seconds=1)), "the backend's own, where nothing else is said"


async def test_limits_are_those_of_the_queue_and_of_its_kinds_under_all_their_names(tmp_path: Path) -> None:
    settings, registry, policies = installed(tmp_path)
    kinds = frozenset({"send-mail", "mail"})
    of_kind = Figures(rate=Rate(max=3, per=timedelta(seconds=2)))
    assert policies["email"].limits == (
        Limit(name="kind", key="@kind", own={"send-mail": of_kind, "mail": of_kind}),
        Limit(
            name="receivers",
            key="userEmail",
            shape="domain",
            figures=Figures(rate=Rate(max=5, per=timedelta(seconds=1))),
            own={"gmail.com": Figures(rate=Rate(max=20, per=timedelta(seconds=1)))},
        ),
        Limit(name="partner", figures=Figures(concurrency=4), kinds=kinds, shared=True),
    )
    assert [limit.kinds for limit in policies["processing"].limits] == [None]
    assert shared_limits(settings, registry) == {"partner": ["email", "processing"]}
