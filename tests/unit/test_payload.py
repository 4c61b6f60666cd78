"""Payload classes: what an author may write, and what is refused when the class is made."""

from typing import Any

import pytest

from skycap import Payload


class Greeting(Payload, kind="say-greeting", queue="email", priority=2):
    user_name: str
    times: int = 1


def test_fields_are_camel_case_on_the_wire_and_both_spellings_are_read() -> None:
    assert Greeting(user_name="Ada").on_the_wire() == {"userName": "Ada", "times": 1}
    assert Greeting.model_validate({"userName": "Ada"}) == Greeting.model_validate({"user_name": "Ada"})


def test_the_class_knows_what_an_enqueuer_must() -> None:
    spec = Greeting.payload_spec
    assert (spec.kind, spec.queue, spec.priority, spec.version) == ("say-greeting", "email", 2, 1)


def make(**keywords: Any) -> None:
    type("Odd", (Payload,), {}, **keywords)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({}, "payload Odd needs a kind"),
        ({"knd": "x"}, "not understood: knd"),
        ({"kind": "Send Mail"}, "kind 'Send Mail': write lower-case words joined by hyphens"),
        ({"kind": "x", "priority": 0}, r"x: priority 0 is outside 1 \(first\) to 1000"),
        ({"kind": "x", "version": 3, "upgrades": {1: dict}}, "x: version 3 has no upgrade from version 2"),
    ],
)
def test_a_class_that_makes_no_sense_is_refused_when_it_is_made(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make(**keywords)
