"""What `./skycap test` runs: every check and every test, or pytest alone when it is given arguments.

What failed is shown again at the end. The last line counts: it is pytest's own, or `N passed, N failed` when a check
failed.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
PYTEST_WORKERS = 3
SOURCES = (".", "skycap")  # the script has no suffix, so it must be named


@dataclass(frozen=True, kw_only=True)
class Check:
    name: str
    arguments: tuple[str, ...]
    needs: str | None = None
    """A program that must be on PATH."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    name: str
    outcome: Literal["passed", "failed", "skipped"]
    summary: str
    output: str = ""


CHECKS = (
    Check(name="ruff check", arguments=("ruff", "check", "--quiet", *SOURCES)),
    Check(name="ruff format", arguments=("ruff", "format", "--quiet", "--diff", *SOURCES)),
    Check(name="mypy", arguments=("mypy",)),
    Check(name="pyright", arguments=("pyright",), needs="node"),
)


def main(arguments: Sequence[str]) -> int:
    os.chdir(CHECKOUT)
    # Hundreds of processes import skycap, and each would compile it anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if arguments:
        return int(pytest.main(list(arguments)))
    verdicts = judge_all()
    heading("pytest")
    counts = Counts()
    in_parallel = ("-n", str(PYTEST_WORKERS), "--dist", "loadscope", "--no-loadscope-reorder")
    exit_code = int(pytest.main(list(in_parallel), plugins=[counts]))
    if any(verdict.outcome == "failed" for verdict in verdicts):
        show_again(verdicts, counts)
        return exit_code or 1
    return exit_code


class Counts:
    """How many tests passed and failed; a plugin of pytest."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        outcomes = terminalreporter.stats
        self.passed = len(outcomes.get("passed", ()))
        self.failed = len(outcomes.get("failed", ())) + len(outcomes.get("error", ()))


def judge_all() -> list[Verdict]:
    """Runs the checks side by side, and tells of each in order."""
    verdicts: list[Verdict] = []
    with ThreadPoolExecutor() as pool:
        for verdict in pool.map(judge, CHECKS):
            heading(f"{verdict.name}: {verdict.summary}")
            verdicts.append(verdict)
    return verdicts


def judge(check: Check) -> Verdict:
    if check.needs and shutil.which(check.needs) is None:
        return judge_missing(check)
    started = time.monotonic()
    process = subprocess.run(
        (sys.executable, "-m", *check.arguments),
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},  # or it asks the network for a newer pyright
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - started
    if process.returncode:
        return Verdict(
            name=check.name, outcome="failed", summary=f"FAILED in {seconds:.1f} s", output=process.stdout.rstrip()
        )
    return Verdict(name=check.name, outcome="passed", summary=f"passed in {seconds:.1f} s")


def judge_missing(check: Check) -> Verdict:
    reason = f"there is no {check.needs} on PATH"
    if os.environ.get("SKYCAP_NO_SKIP") == "1":
        return Verdict(name=check.name, outcome="failed", summary=f"FAILED, {reason}, and SKYCAP_NO_SKIP=1 is set")
    return Verdict(name=check.name, outcome="skipped", summary=f"skipped, {reason}")


def show_again(verdicts: Sequence[Verdict], counts: Counts) -> None:
    outcomes = [verdict.outcome for verdict in verdicts]
    for verdict in verdicts:
        if verdict.outcome == "failed":
            heading(f"{verdict.name}: {verdict.summary}")
            print(verdict.output)
    heading("in all, tests and checks")
    print(f"{counts.passed + outcomes.count('passed')} passed, {counts.failed + outcomes.count('failed')} failed")


def heading(text: str) -> None:
    print(f"\n--- {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
