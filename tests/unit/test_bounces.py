"""What comes back to a return address: reports, complaints, and what servers wrote before there were reports."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from skycap.services.bounces import LONGEST_READ, Bounce, read_bounce

MESSAGES = Path(__file__).with_name("bounces")
TOKEN = "abcdefghij234567abcd"
MESSAGE_ID = "<send-booking-confirmation.d3ty2dknpkbdg5vukvax6lryqrskihss@travel.example.com>"

BOUNCES: dict[str, tuple[str, str | None, bool | None]] = {
    "postfix-unknown-user": ("failed", "5.1.1", True),
    "postfix-delayed": ("delayed", "4.4.1", False),
    "exchange-unknown-user": ("failed", "5.1.10", True),
    "gmail-mailbox-full": ("failed", "5.2.2", False),
    "gmail-policy": ("failed", "5.7.26", False),
    "expired": ("failed", "4.4.7", False),
    "exim-text": ("failed", "5.1.1", True),
    "exim-unrouteable": ("failed", None, None),
    "exim-warning": ("delayed", None, False),
    "qmail": ("failed", "5.1.1", True),
    "complaint": ("complaint", None, False),
}
WITHOUT_MESSAGE_ID = {"expired", "exim-warning"}
NO_BOUNCES = ["postfix-relayed", "not-spam", "out-of-office", "read-receipt"]


def message(name: str) -> bytes:
    return MESSAGES.joinpath(f"{name}.eml").read_bytes()


def read(name: str) -> Bounce:
    found = read_bounce(message(name))
    assert found is not None
    return found


@pytest.mark.parametrize("name", BOUNCES)
def test_what_came_back_and_why_is_read_from_every_dialect(name: str) -> None:
    found = read(name)
    assert (found.what, found.status, found.blames_address) == BOUNCES[name]


@pytest.mark.parametrize("name", BOUNCES)
def test_every_dialect_names_the_mail(name: str) -> None:
    found = read(name)
    assert found.tokens == (TOKEN,)
    assert (MESSAGE_ID in found.message_ids) == (name not in WITHOUT_MESSAGE_ID)


@pytest.mark.parametrize("name", BOUNCES)
def test_what_is_kept_of_it_names_nobody(name: str) -> None:
    found = read(name)
    assert found.detail.startswith(found.what)
    assert "lovelace" not in found.detail.lower()
    assert len(found.detail.splitlines()) == 1


@pytest.mark.parametrize("name", NO_BOUNCES)
def test_what_is_no_bounce_is_left_alone(name: str) -> None:
    assert read_bounce(message(name), envelope_recipient=f"bounces+{TOKEN}@mail.example.com") is None


def test_a_bounce_of_somebody_elses_mail_names_none_of_ours() -> None:
    found = read("stranger")
    assert (found.what, found.status, found.tokens, found.message_ids) == ("failed", "5.1.1", (), ())


def test_the_envelope_says_more_than_the_message() -> None:
    other = "zzzzzzzzzz234567zzzz"
    found = read_bounce(message("qmail"), envelope_recipient=f"Bounces+{other}@mail.example.com")
    assert found is not None
    assert found.tokens == (other, TOKEN)


def test_the_diagnosis_is_kept() -> None:
    assert read("postfix-unknown-user").detail == (
        "failed 5.1.1: 550 5.1.1 <[address]>: Recipient address rejected: User unknown, no [address] here"
    )
    assert read("complaint").detail == "complaint: abuse, by SomeGenerator/1.0"


@pytest.mark.parametrize("status", ["5.1.7", "5.2.2", "5.3.4", "5.4.7", "5.6.1", "5.7.1", "5.7.515", "4.2.2"])
def test_an_address_is_not_blamed_for_the_sender_the_message_or_a_full_mailbox(status: str) -> None:
    raw = message("postfix-unknown-user").replace(b"Status: 5.1.1", f"Status: {status}".encode())
    found = read_bounce(raw)
    assert found is not None
    assert (found.status, found.blames_address) == (status, False)


def test_the_worst_counts_that_a_report_says() -> None:
    raw = message("postfix-unknown-user").replace(
        b"Final-Recipient",
        b"Final-Recipient: rfc822; b@example.net\nAction: delivered\nStatus: 2.0.0\n\nFinal-Recipient",
    )
    found = read_bounce(raw)
    assert found is not None
    assert found.status == "5.1.1"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"Content-Type: message/rfc822\n\n" * 30_000,
        b"".join(b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (n, n) for n in range(3000)),
        b"From: " + b"(<" * 100_000,
        b"Content-Type: message/delivery-status\n\nAction: \xff\nStatus: 5.\n\n\n\n",
        b"Content-Type: text/plain; charset=nonsense\nContent-Transfer-Encoding: base64\n\n====",
    ],
)
def test_nonsense_is_no_bounce(raw: bytes) -> None:
    assert read_bounce(raw) is None


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(BOUNCES)), st.integers(0, 3000), st.binary(max_size=20))
def test_a_damaged_bounce_is_read_as_far_as_it_goes(name: str, at: int, damage: bytes) -> None:
    raw = message(name)
    found = read_bounce(raw[:at] + damage + raw[at + len(damage) :])
    assert found is None or "\n" not in found.detail


def test_no_more_is_read_than_a_report_needs() -> None:
    padding = b"X-Padding: " + b"a" * LONGEST_READ + b"\n"
    assert read_bounce(padding + message("complaint")) is None
    assert read_bounce(b"X-Padding: a\n" + message("complaint")) is not None
