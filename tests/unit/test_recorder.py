"""What an application's own tests do: a client that takes every job and runs none."""

from __future__ import annotations

from datetime import timedelta

import pytest

from skycap import AsyncClient, Client, JobState, Payload, RawPayload, Recorder, Unavailable, Unique


class Receipt(Payload, kind="receipt", queue="email", unique=Unique(by=("booking_id",))):
    booking_id: str


class Mail(Payload, kind="mail"):
    text: str = ""


async def test_it_keeps_what_was_enqueued_in_its_order() -> None:
    recorder = Recorder()
    async with AsyncClient(recorder) as client:
        first = await client.enqueue(Receipt(booking_id="b1"), delay=timedelta(minutes=5), tags=["new"])
        await client.enqueue_many([Mail(text="x"), RawPayload(kind="other", queue="q")])
        assert first.state is JobState.SCHEDULED
        assert await client.cancel(first.job_id) is JobState.CANCELLED
        assert await client.retry("nobody") is None
    assert recorder.enqueued(Receipt) == [Receipt(booking_id="b1")]
    assert recorder.enqueued(Mail) == [Mail(text="x")]
    assert [order.request.kind for order in recorder.orders] == ["receipt", "mail", "other"]
    assert recorder.orders[0].request.delay == timedelta(minutes=5)
    recorder.clear()
    assert recorder.orders == []


def test_the_same_id_or_unique_key_is_one_job() -> None:
    recorder = Recorder()
    client = Client(recorder)
    first = client.enqueue(Receipt(booking_id="b1"))
    assert client.enqueue(Receipt(booking_id="b1")).job_id == first.job_id
    assert client.enqueue(Receipt(booking_id="b1")).duplicate
    assert not client.enqueue(Receipt(booking_id="b2")).duplicate
    client.enqueue(Mail(), job_id="m")
    assert client.enqueue(Mail(), job_id="m").duplicate
    job = client.get("m")
    assert job is not None
    assert (job.kind, job.queue, job.state) == ("mail", "default", JobState.AVAILABLE)
    assert client.wait("m", timeout=timedelta(seconds=1)) == job
    client.close()
    assert len(recorder.orders) == 3


def test_it_fails_as_it_is_told_to() -> None:
    recorder = Recorder()
    recorder.fail_with = Unavailable("redis", "is away")
    with Client(recorder) as client:
        with pytest.raises(Unavailable, match="is away; it may have been stored"):
            client.enqueue(Mail())
        recorder.fail_with = None
        assert not client.enqueue(Mail()).duplicate
