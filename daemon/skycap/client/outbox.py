"""Outbox: enqueueing by SQL, so that a job exists if and only if a transaction commits."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from skycap.client.base import Order
from skycap.errors import ConfigurationError, Refused, SkycapError
from skycap.job import Enqueued, JobState

ASYNCPG = "SELECT id, duplicate FROM skycap.enqueue_many_v1($1::text::jsonb)"
DB_API = "SELECT id, duplicate FROM skycap.enqueue_many_v1(%s::text::jsonb)"

_MISSING = frozenset({"3F000", "42883"})  # invalid_schema_name, undefined_function
_FORBIDDEN = "42501"
_REFUSED = "22023"


async def enqueued_in(tx: Any, orders: Sequence[Order]) -> list[Enqueued]:
    """Enqueue in a transaction of asyncpg (or ctx.db) or psycopg. Raises Refused and ConfigurationError.

    What else goes wrong is the transaction's, and raised as its library does.
    """
    documents = documents_of(orders)
    is_asyncpg = hasattr(tx, "fetch")
    if not is_asyncpg and not inspect.iscoroutinefunction(getattr(tx, "execute", None)):
        raise Refused(
            f"tx={type(tx).__name__} is no connection of asyncpg or psycopg with await; "
            "for others, as Django's or psycopg2's, there is skycap.Client"
        )
    try:
        if is_asyncpg:
            rows = await tx.fetch(ASYNCPG, documents)
        else:
            rows = await (await tx.execute(DB_API, (documents,))).fetchall()
    except Exception as error:
        raise translated(error) or error from error
    return answers(rows, orders)


def enqueued_by_cursor(tx: Any, orders: Sequence[Order]) -> list[Enqueued]:
    """The same on a connection of the DB-API (PEP 249) whose parameters are ``%s``: psycopg, psycopg2, Django."""
    if not hasattr(tx, "cursor") or inspect.iscoroutinefunction(getattr(tx, "execute", None)):
        raise Refused(f"tx={type(tx).__name__} is no DB-API connection; for those with await there is AsyncClient")
    cursor = tx.cursor()
    try:
        cursor.execute(DB_API, (documents_of(orders),))
        rows = cursor.fetchall()
    except Exception as error:
        raise translated(error) or error from error
    finally:
        cursor.close()
    return answers(rows, orders)


def documents_of(orders: Sequence[Order]) -> str:
    return json.dumps([order.request.document() for order in orders], ensure_ascii=False, allow_nan=False)


def answers(rows: Sequence[Any], orders: Sequence[Order]) -> list[Enqueued]:
    """What the function says of each; the relay moves it to its queue once the transaction has committed."""
    return [_answer(row, order) for row, order in zip(rows, orders, strict=True)]


def translated(error: Exception) -> SkycapError | None:
    """Our word for what the function or its absence means; None for what is the transaction's own."""
    if isinstance(error, SkycapError):
        return error
    cause = error.__cause__ if not _sqlstate(error) and error.__cause__ is not None else error  # Django wraps them
    match _sqlstate(cause):
        case state if state in _MISSING:
            return ConfigurationError(
                "the database has no skycap.enqueue_many_v1; run `skycap db migrate` there, or start the daemon on it"
            )
        case state if state == _FORBIDDEN:
            return ConfigurationError(
                "the database role may not enqueue; as the owner of the schema run `skycap db grant ROLE`"
            )
        case state if state == _REFUSED:
            return Refused(_sentence(cause))
        case _:
            return None


def _sqlstate(error: BaseException) -> str:
    """Both asyncpg and psycopg call it sqlstate, psycopg2 pgcode."""
    return str(getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or "")


def _sentence(error: BaseException) -> str:
    """What is wrong, and the fix, which the function gives as the hint."""
    hint = getattr(error, "hint", None) or getattr(getattr(error, "diag", None), "message_hint", None)
    problem = str(error).partition("\n")[0]
    return f"{problem}; {hint}" if hint else problem


def _answer(row: Any, order: Order) -> Enqueued:
    # By name where the library has them: ctx.db and some of others' rows are dictionaries.
    job_id, duplicate = (row["id"], row["duplicate"]) if hasattr(row, "keys") else row
    return Enqueued(job_id=job_id, state=_state(order), duplicate=duplicate)


def _state(order: Order) -> JobState:
    request = order.request
    is_later = bool(request.delay) or (request.at is not None and request.at > datetime.now(UTC))
    return JobState.SCHEDULED if is_later else JobState.AVAILABLE
