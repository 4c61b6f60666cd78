"""Jobs of plugins/trouble.py, as seen by who enqueues them."""

from __future__ import annotations

from skycap import AsyncClient, Payload
from skycap.job import Job, JobState
from tests.support.workers import PATIENCE, eventually


class Misbehave(Payload, kind="misbehave"):
    """``how`` is the name of a function there."""

    how: str


async def put(client: AsyncClient, how: str) -> str:
    return (await client.enqueue(Misbehave(how=how))).job_id


async def running(client: AsyncClient, how: str) -> str:
    job_id = await put(client, how)

    async def is_running() -> bool:
        return (await now(client, job_id)).state is JobState.RUNNING

    await eventually(is_running)
    return job_id


async def now(client: AsyncClient, job_id: str) -> Job:
    job = await client.queue("default").get(job_id)
    assert job is not None
    return job


async def finished(client: AsyncClient, job_id: str) -> Job:
    job = await client.wait(job_id, queue="default", timeout=PATIENCE)
    assert job is not None
    assert job.state.is_final, f"{job_id} is still {job.state}"
    return job
