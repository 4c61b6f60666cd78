"""A FastAPI application that enqueues: one client for as long as it runs, shared by all requests.

``SKYCAP_URL`` is where skycap is: redis://…, https://… (with ``SKYCAP_TOKEN``) or postgresql://….
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from skycap import AsyncClient, Enqueued, QueueFull, Unavailable
from skycap_travel.payloads import SendBookingConfirmation, SendPaymentReceipt


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[dict[str, AsyncClient]]:
    async with AsyncClient(os.environ["SKYCAP_URL"], token=os.environ.get("SKYCAP_TOKEN")) as client:
        yield {"skycap": client}


app = FastAPI(lifespan=lifespan)


def skycap_of(request: Request) -> AsyncClient:
    """Tests put a client of a ``Recorder`` in its place: ``app.dependency_overrides[skycap_of]``."""
    client: AsyncClient = request.state.skycap
    return client


Skycap = Annotated[AsyncClient, Depends(skycap_of)]


class Answer(BaseModel):
    """What the application tells its own caller."""

    job_id: str
    is_new: bool

    @classmethod
    def of(cls, enqueued: Enqueued) -> Answer:
        return cls(job_id=enqueued.job_id, is_new=not enqueued.duplicate)


@app.post("/confirmations", status_code=202)
async def confirm(payload: SendBookingConfirmation, skycap: Skycap) -> Answer:
    """The payload is checked by FastAPI itself; when this answers, the job is stored."""
    # An id that says what the job means: a caller that asks twice gets one mail.
    return Answer.of(await skycap.enqueue(payload, job_id=f"confirm-{payload.booking_id}"))


@app.post("/receipts", status_code=204)
async def receipt(payload: SendPaymentReceipt, skycap: Skycap, background: BackgroundTasks) -> None:
    """Answers at once, and enqueues then: for what may be lost if the process dies in between, and nothing else."""
    background.add_task(skycap.enqueue, payload)


@app.get("/jobs/{job_id}")
async def state(job_id: str, skycap: Skycap) -> dict[str, str]:
    job = await skycap.get(job_id)
    if job is None:
        raise HTTPException(404)
    return {"state": job.state}


@app.exception_handler(QueueFull)
@app.exception_handler(Unavailable)
async def try_again(request: Request, error: Exception) -> JSONResponse:
    """The client has tried again by itself: now it is the caller's turn."""
    return JSONResponse({"message": "please try again"}, status_code=503, headers={"Retry-After": "1"})
