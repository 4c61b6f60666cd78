"""The alarm that a daemon keeps for itself, on a clock of the test's."""

from __future__ import annotations

from datetime import timedelta

from skycap.alerts.notice import Notice
from skycap.alerts.own_alarm import OwnAlarm, OwnTimes
from skycap.alerts.rules import Finding

TIMES = OwnTimes(recover_after=timedelta(seconds=60), repeat_after=timedelta(days=1))


class Diary:
    """What an alarm would have told, with each notice delivered at once or never."""

    def __init__(self, *, delivers: bool = True) -> None:
        self.alarm = OwnAlarm(TIMES, daemon="one")
        self.delivers = delivers

    def at(self, seconds: float, *, is_bad: bool) -> str | None:
        """The event that is due then."""
        notice = self.notice(seconds, is_bad=is_bad)
        if notice is not None and self.delivers:
            self.alarm.told(notice, at=timedelta(seconds=seconds))
        return None if notice is None else notice.event

    def notice(self, seconds: float, *, is_bad: bool) -> Notice | None:
        finding = Finding(
            rule="redis_unreachable",
            subject="",
            is_bad=is_bad,
            value=float(is_bad),
            text="Redis cannot be reached",
            severity="critical",
            held_for=timedelta(seconds=30),
        )
        return self.alarm.look(finding, at=timedelta(seconds=seconds))


def test_it_fires_when_it_has_held_and_recovers_when_it_has_been_over() -> None:
    diary = Diary()
    assert [diary.at(at, is_bad=True) for at in (0, 29, 30, 45)] == [None, None, "firing", None]
    assert [diary.at(at, is_bad=False) for at in (60, 119, 120, 130)] == [None, None, "recovered", None]


def test_what_was_over_in_between_begins_anew() -> None:
    diary = Diary()
    for at, is_bad in ((0, True), (20, False), (25, True), (54, True)):
        assert diary.at(at, is_bad=is_bad) is None
    assert diary.at(55, is_bad=True) == "firing"


def test_one_that_comes_back_soon_is_the_same_alarm() -> None:
    diary = Diary()
    assert [diary.at(at, is_bad=True) for at in (0, 30)] == [None, "firing"]
    assert [diary.at(at, is_bad=at % 2 == 0) for at in range(31, 200)] == [None] * 169


def test_it_is_repeated_once_a_day() -> None:
    diary = Diary()
    days = [diary.at(at, is_bad=True) for at in (0, 30, 86_000, 86_430, 90_000, 172_830)]
    assert days == [None, "firing", None, "reminder", None, "reminder"]


def test_what_did_not_arrive_stays_due_until_there_is_other_news() -> None:
    diary = Diary(delivers=False)
    assert [diary.at(at, is_bad=True) for at in (0, 30, 31, 100_000)] == [None, "firing", "firing", "firing"]
    assert [diary.at(at, is_bad=False) for at in (100_001, 100_061)] == ["firing", "recovered"]


def test_a_second_alarm_is_another_notice() -> None:
    diary = Diary()
    diary.at(0, is_bad=True)
    first = diary.notice(30, is_bad=True)
    assert first is not None
    diary.alarm.told(first, at=timedelta(seconds=30))
    for at, is_bad in ((31, False), (91, False), (100, True)):
        diary.at(at, is_bad=is_bad)
    second = diary.notice(130, is_bad=True)
    assert second is not None
    assert (second.event, second.key == first.key) == ("firing", False)
