"""The API's description as one page for people: no script, nothing from elsewhere, light and dark."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, cast

from skycap.http.errors import ERROR_TYPES

_STYLE = """
:root { color-scheme: light dark; --line: light-dark(#ddd3c7, #4b4038); --soft: light-dark(#f6f0e8, #2b2420);
  --text: light-dark(#2b2420, #f1e9e0); --faint: light-dark(#6b5d52, #b9aa9d); --mark: light-dark(#8a3b12, #ffb48a); }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.25rem 4rem; color: var(--text);
  background: light-dark(#fffdfa, #1d1815); font: 1rem/1.55 system-ui, sans-serif; }
h1 { font-size: 1.9rem; } h2 { margin: 2.5rem 0 .25rem; font-size: 1.2rem; }
h3 { margin: 1.25rem 0 .25rem; font-size: 1rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .92em; } pre { overflow: auto; padding: .75rem 1rem;
  background: var(--soft); border: 1px solid var(--line); border-radius: .4rem; }
table { width: 100%; border-collapse: collapse; } td, th { padding: .35rem .6rem .35rem 0; text-align: left;
  vertical-align: top; border-bottom: 1px solid var(--line); } th { color: var(--faint); font-weight: 600; }
.wide { overflow-x: auto; } .method { color: var(--mark); font-weight: 700; } .faint { color: var(--faint); }
a { color: var(--mark); } :target { background: var(--soft); }
"""

POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
)
"""What a browser may do with the page: show it in its own style, and nothing else."""


def api_page(document: Mapping[str, Any]) -> str:
    """The page of an OpenAPI document of ours."""
    operations = [
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = [_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items())]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>skycap API</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>skycap API <span class=faint>{escape(document['info']['version'])}</span></h1>"
        "<p>Enqueue background jobs, and see what becomes of them. "
        '<a href="/api/openapi.json">openapi.json</a> says the same to programs.</p>'
        f"{''.join(operations)}<h2>Documents</h2>{''.join(schemas)}<h2>Errors</h2>{_errors()}</main></body></html>\n"
    )


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parts = [
        (
            f"<h2 id={escape(operation['operationId'])}><span class=method>{method.upper()}</span> "
            f"<code>{escape(path)}</code></h2>"
        ),
        f"<p>{_text(operation['summary'])}. <span class=faint>{_text(operation['description'])}</span></p>",
    ]
    if "requestBody" in operation:
        parts.append(f"<p>Body: {_type(operation['requestBody']['content']['application/json']['schema'])}</p>")
    if operation["parameters"]:
        rows = [
            (f"<code>{escape(each['name'])}</code>", escape(each["in"]), _text(each["description"]))
            for each in operation["parameters"]
        ]
        parts.append(_table(("parameter", "in", "meaning"), rows))
    rows = [(escape(status), _content(answer), _text(answer["description"])) for status, answer in _answers(operation)]
    parts.append(_table(("answer", "document", "meaning"), rows))
    return "".join(parts)


def _answers(operation: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return sorted(operation["responses"].items())


def _content(answer: Mapping[str, Any]) -> str:
    contents: Mapping[str, Any] = answer.get("content", {})
    nothing: tuple[str, Mapping[str, Any]] = ("", {})
    kind, content = next(iter(contents.items()), nothing)
    return _type(content["schema"]) if kind == "application/json" else f"<code>{escape(kind)}</code>" if kind else ""


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    head = f"<h3 id=schema-{escape(name)}>{escape(name)}</h3><p>{_text(schema.get('description', ''))}</p>"
    fields: Mapping[str, Any] = schema.get("properties", {})
    if not fields:
        return head + f"<p>{_type({key: value for key, value in schema.items() if key != 'title'})}</p>"
    required: list[str] = schema.get("required", [])
    rows = [
        (
            f"<code>{escape(field)}</code>{'' if field in required else ' <span class=faint>optional</span>'}",
            _type(its),
            _text(its.get("description", "")),
        )
        for field, its in fields.items()
    ]
    return head + _table(("field", "type", "meaning"), rows)


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(str(schema["$ref"]).rpartition("/")[2])
        return f"<a href=#schema-{name}>{name}</a>"
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(_type(each) for each in cast("list[Mapping[str, Any]]", schema[several]))
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    if "enum" in schema:
        return ", ".join(f"<code>{escape(str(each))}</code>" for each in cast("list[object]", schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return escape(str(schema.get("format") or schema.get("type") or "any"))


def _errors() -> str:
    rows = [
        (
            f"<span id={each.code}>{each.status}</span>",
            f"<code>{each.name}</code>",
            f"<code>{each.code}</code>",
            _text(each.title),
        )
        for each in ERROR_TYPES
    ]
    return _table(("status", "error", "code", "meaning"), rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Cells are HTML already."""
    heads = "".join(f"<th scope=col>{escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _text(text: str) -> str:
    """Words between backquotes are code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))
