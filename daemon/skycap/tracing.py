"""Tracing: spans of what happens to jobs and mails, where somebody collects them (the extra ``skycap[otel]``).

A job carries the context of whoever enqueued it in its labels, as W3C Trace Context has it
(https://www.w3.org/TR/trace-context/). Baggage is not carried: it may hold what is nobody's business.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, Protocol

CARRIED = ("traceparent", "tracestate")
"""The labels of a job, and the headers of a request."""

SpanKind = Literal["internal", "server", "client", "producer", "consumer"]
Attribute = str | int | float | bool

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?P<trace>[0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_LONGEST_STATE = 512


class Span(Protocol):
    """What is going on, while it does."""

    def set(self, name: str, value: Attribute) -> None: ...

    def fail(self, error_type: str) -> None:
        """It did not succeed. ``error_type`` is a word for it, never a text, which may hold addresses."""
        ...


class Tracer(Protocol):
    """Collects spans."""

    def span(
        self, name: str, *, kind: SpanKind, carried: Mapping[str, str] | None, attributes: Mapping[str, Attribute]
    ) -> AbstractContextManager[Span]: ...


class _Unseen:
    """A span that nobody collects."""

    def set(self, name: str, value: Attribute) -> None: ...

    def fail(self, error_type: str) -> None: ...


UNSEEN: AbstractContextManager[Span] = nullcontext(_Unseen())
_tracer: Tracer | None = None


def collect_with(tracer: Tracer | None) -> None:
    """Have every span of this process collected by ``tracer``, or by nobody."""
    global _tracer  # noqa: PLW0603 - as OpenTelemetry's own provider is: there is one for a process
    _tracer = tracer


def is_collected() -> bool:
    return _tracer is not None


def span(
    name: str,
    *,
    kind: SpanKind = "internal",
    carried: Mapping[str, str] | None = None,
    attributes: Mapping[str, Attribute] | None = None,
) -> AbstractContextManager[Span]:
    """Inside this, ``name`` goes on. Its parent is what ``carried`` says; without that, the span that goes on here."""
    if _tracer is None:
        return UNSEEN
    return _tracer.span(name, kind=kind, carried=carried, attributes=attributes or {})


def carried_from_here() -> dict[str, str]:
    """The labels that tie a job to the span that goes on here; none where nobody traces.

    An application that traces has OpenTelemetry loaded already; no other pays for it.
    """
    if "opentelemetry.trace" not in sys.modules:
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier


def carried_by(texts: Mapping[str, str]) -> dict[str, str]:
    """The context in a request's headers or a job's labels; none where there is none, or none that can be read."""
    parent, state = texts.get("traceparent", ""), texts.get("tracestate", "")
    if _TRACEPARENT.fullmatch(parent) is None:
        return {}
    return {"traceparent": parent} | ({"tracestate": state} if 0 < len(state) <= _LONGEST_STATE else {})


def trace_id(labels: Mapping[str, str]) -> str | None:
    """The trace that a job with these labels belongs to."""
    found = _TRACEPARENT.fullmatch(labels.get("traceparent", ""))
    return found["trace"] if found else None
