"""OwnAlarm: the state of an alarm that one daemon keeps for itself, since Redis, which has the others, is away."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from skycap.alerts.notice import Notice, NoticeEvent
from skycap.alerts.rules import Finding


@dataclass(frozen=True, kw_only=True)
class OwnTimes:
    """As the fleet's: how long it must be over, and when it is told again."""

    recover_after: timedelta
    repeat_after: timedelta


class OwnAlarm:
    """``look`` says what is to be told, if anything; it stays to be told until it is ``told``, or over."""

    def __init__(self, times: OwnTimes, *, daemon: str) -> None:
        self._times = times
        self._daemon = daemon
        self._since: timedelta | None = None
        self._since_moment = datetime.now(UTC)
        self._over_since: timedelta | None = None
        self._over_moment = datetime.now(UTC)
        self._is_firing = False
        self._told_at: timedelta | None = None
        self._number = 0
        self._due: tuple[NoticeEvent, int] | None = None

    def look(self, finding: Finding, *, at: timedelta) -> Notice | None:
        """``at`` is by a clock that never steps, as in Figures."""
        if finding.is_bad:
            self._bad(finding, at)
        else:
            self._good(at)
        if self._due is None:
            return None
        event, number = self._due
        return Notice(
            event=event,
            rule=finding.rule,
            subject=finding.subject,
            severity=finding.severity,
            value=finding.value,
            text=f"{finding.text} (seen by daemon {self._daemon}; others may tell the same)",
            since=self._since_moment,
            recovered_at=self._over_moment if event == "recovered" else None,
            number=number,
            daemon=self._daemon,
            is_fleet=False,
        )

    def told(self, notice: Notice, *, at: timedelta) -> None:
        """It has arrived; not so if there is other news by now."""
        if self._due == (notice.event, notice.number):
            self._due, self._told_at = None, at

    def _bad(self, finding: Finding, at: timedelta) -> None:
        self._over_since = None
        if self._since is None:
            self._since, self._since_moment = at, datetime.now(UTC)
        if not self._is_firing and at - self._since >= finding.held_for:
            self._is_firing, self._told_at = True, None
            self._notify("firing")
        elif self._is_firing and self._told_at is not None and at - self._told_at >= self._times.repeat_after:
            self._told_at = at
            self._notify("reminder")

    def _good(self, at: timedelta) -> None:
        if not self._is_firing:
            self._since = None
            return
        self._over_since = at if self._over_since is None else self._over_since
        if at - self._over_since >= self._times.recover_after:
            self._is_firing, self._since, self._over_moment = False, None, datetime.now(UTC)
            self._notify("recovered")

    def _notify(self, event: NoticeEvent) -> None:
        self._number += 1
        self._due = (event, self._number)
