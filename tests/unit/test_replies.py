"""What the replies of real mail servers mean, and when a mail that was put off is tried again."""

from __future__ import annotations

import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from skycap.errors import MailRefused, QueueStopped, Unavailable
from skycap.services.replies import (
    Deferred,
    NotLoggedIn,
    OutcomeUnknown,
    ReplyClass,
    SenderRefused,
    SmtpRefused,
    SmtpReply,
    Stage,
    meaning_of,
    refusal,
)

REPLIES: list[dict[str, Any]] = tomllib.loads(Path(__file__).with_name("smtp_replies.toml").read_text())["reply"]

STOPS_THE_QUEUE = {ReplyClass.CREDENTIALS: NotLoggedIn, ReplyClass.SENDER_REFUSED: SenderRefused}
PUTS_OFF = {ReplyClass.SERVER_BUSY, ReplyClass.RECIPIENT_LATER, ReplyClass.MAILBOX_FULL}


def heard(line: str) -> SmtpReply:
    code, _, text = line.partition(" ")
    return SmtpReply(code=int(code), text=text)


def deferred(line: str, stage: Stage = "RCPT") -> Deferred:
    error = refusal(stage, heard(line))
    assert isinstance(error, Deferred)
    return error


def waits_of(error: Unavailable, *, snoozes: int) -> list[float]:
    """In seconds, as the worker picks them, without the luck in them."""
    return [error.schedule.wait(number + 1, chance=0).total_seconds() for number in range(snoozes)]


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: f"{reply['server']}-{reply['text'][:40]}")
def test_a_real_reply_means(reply: dict[str, Any]) -> None:
    meaning = ReplyClass(reply["means"])
    error = refusal(reply["stage"], heard(reply["text"]))
    assert error.reply_class is meaning
    kind = STOPS_THE_QUEUE.get(meaning) or (Deferred if meaning in PUTS_OFF else SmtpRefused)
    assert type(error) is kind
    if isinstance(error, Deferred):
        assert error.retry_after == (timedelta(seconds=reply["waits"]) if "waits" in reply else None)
    else:
        assert error.recipient_gone == (meaning is ReplyClass.RECIPIENT_GONE)


def test_the_replies_are_many_and_each_meaning_is_among_them() -> None:
    assert len(REPLIES) >= 60
    assert {reply["means"] for reply in REPLIES} == set(ReplyClass) - {ReplyClass.OUTCOME_UNKNOWN}
    assert len({reply["server"] for reply in REPLIES}) >= 15


# Who is meant


@pytest.mark.parametrize(
    ("line", "means"),
    [
        ("550 5.7.1 relaying denied", ReplyClass.SENDER_REFUSED),
        ("550 5.7.1 mail from your IP is refused", ReplyClass.SENDER_REFUSED),
        ("550 5.7.1 recipient does not accept mail from you", ReplyClass.RECIPIENT_REFUSED),
        ("550 5.7.1 blocked by the user", ReplyClass.RECIPIENT_REFUSED),
        ("550 5.7.1 mailbox disabled", ReplyClass.RECIPIENT_REFUSED),
        ("550 5.7.1 You are not authorized to send to this list", ReplyClass.RECIPIENT_REFUSED),
        ("550 5.7.1 Command rejected", ReplyClass.RECIPIENT_REFUSED),
        ("550 5.7.1", ReplyClass.RECIPIENT_REFUSED),
        ("550", ReplyClass.RECIPIENT_REFUSED),
    ],
)
def test_the_queue_is_stopped_only_by_what_speaks_of_us(line: str, means: ReplyClass) -> None:
    assert meaning_of("RCPT", heard(line)) is means


@pytest.mark.parametrize(
    ("stage", "means"),
    [
        ("connect", ReplyClass.SERVER_BUSY),
        ("AUTH", ReplyClass.SERVER_BUSY),
        ("MAIL", ReplyClass.SENDER_REFUSED),
        ("RCPT", ReplyClass.RECIPIENT_REFUSED),
        ("DATA", ReplyClass.MESSAGE_REFUSED),
        ("end of DATA", ReplyClass.MESSAGE_REFUSED),
    ],
)
def test_a_bare_refusal_is_about_what_the_server_was_just_given(stage: Stage, means: ReplyClass) -> None:
    assert meaning_of(stage, heard("550 no")) is means


@pytest.mark.parametrize("code", [-1, 0, 199, 250, 354, 600])
def test_a_reply_that_makes_no_sense_gives_up_no_mail(code: int) -> None:
    assert meaning_of("DATA", SmtpReply(code=code, text="what")) is ReplyClass.SERVER_BUSY


def test_552_is_about_the_mailbox_before_the_message_and_about_the_message_after_it() -> None:
    """RFC 5321 4.5.3.1.10."""
    assert meaning_of("RCPT", heard("552 no")) is ReplyClass.MAILBOX_FULL
    assert meaning_of("MAIL", heard("552 no")) is ReplyClass.MESSAGE_REFUSED
    assert meaning_of("end of DATA", heard("552 no")) is ReplyClass.MESSAGE_REFUSED
    assert meaning_of("end of DATA", heard("552 5.2.2 no")) is ReplyClass.MAILBOX_FULL


def test_what_one_mailbox_does_is_not_held_against_the_server() -> None:
    assert not deferred("451 4.7.1 Greylisted").counts_against_server
    assert not deferred("452 4.2.2 over quota").counts_against_server
    assert deferred("451 4.3.0 queue is full").counts_against_server
    assert deferred("550 5.7.1 relaying denied").counts_against_server
    assert Deferred("no connection").counts_against_server


@pytest.mark.parametrize(("status", "is_gone"), [("5.1.1", True), ("5.1.10", True), ("5.2.1", True), ("5.1.2", False)])
def test_an_address_is_gone_when_the_server_says_so_of_the_mailbox(status: str, is_gone: bool) -> None:
    error = refusal("RCPT", heard(f"550 {status} no"))
    assert isinstance(error, SmtpRefused)
    assert error.recipient_gone is is_gone, "5.1.2 is a domain, which a resolver in trouble may not find"


# What it is


@pytest.mark.parametrize("error", [NotLoggedIn("no"), SenderRefused("no")])
def test_what_only_an_admin_can_mend_stops_the_queue(error: Deferred) -> None:
    assert isinstance(error, QueueStopped)
    assert str(error) == "mail: no"
    assert error.dependency == "mail"


def test_errors_are_what_the_worker_knows() -> None:
    assert isinstance(Deferred("no"), Unavailable)
    assert isinstance(SmtpRefused("no"), MailRefused)
    assert SmtpRefused("no").reply_class is ReplyClass.RECIPIENT_REFUSED
    assert OutcomeUnknown("no").reply_class is ReplyClass.OUTCOME_UNKNOWN


# When it is tried again


def test_what_was_put_off_is_tried_soon_then_seldom() -> None:
    hour = 3600
    schedule = [5, 30, 120, 300, 900, 1800, hour, 2 * hour, 2 * hour, 2 * hour]
    assert waits_of(deferred("451 4.3.0 later"), snoozes=10) == schedule


def test_a_server_that_is_not_there_is_tried_often() -> None:
    assert waits_of(Deferred("no connection"), snoozes=6) == [2, 4, 8, 16, 30, 30]


def test_a_full_mailbox_is_given_time() -> None:
    assert waits_of(deferred("452 4.2.2 full"), snoozes=4) == [900, 3600, 7200, 7200]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("try again in 300 seconds", 300),
        ("Greylisted for 300 seconds", 300),
        ("please retry in 5 minutes", 300),
        ("come back in at least 1 hour and 5 minutes.", 3900),
        ("wait 4m 59s", 299),
        ("please come back in 00:04:59", 299),
        ("Try again in 5 MIN", 300),
        ("retry in 1 hour", 3600),
    ],
)
def test_the_wait_that_a_reply_asks_for_is_read(text: str, seconds: int) -> None:
    error = deferred(f"451 4.7.1 {text}")
    assert error.retry_after == timedelta(seconds=seconds)
    assert waits_of(error, snoozes=9) == [seconds] * 9, "each reply asks for its own wait, however many came before"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("in 1 second", 30), ("in 0 s", 30), ("in 3 hours", 7200), ("in 99999999999999999999 hours", 7200)],
)
def test_no_reply_makes_a_mail_hurry_or_sleep(text: str, seconds: int) -> None:
    assert waits_of(deferred(f"451 4.7.1 {text}"), snoozes=1) == [seconds]


@pytest.mark.parametrize(
    "text",
    ["", "try again later", "100 messages per 60 seconds", "in 10 months", "blocked by 3 hosts", "in 5", "at 12:30:00"],
)
def test_a_number_that_is_no_wait_is_none(text: str) -> None:
    assert deferred(f"451 4.7.1 {text}").retry_after is None


def test_a_wait_is_spread_only_upwards() -> None:
    error = deferred("451 4.7.1 Greylisted for 300 seconds")
    assert all(timedelta(seconds=300) <= error.schedule.wait(1) <= timedelta(seconds=330) for _ in range(20))
