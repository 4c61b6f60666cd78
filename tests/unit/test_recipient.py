"""Recipient: what is an address, and in which form it goes over the wire."""

from __future__ import annotations

import pytest

from skycap.services.recipient import Recipient
from skycap.services.replies import ReplyClass, SmtpRefused


@pytest.mark.parametrize(
    ("text", "address", "ascii_address"),
    [
        ("ada@example.com", "ada@example.com", "ada@example.com"),
        ("Ada.Lovelace+trips@Example.COM", "Ada.Lovelace+trips@example.com", "Ada.Lovelace+trips@example.com"),
        ("o'hara@example.com", "o'hara@example.com", "o'hara@example.com"),
        ("ada@intranet", "ada@intranet", "ada@intranet"),
        ("ada@şirket.example.com", "ada@şirket.example.com", "ada@xn--irket-idb.example.com"),
        ("ada@BÜCHER.example.com", "ada@bücher.example.com", "ada@xn--bcher-kva.example.com"),
        ("ada@xn--bcher-kva.example.com", "ada@bücher.example.com", "ada@xn--bcher-kva.example.com"),
        ("ada@пример.example.com", "ada@пример.example.com", "ada@xn--e1afmkfd.example.com"),
        ("ayşe@example.com", "ayşe@example.com", None),
        ("用户@例え.example.com", "用户@例え.example.com", None),
    ],
)
def test_an_address_is_kept_and_its_domain_put_in_a_labels(text: str, address: str, ascii_address: str | None) -> None:
    recipient = Recipient.parse(text)
    assert (recipient.address, recipient.ascii_address) == (address, ascii_address)


def test_two_spellings_of_one_letter_are_one_address() -> None:
    assert Recipient.parse("ays\u0327e@example.com") == Recipient.parse("ay\u015fe@example.com")


def test_an_address_is_as_long_as_smtp_allows_and_no_longer() -> None:
    """RFC 5321 4.5.3.1.3 with erratum 1690: 254; that a local part has 64 at most is not kept by every server."""
    domain = ".".join(["b" * 60] * 3)
    longest = "a" * (253 - len(domain)) + "@" + domain
    assert Recipient.parse(longest).address == longest
    with pytest.raises(SmtpRefused):
        Recipient.parse("a" + longest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "ada",
        "@example.com",
        "ada@",
        "ada@@example.com",
        "ada@example..com",
        ".ada@example.com",
        "ada.@example.com",
        "a..da@example.com",
        "ada@-example.com",
        "ada@exa_mple.com",
        "ada@[192.0.2.1]",
        '"ada lovelace"@example.com',
        "ada lovelace@example.com",
        "ada@example.com, bob@example.com",
        "ada@example.com;bob@example.com",
        "Ada <ada@example.com>",
        "<ada@example.com>",
        "mailto:ada@example.com",
        "ada@example.com (Ada)",
        " ada@example.com",
        "ada@example.com ",
        "ada@example.com\n",
        "ada@example.com\r\nBcc: bob@example.com",
        "ada\r\nDATA@example.com",
        "ada\x00@example.com",
        "ada\x7f@example.com",
        "ada\u2028@example.com",
        "ada\u202e@example.com",
        "ada@exam\u200bple.com\u0000",
        "ada@example.com\ud800",
        "ada@" + "a" * 64 + ".example.com",
        "ada@" + ".".join(["a" * 60] * 5),
        "a" * 100_000 + "@example.com",
    ],
)
def test_what_is_no_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(SmtpRefused, match=r"^the recipient is no mail address of the form name@domain$") as refused:
        Recipient.parse(text)
    assert refused.value.reply_class is ReplyClass.RECIPIENT_REFUSED
    assert refused.value.reply is None
    assert refused.value.__suppress_context__


def test_an_address_is_in_no_repr() -> None:
    assert "ada" not in repr(Recipient.parse("ada@example.com"))
