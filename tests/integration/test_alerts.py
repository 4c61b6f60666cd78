"""Alarms of a fleet on a real Redis: each change is told once, whoever looks, dies or disagrees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from skycap.alerts.sources import Sources
from skycap.alerts.telling import Teller
from skycap.alerts.watch import AlertWatch
from skycap.alerts.ways import WebhookWay
from skycap.backoff import fixed
from skycap.engine.alarms import Alarms, AlarmTimes, Observation, alarms_now
from skycap.engine.link import Link
from skycap.engine.queue import Queue
from skycap.engine.standing import standing
from skycap.errors import Unavailable
from skycap.services.webhook import SIGNATURE_HEADER, Webhook, signature
from skycap.settings.alerts import AlertRules
from tests.support.hooks import Hook, hook
from tests.support.redis_servers import redis_server
from tests.support.workers import bench, eventually

AT_ONCE: Mapping[str, Any] = {"breaker_open": {"for_seconds": 0}, "redis_unreachable": {"for_seconds": 0}}
NOTHING = timedelta(0)
PATIENCE = timedelta(seconds=5)


def ms(milliseconds: float) -> timedelta:
    return timedelta(milliseconds=milliseconds)


def times(
    *, recover_after: timedelta = NOTHING, repeat_after: timedelta = PATIENCE * 60, lease: timedelta = PATIENCE
) -> AlarmTimes:
    return AlarmTimes(grace=PATIENCE, recover_after=recover_after, repeat_after=repeat_after, lease=lease)


@dataclass(kw_only=True)
class Fleet:
    """Daemons that share a Redis, a breaker and a webhook."""

    link: Link
    hook: Hook
    state: str = "closed"
    has_redis: bool = True
    pinged: int = 0
    names: list[str] = field(default_factory=list[str])

    def daemon(self, name: str = "one", *, rules: Mapping[str, Any] = AT_ONCE, **options: Any) -> AlertWatch:
        return AlertWatch(
            Sources(queues=[], redis=self.ping, breakers=self.breakers),
            self.link,
            Teller([WebhookWay(Webhook(self.hook.url))], patience=PATIENCE),
            rules=AlertRules.model_validate(rules),
            times=options.pop("times", None) or times(),
            interval=ms(20),
            name=name,
            undelivered=fixed(seconds=0.05, attempts=1),
            **options,
        )

    async def ping(self) -> None:
        if not self.has_redis:
            raise Unavailable("redis", "is away")

    async def breakers(self) -> Mapping[str, str]:
        return {"stripe": self.state}


@pytest.fixture
async def link(redis_url: str) -> AsyncGenerator[Link]:
    link = Link.to(redis_url)
    yield link
    await link.close()


@pytest.fixture
async def fleet(link: Link) -> AsyncGenerator[Fleet]:
    async with hook() as receiver:
        yield Fleet(link=link, hook=receiver)


async def look(*daemons: AlertWatch) -> None:
    """All at once, until nothing is being told any more."""
    await asyncio.gather(*(daemon.look() for daemon in daemons))
    await asyncio.gather(*(daemon.settled() for daemon in daemons))


async def until(hooked: Hook, *events: str, by: AlertWatch) -> None:
    """Look again and again until exactly these have arrived."""

    async def have() -> bool:
        await look(by)
        return hooked.events == [*events]

    await eventually(have)


def seen(*, is_bad: bool = True, held_for: timedelta = NOTHING, rule: str = "breaker_open") -> Observation:
    reading = {"rule": rule, "subject": "stripe", "severity": "warning", "value": 1.0, "text": "breaker stripe is open"}
    return Observation(alarm=f"{rule} stripe", is_bad=is_bad, held_for=held_for, reading=reading)


async def test_three_daemons_that_look_at_once_tell_once(fleet: Fleet) -> None:
    daemons = [fleet.daemon(name) for name in ("one", "two", "three")]
    await look(*daemons)
    assert fleet.hook.events == []
    fleet.state = "open"
    for _ in range(3):
        await look(*daemons)
    assert fleet.hook.events == ["firing"]
    fleet.state = "closed"
    for _ in range(3):
        await look(*daemons)
    assert fleet.hook.events == ["firing", "recovered"]


async def test_a_notice_says_what_how_bad_and_since_when(fleet: Fleet) -> None:
    fleet.state = "open"
    await look(fleet.daemon())
    (document,) = fleet.hook.taken
    assert document | {"since": "", "id": ""} == {
        "version": 1,
        "id": "",
        "event": "firing",
        "rule": "breaker_open",
        "subject": "stripe",
        "severity": "warning",
        "summary": "breaker stripe is open",
        "value": 1.0,
        "since": "",
        "recoveredAt": None,
        "number": 1,
        "daemon": "one",
        "fleet": True,
    }


async def test_every_alarm_is_a_line_of_the_log(fleet: Fleet) -> None:
    fleet.state = "open"
    with capture_logs() as logs:
        await look(fleet.daemon())
        fleet.state = "closed"
        await look(fleet.daemon())
        await look(fleet.daemon())
    fields = ("event", "log_level", "alarm_event", "rule", "subject")
    assert [tuple(line[name] for name in fields) for line in logs] == [
        ("alarm", "warning", "firing", "breaker_open", "stripe"),
        ("alarm", "info", "recovered", "breaker_open", "stripe"),
    ]


async def test_it_must_hold_for_its_time(link: Link) -> None:
    alarms = Alarms(link, times())
    assert await alarms.watch("one", [seen(held_for=PATIENCE * 60)]) == []
    (alarm,), _ = await alarms_now(link)
    assert alarm.state == "pending"
    (claimed,) = await alarms.watch("one", [seen(held_for=ms(0))])
    assert (claimed.event, claimed.alarm.since) == ("firing", alarm.since)


async def test_what_was_over_in_between_begins_anew(link: Link) -> None:
    alarms = Alarms(link, times())
    for is_bad in (True, False):
        assert await alarms.watch("one", [seen(is_bad=is_bad, held_for=PATIENCE * 60)]) == []
    assert (await alarms_now(link))[0] == []


async def test_one_daemon_that_sees_it_is_enough(link: Link) -> None:
    alarms = Alarms(link, times())
    (claimed,) = await alarms.watch("one", [seen()])
    assert await alarms.told(claimed, [], is_done=True)
    assert await alarms.watch("two", [seen(is_bad=False)]) == [], "another one's own figures may be well"
    (recovered,) = await alarms.watch("one", [seen(is_bad=False)])
    assert recovered.event == "recovered"


async def test_one_that_comes_back_soon_is_the_same_alarm(fleet: Fleet) -> None:
    daemon = fleet.daemon(times=times(recover_after=PATIENCE * 60))
    for state in ("open", "closed", "open", "closed", "half open"):
        fleet.state = state
        await look(daemon)
    assert fleet.hook.events == ["firing"]


async def test_a_standing_alarm_is_repeated_and_not_before_its_time(link: Link) -> None:
    once, again = Alarms(link, times()), Alarms(link, times(repeat_after=NOTHING))
    (firing,) = await once.watch("one", [seen()])
    assert await once.told(firing, ["webhook"], is_done=True)
    assert await once.watch("one", [seen()]) == []
    (reminder,) = await again.watch("one", [seen()])
    assert (reminder.event, reminder.number, reminder.alarm.since) == ("reminder", 2, firing.alarm.since)


async def test_a_daemon_that_dies_between_claim_and_telling_is_replaced(fleet: Fleet) -> None:
    fleet.state = "open"
    (claimed,) = await Alarms(fleet.link, times(lease=ms(100))).watch("the dead", [seen()])
    assert claimed.event == "firing"
    await until(fleet.hook, "firing", by=fleet.daemon("heir"))
    assert fleet.hook.taken[0]["daemon"] == "heir"


async def test_who_comes_back_from_the_dead_confirms_nothing(link: Link) -> None:
    alarms = Alarms(link, times(lease=ms(0)))
    (first,) = await alarms.watch("slow", [seen()])
    (second,) = await alarms.watch("heir", [seen()])
    assert (first.number, first.tries, second.number, second.tries) == (1, 1, 1, 2)
    assert not await alarms.told(first, ["webhook"], is_done=True)
    assert await alarms.told(second, ["webhook"], is_done=True)
    assert await alarms.watch("slow", [seen()]) == []


async def test_the_good_news_waits_for_the_bad(link: Link) -> None:
    alarms = Alarms(link, times())
    (firing,) = await alarms.watch("one", [seen()])
    assert await alarms.watch("one", [seen(is_bad=False)]) == []
    assert await alarms.told(firing, ["webhook"], is_done=True)
    (recovered,) = await alarms.watch("one", [seen(is_bad=False)])
    assert recovered.event == "recovered"


async def test_bad_news_while_good_news_is_told_begins_anew_after_it(link: Link) -> None:
    alarms = Alarms(link, times())
    (firing,) = await alarms.watch("one", [seen()])
    assert await alarms.told(firing, ["webhook"], is_done=True)
    (recovered,) = await alarms.watch("one", [seen(is_bad=False)])
    assert await alarms.watch("one", [seen()]) == []
    assert await alarms.told(recovered, ["webhook"], is_done=True)
    (again,) = await alarms.watch("one", [seen()])
    assert (again.event, again.alarm.since >= firing.alarm.since) == ("firing", True)


async def test_a_way_that_failed_is_tried_again_and_the_others_are_not(link: Link) -> None:
    async with hook() as broken, hook() as well:
        broken.answers = [web.Response(status=403), web.Response(status=403)]
        ways = [WebhookWay(Webhook(well.url)), WebhookWay(Webhook(broken.url))]
        ways[1].name = "other"
        fleet = Fleet(link=link, hook=well, state="open")
        daemon = AlertWatch(
            Sources(queues=[], redis=fleet.ping, breakers=fleet.breakers),
            link,
            Teller(ways, patience=PATIENCE),
            rules=AlertRules.model_validate(AT_ONCE),
            times=times(),
            interval=ms(20),
            name="one",
            undelivered=fixed(seconds=0.05, attempts=1),
        )
        await until(broken, "firing", by=daemon)
        assert (len(broken.posted), len(well.posted)) == (3, 1)


# Redis away


async def test_a_daemon_without_redis_tells_on_its_own_and_says_when_it_is_back(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as server, hook() as receiver:
        link = Link.to(server.url)

        async def ping() -> None:
            await link.command("PING")

        daemon = AlertWatch(
            Sources(queues=[], redis=ping),
            link,
            Teller([WebhookWay(Webhook(receiver.url))], patience=PATIENCE),
            rules=AlertRules.model_validate(AT_ONCE),
            times=times(),
            interval=ms(20),
            name="one",
        )
        await look(daemon)
        await server.kill()
        await until(receiver, "firing", by=daemon)
        await look(daemon)
        await server.start()
        await until(receiver, "firing", "recovered", by=daemon)
        await look(daemon)
        await link.close()
    assert receiver.events == ["firing", "recovered"]
    firing = receiver.taken[0]
    assert (firing["rule"], firing["severity"], firing["fleet"]) == ("redis_unreachable", "critical", False)
    assert "others may tell the same" in firing["summary"]


# Figures


async def test_a_queue_says_how_it_stands(redis_url: str) -> None:
    async def fail(_ctx: Any, payload: Any) -> None:
        if payload.text == "bad":
            raise ValueError("no")

    async with bench(redis_url, fail, attempts=2) as place:
        before = await standing(place.queue)
        assert (before.oldest_waiting, before.paused_because) == (None, "")
        jobs = [await place.put("bad"), await place.put("good")]
        async with place.working():
            for job in jobs:
                await place.finished(job)
        now = await standing(place.queue)
        assert (now.completed, now.retried, now.discarded, now.dead) == (1, 1, 1, 1)


@pytest.mark.parametrize("order", ["fifo", "lifo"])
async def test_the_oldest_waiting_job_is_found_behind_those_of_higher_priority(redis_url: str, order: str) -> None:
    async with bench(redis_url) as place:
        if order == "lifo":
            await place.queue.set({"lifo": "1"})
        await place.put("old", priority=90)
        oldest = await standing(place.queue)
        assert oldest.oldest_waiting is not None

        async def has_aged() -> bool:
            await place.put("new", priority=1)
            await place.put("new", priority=90)
            now = await standing(place.queue)
            return now.oldest_waiting is not None and now.oldest_waiting > ms(50)

        await eventually(has_aged)


async def test_a_queue_that_paused_itself_says_why_and_one_that_was_paused_does_not(redis_url: str, link: Link) -> None:
    queue = Queue("tests", link)
    await queue.pause()
    assert (await standing(queue)).paused_because == ""
    await queue.resume()
    await queue.pause("535 refused")
    assert (await standing(queue)).paused_because == "535 refused"
    await queue.resume()
    assert (await standing(queue)).paused_because == ""


# The webhook


async def test_what_is_posted_is_signed() -> None:
    async with hook() as receiver:
        await Webhook(receiver.url, secret="a-long-random-text").post({"a": "ü"}, delivery="x")
        (posted,) = receiver.posted
    at = int(posted.headers[SIGNATURE_HEADER].partition(",")[0].removeprefix("t="))
    assert posted.headers[SIGNATURE_HEADER] == signature(posted.body, "a-long-random-text", at=at)
    assert posted.headers["Skycap-Delivery"] == "x"


async def test_a_redirect_is_not_followed() -> None:
    async with hook() as receiver:
        receiver.answers = [web.Response(status=307, headers={"Location": f"{receiver.url}/elsewhere"})]
        with pytest.raises(Unavailable, match="answered 307"):
            await Webhook(receiver.url).post({}, delivery="x")
        assert [posted.path for posted in receiver.posted] == ["/skycap"]


async def test_a_receiver_that_is_overloaded_is_asked_again_with_the_same_delivery() -> None:
    async with hook() as receiver:
        receiver.answers = [web.Response(status=503)]
        await Webhook(receiver.url, pauses=[ms(1)]).post({"event": "test"}, delivery="x")
        assert [posted.headers["Skycap-Delivery"] for posted in receiver.posted] == ["x", "x"]


async def test_an_address_where_nobody_listens_is_not_repeated() -> None:
    with pytest.raises(Unavailable) as caught:
        await Webhook("http://127.0.0.1:1/topsecret", pauses=()).post({}, delivery="x")
    assert "topsecret" not in str(caught.value)
