"""Runs all checks side by side, each with a time limit of its own, whatever is down."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from skycap.checks.finding import Finding, of_error, skipped, unreachable
from skycap.checks.group import Answer, Check, Group
from skycap.checks.installation import Installation
from skycap.checks.threads import in_thread

LIMIT_SECONDS = 4.0
"""For opening what a group looks at, and then for each of its checks: in all it is 8 s."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finding, and whose it is."""

    group: str
    check: str
    finding: Finding
    seconds: float

    @property
    def name(self) -> str:
        return f"{self.group}.{self.check}"


async def run(
    groups: Sequence[Group[Any]], installation: Installation, *, limit_seconds: float = LIMIT_SECONDS
) -> list[Result]:
    """Every finding, in the order of the groups and their checks."""
    found = await asyncio.gather(*(_run_group(group, installation, limit_seconds) for group in groups))
    return [result for results in found for result in results]


def chosen(groups: Sequence[Group[Any]], names: Collection[str]) -> Iterator[Group[Any]]:
    """The groups and checks that are named, as ``redis`` or ``redis.rights``; of none named, all."""
    for group in groups:
        checks = [each for each in group.checks if not names or {group.name, f"{group.name}.{each.name}"} & {*names}]
        if checks:
            part: Group[Any] = Group(group.name, group.opened)
            part.checks = checks
            yield part


async def _run_group(group: Group[Any], installation: Installation, limit_seconds: float) -> list[Result]:
    began = time.monotonic()
    opening = group.opened(installation)
    try:
        async with asyncio.timeout(limit_seconds):
            view = await opening.__aenter__()
    except Exception as error:  # noqa: BLE001 - whatever it is, the other groups go on and this one says it
        return _unopened(group, _of(error, limit_seconds), time.monotonic() - began)
    try:
        found = await asyncio.gather(*(_run_check(group, check, view, limit_seconds) for check in group.checks))
    finally:
        async with asyncio.timeout(1):
            await opening.__aexit__(None, None, None)
    return [result for results in found for result in results]


async def _run_check(group: Group[Any], check: Check[Any], view: Any, limit_seconds: float) -> list[Result]:
    began = time.monotonic()
    try:
        async with asyncio.timeout(limit_seconds):
            answer = await _answer(check, view)
    except Exception as error:  # noqa: BLE001 - as above
        answer = _of(error, limit_seconds)
    found: list[Finding] = [answer] if isinstance(answer, Finding) else list(answer)
    seconds = time.monotonic() - began
    return [Result(group=group.name, check=check.name, finding=each, seconds=seconds) for each in found]


async def _answer(check: Check[Any], view: Any) -> Answer:
    look: Callable[[Any], Any] = check.look
    answer: Answer = await look(view) if inspect.iscoroutinefunction(look) else await in_thread(lambda: look(view))
    return answer


def _unopened(group: Group[Any], finding: Finding, seconds: float) -> list[Result]:
    first, *others = group.checks
    reason = finding.says if finding.status == "skipped" else f"{group.name}.{first.name} failed"
    return [
        Result(group=group.name, check=first.name, finding=finding, seconds=seconds),
        *(Result(group=group.name, check=each.name, finding=skipped(reason), seconds=0) for each in others),
    ]


def _of(error: Exception, limit_seconds: float) -> Finding:
    if isinstance(error, TimeoutError):
        says = f"no answer within {limit_seconds:g} s"
        return unreachable(says, "see whether the server and the network between are up, and not too busy")
    return of_error(error)
