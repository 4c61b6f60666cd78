"""Notice: what is told of an alarm, and in which shape programs get it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from skycap.alerts.rules import Finding
from skycap.engine.alarms import ClaimedNotice
from skycap.settings.alerts import Severity

VERSION = 1
"""Of the document. A field may be added to it; none is renamed, or left out."""

NoticeEvent: TypeAlias = Literal["firing", "reminder", "recovered", "test"]


@dataclass(frozen=True, kw_only=True)
class Notice:
    """One change of one alarm. ``is_fleet`` is False when a daemon tells on its own, and others may tell the same."""

    event: NoticeEvent
    rule: str
    subject: str
    severity: Severity
    value: float
    text: str
    since: datetime
    recovered_at: datetime | None = None
    number: int = 1
    daemon: str
    is_fleet: bool = True

    @property
    def key(self) -> str:
        """What it means: the same for whoever tells it, and another one for the next change."""
        since_ms = round(self.since.timestamp() * 1000)
        whose = "" if self.is_fleet else f":{self.daemon}"
        return f"alert:{self.rule}:{self.subject}:{since_ms}:{self.event}-{self.number}{whose}"

    @property
    def title(self) -> str:
        """One line, for a subject or a list."""
        about = f"{self.rule.replace('_', ' ')}{f' ({self.subject})' if self.subject else ''}"
        return f"[{self.word}] {about}"

    @property
    def word(self) -> str:
        return {"firing": self.severity, "reminder": f"still {self.severity}"}.get(self.event, self.event)

    def document(self) -> dict[str, Any]:
        """What a webhook is sent. Moments are UTC, in ISO 8601."""
        return {
            "version": VERSION,
            "id": self.key,
            "event": self.event,
            "rule": self.rule,
            "subject": self.subject,
            "severity": self.severity,
            "summary": self.text,
            "value": self.value,
            "since": _iso(self.since),
            "recoveredAt": None if self.recovered_at is None else _iso(self.recovered_at),
            "number": self.number,
            "daemon": self.daemon,
            "fleet": self.is_fleet,
        }

    def fields(self) -> dict[str, object]:
        """What a line of the log says of it."""
        return {
            "alarm_event": self.event,
            "rule": self.rule,
            "subject": self.subject,
            "severity": self.severity,
            "value": self.value,
            "text": self.text,
            "since": _iso(self.since),
        }


def reading_of(finding: Finding) -> dict[str, Any]:
    """What is kept with an alarm in Redis."""
    return {
        "rule": finding.rule,
        "subject": finding.subject,
        "severity": finding.severity,
        "value": round(finding.value, 4),
        "text": finding.text,
    }


def notice_of(claimed: ClaimedNotice, *, daemon: str) -> Notice:
    """The notice that this daemon has claimed."""
    alarm, reading = claimed.alarm, claimed.alarm.reading
    return Notice(
        event=claimed.event,
        rule=reading["rule"],
        subject=reading["subject"],
        severity=reading["severity"],
        value=reading["value"],
        text=reading["text"],
        since=alarm.since,
        recovered_at=alarm.recovered_at if claimed.event == "recovered" else None,
        number=claimed.number,
        daemon=daemon,
    )


def sample_notice(*, daemon: str) -> Notice:
    """What `skycap alerts test` sends."""
    now = datetime.now(UTC)
    return Notice(
        event="test",
        rule="test",
        subject="",
        severity="warning",
        value=0,
        text="This is a test: alarms arrive here. Nothing is wrong.",
        since=now,
        daemon=daemon,
    )


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
