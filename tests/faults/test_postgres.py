"""PostgreSQL in trouble under load: no job is lost, doubled or dead, none uses up an attempt, and work resumes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.postgres_load import FAULTS, SETTINGS, flights
from tests.support.postgres_servers import postgres_server

RESUMES_WITHIN_SECONDS = 5.0
BUSY_MACHINE = 3
"""How much longer it may take where tests run beside each other; the measured time is printed."""


async def test_postgres_in_every_trouble_loses_no_job_and_work_resumes(redis_url: str, tmp_path: Path) -> None:
    await _under_each_fault(redis_url, tmp_path, seconds=0.3)


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_postgres_in_every_trouble_for_a_minute_loses_no_job(redis_url: str, tmp_path: Path) -> None:
    await _under_each_fault(redis_url, tmp_path, seconds=60)


async def _under_each_fault(redis_url: str, folder: Path, *, seconds: float) -> None:
    async with postgres_server(*SETTINGS) as server, flights(server, redis_url, folder) as site:
        for name in FAULTS:
            verdict = await site.under(name, seconds=seconds)
            print(verdict)  # noqa: T201 - what a fault proof is for
            assert verdict.is_valid, verdict
            assert verdict.recovery_seconds < RESUMES_WITHIN_SECONDS * BUSY_MACHINE, verdict
