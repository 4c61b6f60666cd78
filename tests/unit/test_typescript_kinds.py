from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel
from typing_extensions import TypedDict

from skycap import JobType, Payload
from skycap.cli.typescript import module
from skycap.discovery import PluginChoice, load
from skycap.published_kinds import published

COMMITTED = Path(__file__).resolve().parents[2] / "plugins" / "typescript" / "kinds.ts"


class Board(StrEnum):
    HALF = "HALF"
    FULL = "FULL"


class Stars(IntEnum):
    ONE = 1
    TWO = 2


class Guest(BaseModel):
    name: str
    friends: list[Guest] = []


class Cat(BaseModel):
    animal: Literal["cat"]


class Dog(BaseModel):
    animal: Literal["dog"]


class Size(TypedDict):
    width: int


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")

    known: bool


class Names(RootModel[list[str]]): ...


class Empty(BaseModel): ...


def _written(*payloads: type[Payload]) -> str:
    return module(
        published(JobType(payload=payload, handler=_nothing, plugin="shapes") for payload in payloads),
    )


def _nothing(ctx: object, payload: object) -> None: ...


def _field(type_: Any) -> str:
    """The declaration of a field of that type, with the comment before it."""
    payload: Any = type(
        "Shape", (Payload,), {"__annotations__": {"the_field": type_}, "__module__": __name__}, kind="be-of-shape"
    )
    text = _written(payload)
    return text.partition("export interface BeOfShape {\n")[2].partition("}\n\n/** The payload of each kind")[0].strip()


@pytest.mark.parametrize(
    ("type_", "written"),
    [
        (str, "string"),
        (int, "number"),
        (float, "number"),
        (bool, "boolean"),
        (None, "null"),
        (Any, "unknown"),
        (object, "unknown"),
        (bytes, "string"),
        (str | None, "string | null"),
        (int | str | None, "number | string | null"),
        (int | float, "number"),
        (Literal["a", 'b"', 3, True] | None, '"a" | "b\\"" | 3 | true | null'),
        (Board, "Board"),
        (list[str], "readonly string[]"),
        (list[str | int], "readonly (string | number)[]"),
        (list[list[int]], "readonly (readonly number[])[]"),
        (set[int] | None, "readonly number[] | null"),
        (tuple[int, str], "readonly [number, string]"),
        (tuple[int, ...], "readonly number[]"),
        (list[Any], "readonly unknown[]"),
        (dict[str, int], "{ [name: string]: number }"),
        (dict[Board, list[int]], "{ [name: string]: readonly number[] }"),
        (dict[str, Any], "{ [name: string]: unknown }"),
        (Mapping[str, int | None], "{ [name: string]: number | null }"),
        (dict[Annotated[str, Field(pattern="^a")], int], "{ [name: string]: number }"),
        (Guest, "Guest"),
        (list[Guest], "readonly Guest[]"),
        (Annotated[Cat | Dog, Field(discriminator="animal")], "Cat | Dog"),
        (Size, "Size"),
        (Names, "Names"),
    ],
    ids=str,
)
def test_a_field_has_the_type_of_its_json(type_: Any, written: str) -> None:
    assert _field(type_).rpartition("\n")[2].strip() == f"theField: {written};"


@pytest.mark.parametrize(
    ("type_", "written"), [(date, "string"), (datetime, "string"), (timedelta, "string"), (UUID, "string")]
)
def test_what_json_writes_as_a_text_says_its_format(type_: Any, written: str) -> None:
    comment, _, declaration = _field(type_).rpartition("\n")
    assert declaration.strip() == f"theField: {written};"
    assert comment.startswith("/** Must be: ")


def test_a_list_that_stays_empty_is_an_empty_tuple() -> None:
    assert _field(Annotated[list[int], Field(max_length=0)]).endswith("theField: readonly [];")


def test_a_decimal_is_a_number_or_a_text() -> None:
    assert _field(Decimal).endswith("theField: number | string;")


COMMENTS: list[tuple[Any, str]] = [
    (Annotated[str, Field(min_length=1)], "Must be: not empty."),
    (Annotated[str, Field(min_length=2)], "Must be: at least 2 characters."),
    (Annotated[str, Field(max_length=9)], "Must be: at most 9 characters."),
    (Annotated[str, Field(min_length=3, max_length=3)], "Must be: exactly 3 characters."),
    (Annotated[Annotated[str, Field(max_length=9)] | None, "or none"], "Must be: at most 9 characters."),
    (Annotated[list[int], Field(min_length=1, max_length=5)], "Must be: 1 to 5 items."),
    (Annotated[int, Field(ge=0, lt=10)], "Must be: ≥ 0, < 10."),
    (Annotated[str, Field(pattern="^a*/b")], "Must be: /^a*\\/b/."),
    (Annotated[str, Field(description="Said */ so.")], "Said *\\/ so."),
]


@pytest.mark.parametrize(("type_", "comment"), COMMENTS)
def test_constraints_and_descriptions_are_comments_that_end_where_they_should(type_: Any, comment: str) -> None:
    assert _field(type_).partition("\n")[0] == f"/** {comment} */"


def test_a_field_that_may_be_left_out_says_so_with_its_default() -> None:
    class Lend(Payload, kind="lend-book"):
        """Lends ``book_title``; not ``a_word``."""

        book_title: str
        many_days: int = 14
        note: str | None = None
        old: int = Field(default=0, deprecated=True, description="Of old.")

    text = _written(Lend)
    assert "/** Lends `bookTitle`; not `a_word`. */\nexport interface LendBook {" in text
    assert "  bookTitle: string;\n  /** @default 14 */\n  manyDays?: number;\n  note?: string | null;\n" in text
    assert "  /**\n   * Of old.\n   * @default 0\n   * @deprecated\n   */\n  old?: number;\n" in text


def test_names_that_are_no_identifiers_are_quoted() -> None:
    class Odd(Payload, kind="2-be-odd"):
        odd: int = Field(alias="odd-one")

    text = _written(Odd)
    assert 'export interface _2BeOdd {\n  "odd-one": number;\n}' in text
    assert '"2-be-odd": _2BeOdd;' in text


def test_aliases_are_kinds_too_but_deprecated() -> None:
    class Move(Payload, kind="move-house", version=3, upgrades={1: dict, 2: dict}, aliases=("move-home",)): ...

    text = _written(Move)
    assert '  "move-house": MoveHouse;\n  /** @deprecated Write "move-house". */\n  "move-home": MoveHouse;\n' in text
    assert '  "move-house": 3,\n  "move-home": 3,\n' in text
    assert "export type MoveHouse = { [name: string]: never };" in text


def test_what_is_nested_is_declared_once_and_before_what_has_it() -> None:
    class Invite(Payload, kind="invite-guest"):
        guest: Guest
        stars: Stars

    class Expel(Payload, kind="expel-guest"):
        guest: Guest

    text = _written(Invite, Expel)
    assert text.count("export interface Guest {\n  name: string;\n  friends?: readonly Guest[];\n}") == 1
    assert "export type Stars = 1 | 2;" in text
    assert text.index("export interface Guest ") < text.index("export interface ExpelGuest ")


def test_two_things_of_one_name_are_told_apart() -> None:
    def other() -> type[BaseModel]:
        class Guest(BaseModel):
            seat: int

        return Guest

    class Kinds(Payload, kind="kinds"):
        guest: Guest

    class Seat(Payload, kind="seat-guest"):
        guest: other()  # type: ignore[valid-type]  # pyright: ignore[reportInvalidTypeForm]  # made here to have its name

    text = _written(Kinds, Seat)
    assert "export interface Guest {\n  name: string;" in text
    assert "export interface SeatGuestGuest {\n  seat: number;\n}" in text
    assert "export interface SeatGuest {\n  guest: SeatGuestGuest;\n}" in text
    assert '"kinds": Kinds2;' in text


def test_a_payload_that_contains_itself_is_one_interface() -> None:
    assert "export interface GrowTree {\n  branches?: readonly GrowTree[];\n}" in _written(Tree)


class Tree(Payload, kind="grow-tree"):
    branches: tuple[Tree, ...] = ()


def test_an_object_that_takes_more_than_its_fields_says_so() -> None:
    class Take(Payload, kind="take-all"):
        of: Open
        nothing: Empty

    text = _written(Take)
    assert "export interface Open {\n  known: boolean;\n  [name: string]: unknown;\n}" in text
    assert "export type Empty = { [name: string]: unknown };" in text


def test_the_committed_module_is_what_the_travel_plugins_say_now() -> None:
    travel = frozenset(
        {
            "accounts",
            "bookings",
            "housekeeping",
            "mails",
            "partners",
            "payments",
            "price-alerts",
            "price-history",
            "price-retention",
            "price-sweep",
            "processing",
            "recommendations",
            "reports",
            "upkeep",
        }
    )
    found = load(PluginChoice(only=travel)).job_types
    assert COMMITTED.read_text() == module(published(found)), f"run: ./skycap kinds --typescript > {COMMITTED.name}"
