"""The HTTP API against requests that nobody thought of, made of the description that it serves of itself."""

from __future__ import annotations

import pytest
import schemathesis

from tests.support.fuzzing import Fuzzed, fuzzed

described = schemathesis.pytest.from_fixture("schema")


@pytest.fixture(params=["open", "admin", "reader", "nobody"])
def target(request, redis_url):
    with fuzzed(redis_url, caller=request.param) as running:
        yield running


@pytest.fixture
def schema(target: Fuzzed):
    return target.schema(max_examples=25, seed=None)


@described.parametrize()
def test_every_answer_is_as_described(case: schemathesis.Case, target: Fuzzed) -> None:
    target.check(case)
