"""Statement: what the text of a query tells, without asking a server: its fingerprint, and what it may do."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

_FINGERPRINT_LENGTH = 12

# An unfinished literal or comment reaches to the end of the text, so that no value is taken for a word.
_TOKEN = re.compile(
    r"""
      (?P<space> \s+ | --[^\n]* | /\*.*?(?:\*/|\Z) )
    | (?P<value>
          [Ee]'(?:[^'\\]|\\.|'')*(?:'|\Z)
        | (?:[BbXxNn]|[Uu]&)?'(?:[^']|'')*(?:'|\Z)
        | \$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)
        | \$\d+
        | (?:\d|\.\d)(?:[\w.]|(?<=[eE])[+-])*
      )
    | (?P<name> (?:[Uu]&)?"(?:[^"]|"")*(?:"|\Z) )
    | (?P<word> [^\W\d][\w$]* )
    | (?P<sign> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_SEVERAL_VALUES = re.compile(r"\?(?:, \?)+")
_SEVERAL_ROWS = re.compile(r"\(\?\)(?:, \(\?\))+")

_READING = frozenset({"select", "table", "values", "with"})
_WRITING = frozenset({"delete", "insert", "into", "merge", "share", "update"})
"""Anywhere in a statement: FOR UPDATE and FOR SHARE, WITH … AS (DELETE …), SELECT … INTO. A column of such a name makes
a reading statement look like a writing one, which costs no more than the way to the primary."""

_OF_A_SESSION = re.compile(
    r"pg_(try_)?advisory|set_config|currval|lastval|setseed|txid_|pg_current_(xact|wal|snapshot)|pg_backend_pid"
)
"""Functions whose answer is another one on another server, and which a standby does not refuse as writing."""

_COMMITTING = frozenset({"call", "do"})
"""Procedures and code blocks can commit what they have done so far."""

_BEFORE_A_BRACKET = frozenset(
    {
        *("all", "and", "any", "array", "as", "by", "case", "cross", "distinct", "else", "except", "exists", "filter"),
        *(
            "from",
            "having",
            "in",
            "intersect",
            "is",
            "join",
            "lateral",
            "like",
            "limit",
            "materialized",
            "not",
            "offset",
        ),
        *("on", "or", "over", "row", "select", "some", "then", "union", "using", "values", "when", "where", "within"),
        *("group", "sets", "cube", "rollup", "partition", "order", "between", "ilike", "returning"),
    }
)
_TYPES = frozenset({"bit", "char", "character", "decimal", "interval", "numeric", "time", "timestamp", "varchar"})
_HARMLESS = frozenset(
    {
        *("abs", "age", "array_agg", "array_length", "array_position", "array_to_string", "avg", "bool_and", "bool_or"),
        *(
            "cardinality",
            "cast",
            "ceil",
            "ceiling",
            "char_length",
            "clock_timestamp",
            "coalesce",
            "concat",
            "concat_ws",
        ),
        *("count", "date_part", "date_trunc", "decode", "dense_rank", "encode", "extract", "first_value", "floor"),
        *("format", "generate_series", "greatest", "initcap", "json_agg", "json_build_object", "jsonb_agg"),
        *("jsonb_array_elements", "jsonb_array_elements_text", "jsonb_build_object", "jsonb_extract_path_text"),
        *("jsonb_object_agg", "jsonb_typeof", "lag", "last_value", "lead", "least", "left", "length", "lower", "ltrim"),
        *("make_date", "make_interval", "max", "md5", "min", "mod", "now", "nullif", "octet_length", "percentile_cont"),
        *("percentile_disc", "position", "rank", "regexp_replace", "replace", "right", "round", "row_number", "rtrim"),
        *("row_to_json", "split_part", "starts_with", "stddev", "string_agg", "strpos", "substr", "substring", "sum"),
        *("to_char", "to_date", "to_json", "to_jsonb", "to_timestamp", "trim", "trunc", "unnest", "upper", "variance"),
    }
)
"""Functions of PostgreSQL that change nothing. Of a function that is not here nobody knows what it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A query as its text shows it. What is uncertain is decided for the safe side."""

    text: str
    """Literals and parameters are ``?``, lists of them one, comments are gone, white space is folded, and what is not
    quoted is in lower case: no value is left, and the same query has the same text whatever it asks for."""
    is_read: bool
    """One statement that changes nothing, unless a function in it does: a standby can answer it, or refuses it."""
    is_repeatable: bool
    """A read that calls no function but those that are known to change nothing: it may be asked twice."""
    is_one_commit: bool
    """When the server answers with an error, nothing of it has been committed."""

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of ``text``: the same in every daemon and version."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:_FINGERPRINT_LENGTH]

    @classmethod
    def of(cls, query: str) -> Self:
        tokens = list(_tokens(query))
        words = {text for kind, text in tokens if kind == "word"}
        called = set(_called(tokens))
        is_one = ";" not in [text for _, text in tokens[:-1]]
        first = next((text for _, text in tokens if text != "("), "")
        is_read = (
            is_one
            and first in _READING
            and not words & _WRITING
            and not any(_OF_A_SESSION.match(name) for name in called)
        )
        return cls(
            text=_joined(tokens),
            is_read=is_read,
            is_repeatable=is_read and called <= _HARMLESS,
            is_one_commit=is_one and first not in _COMMITTING,
        )


@lru_cache(maxsize=1024)
def statement_of(query: str) -> Statement:
    """``Statement.of``, remembered."""
    return Statement.of(query)


def _tokens(query: str) -> Iterator[tuple[str, str]]:
    for match in _TOKEN.finditer(query):
        kind, text = match.lastgroup or "", match[0]
        if match["value"] is not None:
            yield "value", "?"
        elif kind == "word":
            yield kind, text.lower()
        elif kind != "space":
            yield kind, text


def _called(tokens: Sequence[tuple[str, str]]) -> Iterator[str]:
    """The names before a bracket, with the schema where there is one."""
    for index, (_, text) in enumerate(tokens):
        if text != "(" or index == 0:
            continue
        kind, name = tokens[index - 1]
        if kind not in {"word", "name"} or name in _BEFORE_A_BRACKET or name in _TYPES:
            continue
        is_qualified = index > 2 and tokens[index - 2][1] == "."  # noqa: PLR2004 - schema, dot, name
        schema = tokens[index - 3][1] if is_qualified else "pg_catalog"
        yield name if schema == "pg_catalog" else f"{schema}.{name}"


def _joined(tokens: Sequence[tuple[str, str]]) -> str:
    pieces: list[str] = []
    before = ""
    for kind, text in tokens:
        follows_a_word = before not in {"", "sign"} or pieces[-1:] in ([")"], ["*"])
        if pieces[-1:] == [","] or ((kind != "sign" or text == "*") and follows_a_word):
            pieces.append(" ")
        pieces.append(text)
        before = kind
    text = "".join(pieces).removesuffix(";")
    return _SEVERAL_ROWS.sub("(?)", _SEVERAL_VALUES.sub("?", text))
