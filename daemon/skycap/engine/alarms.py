"""Alarms: the state of every alarm of the fleet in Redis, and who of the fleet tells of its changes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

from skycap.engine.link import Link
from skycap.engine.policy import milliseconds
from skycap.engine.stored import fields_of, moment, text

Event: TypeAlias = Literal["firing", "reminder", "recovered"]
AlarmState: TypeAlias = Literal["pending", "firing", "recovered"]

_PREFIX = "skycap:{alerts}:"


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What one daemon sees. ``reading`` is JSON's own, kept with the alarm as it is."""

    alarm: str
    is_bad: bool
    held_for: timedelta
    reading: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """One alarm. ``since`` is when it was first seen, ``told_at`` when somebody was last told."""

    name: str
    state: AlarmState
    since: datetime
    fired_at: datetime | None
    recovered_at: datetime | None
    told_at: datetime | None
    reading: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class ClaimedNotice:
    """A change that its holder is now to tell, by every way that is not among ``delivered``.

    ``number`` counts the notices of one alarm; ``tries`` is 1 for the first who tries.
    """

    alarm: Alarm
    claim: int
    event: Event
    number: int
    tries: int
    delivered: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Looked:
    """The newest reading of a rule, whether or not there is an alarm."""

    alarm: str
    at: datetime
    reading: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class AlarmTimes:
    """``grace``: how long a daemon's word that it is bad counts without being said again. ``recover_after``: how long
    it must be over. ``lease``: how long the one who claims a notice has to confirm it.
    """

    grace: timedelta
    recover_after: timedelta
    repeat_after: timedelta
    lease: timedelta


class Alarms:
    """Every method raises Unavailable when Redis cannot be reached."""

    def __init__(self, link: Link, times: AlarmTimes) -> None:
        self._link = link
        self._times = times

    async def watch(self, who: str, seen: Sequence[Observation]) -> list[ClaimedNotice]:
        """Say what one sees; what comes back is claimed, and is to be told and confirmed within the lease."""
        times = self._times
        arguments: list[str | int] = [who]
        arguments += map(milliseconds, (times.grace, times.recover_after, times.repeat_after, times.lease))
        for each in seen:
            arguments += (each.alarm, int(each.is_bad), milliseconds(each.held_for), json.dumps(each.reading))
        reply = await self._link.call("alarms", _PREFIX, "watch", *arguments)
        return [_claimed(*reply[i : i + 3]) for i in range(0, len(reply), 3)]

    async def told(
        self, notice: ClaimedNotice, delivered: Iterable[str], *, is_done: bool, again_in: timedelta = timedelta(0)
    ) -> bool:
        """Confirm a notice; False when its lease has run out and somebody else has it.

        Unless it ``is_done``, whoever looks after ``again_in`` tries the ways that are not among ``delivered``.
        """
        ways = " ".join(sorted(delivered))
        arguments = (notice.alarm.name, notice.claim, int(is_done), ways, milliseconds(again_in))
        return bool(await self._link.call("alarms", _PREFIX, "told", *arguments))


async def alarms_now(link: Link) -> tuple[list[Alarm], list[Looked]]:
    """All alarms that are not simply well, and the newest readings; each by name."""
    raw_alarms, raw_looked = await link.pipeline([("HGETALL", f"{_PREFIX}alarms"), ("HGETALL", f"{_PREFIX}looked")])
    alarms = [_alarm(name, json.loads(state)) for name, state in sorted(fields_of(raw_alarms).items())]
    looked = [_looked(name, json.loads(entry)) for name, entry in sorted(fields_of(raw_looked).items())]
    return alarms, looked


def _claimed(name: bytes, claim: int, state: bytes) -> ClaimedNotice:
    document = json.loads(state)
    notice = document["notice"]
    return ClaimedNotice(
        alarm=_alarm(text(name), document),
        claim=claim,
        event=notice["event"],
        number=notice["number"],
        tries=notice["tries"],
        delivered=frozenset(notice["delivered"].split()),
    )


def _alarm(name: str, document: Mapping[str, Any]) -> Alarm:
    return Alarm(
        name=name,
        state=document["state"],
        since=moment(document["since"]),
        fired_at=_moment_or_none(document.get("fired_at")),
        recovered_at=_moment_or_none(document.get("recovered_at")),
        told_at=_moment_or_none(document.get("told_at")),
        reading=json.loads(document["reading"]),
    )


def _looked(name: str, entry: Mapping[str, Any]) -> Looked:
    return Looked(alarm=name, at=moment(entry["at"]), reading=json.loads(entry["reading"]))


def _moment_or_none(value: int | None) -> datetime | None:
    return None if value is None else moment(value)
