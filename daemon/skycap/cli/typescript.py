"""TypeScript: the payloads of published kinds as a module of interfaces, for a backend that enqueues."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

Schema = Mapping[str, Any]

_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_LONGEST_LINE = 110
_INDENT = "  "
_SIMPLE = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}


def module(kinds: Iterable[Schema]) -> str:
    """The text of the module. ``kinds`` are as ``skycap.published_kinds.published`` gives them.

    Besides an interface for each payload it has ``Kinds``, which maps kinds to them, and ``VERSIONS``, which of each
    payload's versions they are: who sends it along is understood by a daemon that has a newer one.
    """
    kinds = list(kinds)
    names = _Names(kinds)
    parts = ['// Written by "skycap kinds --typescript"; do not edit.\n']
    for kind in kinds:
        for name, definition in names.new_of(kind):
            parts.append(_declaration(name, definition, _Types(names.of(kind))))
        parts.append(_declaration(names.payloads[kind["kind"]], kind["schema"], _Types(names.of(kind))))
    parts.append(_kinds(kinds, names.payloads))
    parts.append(_versions(kinds))
    return "\n".join(parts)


class _Names:
    """What is called what: payloads after their kinds, what they consist of as in Python, unless that is taken."""

    def __init__(self, kinds: Sequence[Schema]) -> None:
        self._taken = {"Kinds", "VERSIONS"}
        self.payloads = {kind["kind"]: self._unique(_pascal(kind["kind"])) for kind in kinds}
        self._of_kind: dict[str, dict[str, str]] = {}
        self._new_of_kind: dict[str, list[tuple[str, Schema]]] = {}
        known: dict[str, str] = {}
        for kind in kinds:
            self._name_definitions(kind, known)

    def of(self, kind: Schema) -> Mapping[str, str]:
        """By the names in its ``$defs``."""
        return self._of_kind[kind["kind"]]

    def new_of(self, kind: Schema) -> Sequence[tuple[str, Schema]]:
        """The definitions that no kind before it has."""
        return self._new_of_kind[kind["kind"]]

    def _name_definitions(self, kind: Schema, known: dict[str, str]) -> None:
        schema, owner = kind["schema"], self.payloads[kind["kind"]]
        defs = cast("dict[str, Schema]", schema.get("$defs", {}))
        names = self._of_kind[kind["kind"]] = {}
        new = self._new_of_kind[kind["kind"]] = []
        itself = {name: value for name, value in schema.items() if name not in {"$defs", "additionalProperties"}}
        for name, definition in defs.items():
            meaning = json.dumps([name, _reachable(definition, defs), definition], sort_keys=True)
            if definition == itself:
                names[name] = owner
            elif meaning in known:
                names[name] = known[meaning]
            else:
                names[name] = known[meaning] = self._unique(_identifier(name), f"{owner}{_identifier(name)}")
                new.append((names[name], definition))

    def _unique(self, *wanted: str) -> str:
        numbered = (f"{wanted[-1]}{number}" for number in range(2, len(self._taken) + 3))
        name = next(name for name in (*wanted, *numbered) if name not in self._taken)
        self._taken.add(name)
        return name


class _Types:
    """Types of schemas, given the names of what they refer to."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def of(self, schema: Schema | bool) -> str:
        if isinstance(schema, bool):
            return "unknown" if schema else "never"
        if "$ref" in schema:
            return self._names[schema["$ref"].rpartition("/")[2]]
        if "const" in schema or "enum" in schema:
            return _union(json.dumps(value) for value in schema.get("enum", [schema.get("const")]))
        if "allOf" in schema:
            return " & ".join(_in_brackets(self.of(each)) for each in schema["allOf"])
        kinds = schema.get("type", [])
        options = schema.get("anyOf", schema.get("oneOf"))
        if options is not None:
            return _union(self.of(each) for each in options)
        return _union(self._of_type(kind, schema) for kind in ([kinds] if isinstance(kinds, str) else kinds))

    def members(self, schema: Schema) -> Iterator[tuple[Schema, str]]:
        """Each field of an object with its declaration."""
        required = schema.get("required", [])
        for name, field in schema.get("properties", {}).items():
            shown = name if _IDENTIFIER.fullmatch(name) else json.dumps(name)
            yield field, f"{shown}{'' if name in required else '?'}: {self.of(field)};"
        if schema.get("additionalProperties"):
            yield {}, "[name: string]: unknown;"

    def _of_type(self, kind: str, schema: Schema) -> str:
        if kind == "array":
            return self._array(schema)
        if kind == "object":
            return self._object(schema)
        return _SIMPLE.get(kind, "unknown")

    def _array(self, schema: Schema) -> str:
        if "prefixItems" not in schema and schema.get("maxItems") != 0:
            return f"readonly {_in_brackets(self.of(schema.get('items', True)))}[]"
        items = [self.of(item) for item in schema.get("prefixItems", [])]
        if schema.get("maxItems") != len(items):
            items.append(f"...{_in_brackets(self.of(schema.get('items', True)))}[]")
        return f"readonly [{', '.join(items)}]"

    def _object(self, schema: Schema) -> str:
        if schema.get("properties"):
            return f"{{ {' '.join(text for _, text in self.members(schema))} }}"
        values = list(schema.get("patternProperties", {}).values()) or [schema.get("additionalProperties", True)]
        return f"{{ [name: string]: {_union(self.of(value) for value in values)} }}"


def _declaration(name: str, schema: Schema, types: _Types) -> str:
    comment = _comment(schema, "")
    if schema.get("type") == "object" and schema.get("properties"):
        members = "".join(f"{_comment(field, _INDENT)}{_INDENT}{text}\n" for field, text in types.members(schema))
        return f"{comment}export interface {name} {{\n{members}}}\n"
    return f"{comment}{_alias(name, schema, types)}\n"


def _alias(name: str, schema: Schema, types: _Types) -> str:
    line = f"export type {name} = {types.of(schema)};"
    if len(line) <= _LONGEST_LINE or "enum" not in schema:
        return line
    return f"export type {name} =" + "".join(f"\n{_INDENT}| {json.dumps(value)}" for value in schema["enum"]) + ";"


def _kinds(kinds: Iterable[Schema], payloads: Mapping[str, str]) -> str:
    lines: list[str] = []
    for kind in kinds:
        name = payloads[kind["kind"]]
        lines.append(f"{_INDENT}{json.dumps(kind['kind'])}: {name};\n")
        for alias in kind["aliases"]:
            lines.append(f"{_INDENT}/** @deprecated Write {json.dumps(kind['kind'])}. */\n")
            lines.append(f"{_INDENT}{json.dumps(alias)}: {name};\n")
    return f"/** The payload of each kind. */\nexport interface Kinds {{\n{''.join(lines)}}}\n"


def _versions(kinds: Iterable[Schema]) -> str:
    lines = [
        f"{_INDENT}{json.dumps(name)}: {kind['version']},\n"
        for kind in kinds
        for name in (kind["kind"], *kind["aliases"])
    ]
    comment = "/** Of the payloads above: sent along, a daemon that knows a newer one still understands them. */"
    return (
        f"{comment}\nexport const VERSIONS = {{\n{''.join(lines)}}} as const satisfies Record<keyof Kinds, number>;\n"
    )


def _comment(schema: Schema, indent: str) -> str:
    """As JSDoc; empty when there is nothing to say."""
    lines = [*_described(schema), *_constraints(schema)]
    if schema.get("default") not in (None, [], {}):
        lines.append(f"@default {json.dumps(schema['default'], ensure_ascii=False)}")
    if schema.get("deprecated"):
        lines.append("@deprecated")
    lines = [line.replace("*/", "*\\/") for line in lines]
    if not lines:
        return ""
    if len(lines) == 1:
        return f"{indent}/** {lines[0]} */\n"
    return f"{indent}/**\n" + "".join(f"{indent} * {line}".rstrip() + "\n" for line in lines) + f"{indent} */\n"


def _described(schema: Schema) -> list[str]:
    properties = schema.get("properties", {})

    def as_on_the_wire(found: re.Match[str]) -> str:
        head, *rest = found[1].split("_")
        camel = head + "".join(word.title() for word in rest)
        return f"`{camel if camel in properties else found[1]}`"

    return re.sub(r"``([^`]+)``", as_on_the_wire, schema.get("description", "")).splitlines()


def _constraints(schema: Schema) -> list[str]:
    """What the type does not say, in one line."""
    options = [each for each in schema.get("anyOf", []) if each.get("type") != "null"]
    if len(options) == 1:
        schema = {**options[0], **schema}
    words = [
        *_sizes(schema, "Length", "characters"),
        *_sizes(schema, "Items", "items"),
        *(f"{sign} {schema[name]}" for name, sign in _SIGNS.items() if name in schema),
        *(str(schema[name]) for name in ("format", "contentEncoding") if name in schema),
        *(f"/{schema[name]}/" for name in ("pattern",) if name in schema),
    ]
    return [f"Must be: {', '.join(words)}."] if words else []


_SIGNS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<", "multipleOf": "multiple of"}


def _sizes(schema: Schema, what: str, unit: str) -> Iterator[str]:
    least, most = schema.get(f"min{what}"), schema.get(f"max{what}")
    if least is not None and most is not None:
        yield f"{least} to {most} {unit}" if least != most else f"exactly {least} {unit}"
    elif least is not None:
        yield "not empty" if least == 1 else f"at least {least} {unit}"
    elif most is not None:
        yield f"at most {most} {unit}"


def _union(types: Iterable[str]) -> str:
    found = list(dict.fromkeys(types)) or ["unknown"]
    return "unknown" if "unknown" in found else " | ".join(found)


def _in_brackets(type_: str) -> str:
    return f"({type_})" if re.search(r" [|&] |^readonly ", type_) else type_


def _reachable(schema: object, defs: Mapping[str, Schema]) -> dict[str, Schema]:
    """The definitions that this one refers to, directly or not."""
    found: dict[str, Schema] = {}
    waiting = [schema]
    while waiting:
        for name in re.findall(r'"#/\$defs/([^"]+)"', json.dumps(waiting.pop())):
            if name not in found:
                found[name] = defs[name]
                waiting.append(defs[name])
    return found


def _pascal(kind: str) -> str:
    return _identifier("".join(word[:1].upper() + word[1:] for word in kind.split("-")))


def _identifier(name: str) -> str:
    """A name that TypeScript takes; what begins with a digit gets an underscore before it."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return f"_{name}" if name[:1].isdigit() else name
