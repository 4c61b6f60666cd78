"""Index: what a plugin's queries need of the backend's tables, for an admin to create (``skycap db indexes``)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

LONGEST_NAME = 63
"""Bytes that PostgreSQL keeps of a name; the rest it cuts off in silence."""

_NAME = re.compile(r"skycap_[a-z0-9]+(_[a-z0-9]+)*")
_COLUMN = r"[A-Za-z_][A-Za-z0-9_$]*"
_KEY = re.compile(rf"(?P<what>{_COLUMN}|\(.+\))(?: (?P<direction>ASC|DESC))?")


@dataclass(frozen=True, kw_only=True)
class IndexKey:
    """A column, or an expression in parentheses; ``direction`` is "" where values are only compared for equality."""

    what: str
    direction: str

    @property
    def sql(self) -> str:
        what = self.what if self.what.startswith("(") else quoted(self.what)
        return f"{what} {self.direction}".rstrip()


@dataclass(frozen=True, kw_only=True)
class Index:
    """One index, and the query that needs it, in the words of whoever reads ``skycap db indexes``.

    ``keys`` are column names, or expressions in parentheses: those that a query compares for equality first, then with
    ASC or DESC those that it sorts by or compares otherwise. ``include`` and ``where`` are PostgreSQL's. Another
    definition needs another ``name``: an index of that name which is defined otherwise is never touched.
    """

    name: str
    table: str
    keys: Sequence[str]
    purpose: str
    include: Sequence[str] = ()
    where: str | None = None
    plugin: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or len(self.name) > LONGEST_NAME:
            raise TypeError(
                f"index name {self.name!r}: write skycap_ and lower-case words joined by underscores, "
                f"{LONGEST_NAME} characters at most"
            )
        if isinstance(self.keys, str) or not self.keys:
            raise TypeError(f"index {self.name}: give its keys as a list, such as ['userId', 'createdAt DESC']")
        for key in self.keys:
            if not _KEY.fullmatch(key):
                raise TypeError(
                    f"index {self.name}: key {key!r} is no column or (expression), with ASC or DESC behind it if "
                    "a query sorts by it"
                )
        for column in (self.table, *self.include):
            if not re.fullmatch(_COLUMN, column):
                raise TypeError(f"index {self.name}: {column!r} is no name of a table or column")

    @property
    def parsed_keys(self) -> list[IndexKey]:
        found = [_KEY.fullmatch(key) for key in self.keys]
        return [IndexKey(what=key["what"], direction=key["direction"] or "") for key in found if key]

    @property
    def is_on_expression(self) -> bool:
        """Of expressions PostgreSQL has statistics only after the next ANALYZE."""
        return any(key.what.startswith("(") for key in self.parsed_keys)

    @property
    def definition(self) -> str:
        """What follows ``ON table`` in CREATE INDEX."""
        keys = ", ".join(key.sql for key in self.parsed_keys)
        included = f" INCLUDE ({', '.join(map(quoted, self.include))})" if self.include else ""
        return f"USING btree ({keys}){included}" + (f" WHERE {self.where}" if self.where else "")

    @property
    def statement(self) -> str:
        """What an admin may run instead, outside of any transaction."""
        return f"CREATE INDEX CONCURRENTLY {self.name} ON {quoted(self.table)} {self.definition}"


def quoted(name: str) -> str:
    """``name`` as an identifier of SQL: the backend's are in camel case."""
    return '"' + name.replace('"', '""') + '"'
