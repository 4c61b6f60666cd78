"""Statement: the same query has the same fingerprint, no value is left in it, and what may write is no read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skycap.services.statements import Statement


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("SELECT  1", "select ?"),
        ('select * FROM bookings\n  WHERE "userId" = $1 -- whose', 'select * from bookings where "userId"=?'),
        ("SELECT * FROM users WHERE email='ada@example.com'", "select * from users where email=?"),
        ("SELECT 'it''s', E'it\\'s', $$it's$$, $x$it's $$ $x$, U&'d\\0061t', X'1F'", "select ?"),
        ("SELECT 1.5e-3, .5, 0x1F, 1_000, -7", "select ?, -?"),
        ("SELECT a1, b FROM t1 WHERE c IN (1, 2, 3)", "select a1, b from t1 where c in(?)"),
        ("INSERT INTO t VALUES ($1, $2), ($3, $4)", "insert into t values(?)"),
        ("SELECT /* secret */ 1;", "select ?"),
        ("SELECT 'never ends, ada@example.com", "select ?"),
        ("SELECT count(*)FROM t", "select count(*) from t"),
    ],
)
def test_values_white_space_and_comments_are_left_out(query: str, text: str) -> None:
    assert Statement.of(query).text == text


def test_a_fingerprint_is_the_same_for_ever() -> None:
    assert Statement.of("SELECT 1").fingerprint == Statement.of("select\n\t'x' -- y").fingerprint == "e1c71d1661ae"


@given(value=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_no_literal_is_ever_shown(value: str) -> None:
    quoted = value.replace("'", "''")
    query = "SELECT a FROM t WHERE b = '{}'"
    assert Statement.of(query.format(quoted)).text == "select a from t where b=?"


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM t",
        "  (SELECT 1) UNION (SELECT 2);",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "VALUES (1)",
        "TABLE t",
        "SELECT 'FOR UPDATE'",
        'SELECT "update" FROM t',
        "SELECT some_function(1)",
    ],
)
def test_a_read_is_recognised(query: str) -> None:
    assert Statement.of(query).is_read


@pytest.mark.parametrize(
    "query",
    [
        "",
        "INSERT INTO t VALUES (1)",
        "SELECT * FROM t FOR UPDATE SKIP LOCKED",
        "SELECT * FROM t FOR NO KEY UPDATE",
        "SELECT * FROM t FOR KEY SHARE",
        "SELECT * INTO u FROM t",
        "WITH gone AS (DELETE FROM t RETURNING *) SELECT * FROM gone",
        "SELECT 1; DELETE FROM t",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_xact_lock(1)",
        "SELECT pg_catalog.set_config('a', 'b', false)",
        "SHOW work_mem",
        "EXPLAIN ANALYZE DELETE FROM t",
    ],
)
def test_what_may_write_or_belongs_to_a_session_is_no_read(query: str) -> None:
    assert not Statement.of(query).is_read


@pytest.mark.parametrize(
    ("query", "is_repeatable"),
    [
        ('SELECT count(*), max("createdAt") FROM t WHERE a IN (1) AND (b OR c)', True),
        ("SELECT pg_catalog.lower(a)::numeric(3, 2) FROM t", True),
        ("SELECT skycap.enqueue_v1('a', '{}')", False),
        ("SELECT nextval('s')", False),
        ('SELECT "Lower"(a) FROM t', False),
        ("SELECT mine.lower(a) FROM t", False),
        ("UPDATE t SET a = 1", False),
    ],
)
def test_only_what_calls_known_functions_may_be_asked_twice(query: str, is_repeatable: bool) -> None:
    assert Statement.of(query).is_repeatable is is_repeatable


@pytest.mark.parametrize(
    ("query", "is_one_commit"),
    [
        ("UPDATE t SET a = 1;", True),
        ("CALL move()", False),
        ("DO $$ BEGIN COMMIT; END $$", False),
        ("UPDATE t SET a = 1; COMMIT; UPDATE t SET a = 2", False),
    ],
)
def test_what_may_commit_in_between_is_not_one_commit(query: str, is_one_commit: bool) -> None:
    assert Statement.of(query).is_one_commit is is_one_commit
