"""Traces from the backend's request to the reply of the mail server, and metrics, as a real collector gets them."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp import ClientSession, web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.sdk.trace import TracerProvider

from skycap import AsyncClient, JobState
from skycap.demo.mailbox import Mailbox
from skycap.demo.travel import create_travel_tables
from skycap.exits import Exit
from skycap.tracing import carried_by, trace_id
from skycap_travel.payloads import SendWelcomeEmail
from tests.support.daemons import Site, skycap
from tests.support.servers import PASSWORD, USERNAME
from tests.support.workers import PATIENCE, eventually

ADDRESS = "ada.lovelace@example.com"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
JOB = {"kind": "send-welcome-email", "payload": {"userEmail": ADDRESS, "userName": "Ada"}}


@dataclass(frozen=True, kw_only=True)
class Received:
    """A span as the collector has it."""

    name: str
    trace: str
    id: str
    parent: str
    is_error: bool
    attributes: Mapping[str, Any]
    service: Mapping[str, Any]


@dataclass(kw_only=True)
class Collector:
    """What takes OTLP over HTTP."""

    url: str = ""
    spans: list[Received] = field(default_factory=list[Received])
    metrics: dict[str, Metric] = field(default_factory=dict[str, Metric])
    everything: bytes = b""

    async def take_metrics(self, request: web.Request) -> web.Response:
        for of_resource in ExportMetricsServiceRequest.FromString(await self._body(request)).resource_metrics:
            for of_scope in of_resource.scope_metrics:
                self.metrics |= {metric.name: metric for metric in of_scope.metrics}
        return web.Response(content_type="application/x-protobuf")

    async def _body(self, request: web.Request) -> bytes:
        body = await request.read()
        if body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        self.everything += body
        return body

    async def take_spans(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = _attributes(of_resource.resource.attributes)
            for of_scope in of_resource.scope_spans:
                self.spans += [
                    Received(
                        name=span.name,
                        trace=span.trace_id.hex(),
                        id=span.span_id.hex(),
                        parent=span.parent_span_id.hex(),
                        is_error=span.status.code == 2,
                        attributes=_attributes(span.attributes),
                        service=service,
                    )
                    for span in of_scope.spans
                ]
        return web.Response(content_type="application/x-protobuf")

    def of(self, trace: str) -> dict[str, Received]:
        return {span.name: span for span in self.spans if span.trace == trace}


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@asynccontextmanager
async def listening() -> AsyncGenerator[Collector]:
    collector = Collector()
    application = web.Application()
    application.router.add_post("/v1/traces", collector.take_spans)
    application.router.add_post("/v1/metrics", collector.take_metrics)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield collector
    finally:
        await runner.cleanup()


@pytest.fixture
async def mailbox(tmp_path: Path) -> AsyncGenerator[Mailbox]:
    async with Mailbox(tmp_path, username=USERNAME, password=PASSWORD) as mailbox:
        yield mailbox


@pytest.fixture
async def site(redis_url: str, database_url: str, tmp_path: Path, mailbox: Mailbox) -> Site:
    connection = await asyncpg.connect(database_url)
    await create_travel_tables(connection)
    await connection.close()
    return Site(folder=tmp_path, redis_url=redis_url, database_url=database_url, mailbox=mailbox)


async def enqueue(url: str, document: Mapping[str, Any], headers: Mapping[str, str]) -> str:
    async with ClientSession() as session, session.post(f"{url}/api/jobs", json=document, headers=headers) as answer:
        assert answer.status == 202, await answer.text()
        return str((await answer.json())["jobId"])


async def labels_of(redis_url: str, job_id: str) -> dict[str, str]:
    async with AsyncClient(redis_url) as client:
        queue = client.queue("email")
        envelope = json.loads(await queue.link.command("HGET", queue.keys.job(job_id), "envelope"))
        return dict(envelope.get("labels", {}))


async def test_one_trace_leads_from_the_backends_request_to_the_reply_of_the_mail_server(
    site: Site, redis_url: str
) -> None:
    async with listening() as collector:
        site.extra["telemetry"] = {"traces": True, "endpoint": collector.url}
        async with site.daemon() as daemon, AsyncClient(redis_url) as client:
            job_id = await enqueue(daemon.http_url, JOB, {"traceparent": TRACEPARENT})
            job = await client.wait(job_id, queue="email", timeout=PATIENCE)
            assert job is not None
            assert job.state is JobState.COMPLETED
        # The daemon has stopped, and told all.
        spans = collector.of(TRACE)
    request, work, mail = spans["POST /api/jobs"], spans["process send-welcome-email"], spans["send mail"]
    assert (request.parent, work.parent, mail.parent) == (PARENT, request.id, work.id)
    assert request.attributes["http.response.status_code"] == 202
    assert work.attributes["messaging.message.id"] == job_id
    assert work.attributes["messaging.destination.name"] == "email"
    assert mail.attributes["skycap.smtp.code"] == 250
    assert work.service["service.name"] == "skycap"
    assert not any(span.is_error for span in spans.values())
    assert ADDRESS.encode() not in collector.everything
    (line,) = [line for line in site.log.read_text().splitlines() if "mail sent" in line]
    assert json.loads(line)["trace"] == TRACE


async def test_a_failure_is_told_by_its_type_and_not_by_its_text(site: Site, redis_url: str) -> None:
    async with listening() as collector:
        site.extra["telemetry"] = {"traces": True, "endpoint": collector.url}
        async with site.daemon() as daemon, AsyncClient(redis_url) as client:
            document = {"kind": "send-payment-receipt", "payload": {"userId": "nobody", "bookingId": "none"}}
            job_id = await enqueue(daemon.http_url, document, {"traceparent": TRACEPARENT})
            await client.wait(job_id, queue="email", timeout=PATIENCE)

            async def was_tried() -> bool:
                job = await client.queue("email").get(job_id)
                return job is not None and bool(job.errors or job.reason)

            await eventually(was_tried)
    work = collector.of(TRACE)["process send-payment-receipt"]
    assert work.is_error
    assert work.attributes["error.type"].isidentifier()


async def test_a_daemon_that_does_not_trace_carries_the_context_on(site: Site, redis_url: str) -> None:
    async with site.daemon() as daemon:
        job_id = await enqueue(daemon.http_url, JOB, {"traceparent": TRACEPARENT, "tracestate": "vendor=1"})
        assert await labels_of(redis_url, job_id) == {"traceparent": TRACEPARENT, "tracestate": "vendor=1"}
        job_id = await enqueue(daemon.http_url, JOB, {"traceparent": "no such thing"})
        assert await labels_of(redis_url, job_id) == {}
        own = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-00"}
        job_id = await enqueue(daemon.http_url, JOB | {"labels": own}, {"traceparent": TRACEPARENT})
        assert await labels_of(redis_url, job_id) == own


async def test_a_python_client_carries_the_span_in_which_it_enqueues(redis_url: str) -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("the application")
    payload = SendWelcomeEmail(user_email=ADDRESS, user_name="Ada")
    async with AsyncClient(redis_url) as client:
        with tracer.start_as_current_span("sign up") as span:
            inside = await client.enqueue(payload)
        outside = await client.enqueue(payload)
    labels = await labels_of(redis_url, inside.job_id)
    assert trace_id(labels) == f"{span.get_span_context().trace_id:032x}"
    assert await labels_of(redis_url, outside.job_id) == {}


async def test_metrics_arrive_as_prometheus_would_read_them(site: Site, redis_url: str) -> None:
    async with listening() as collector:
        site.extra["telemetry"] = {"metrics": True, "metrics_seconds": 1, "endpoint": collector.url}
        async with site.daemon() as daemon, AsyncClient(redis_url) as client:
            await client.wait(await enqueue(daemon.http_url, JOB, {}), queue="email", timeout=PATIENCE)

            async def the_job_is_counted() -> bool:
                return bool(_completed(collector))

            await eventually(the_job_is_counted)
            async with ClientSession() as session, session.get(f"{daemon.http_url}/metrics") as answer:
                scraped = await answer.text()
    (point,) = _completed(collector)
    assert point.as_double == 1
    assert collector.metrics["skycap_jobs_finished_total"].sum.is_monotonic
    assert collector.metrics["skycap_queue_jobs"].WhichOneof("data") == "gauge"
    (durations,) = collector.metrics["skycap_job_duration_seconds"].histogram.data_points
    assert durations.count == sum(durations.bucket_counts) == 1
    assert len(durations.bucket_counts) == len(durations.explicit_bounds) + 1
    names = {line.split()[2] for line in scraped.splitlines() if line.startswith("# TYPE ")}
    assert set(collector.metrics) <= names
    assert ADDRESS.encode() not in collector.everything


def _completed(collector: Collector) -> list[Any]:
    if "skycap_jobs_finished_total" not in collector.metrics:
        return []
    wanted = {"queue": "email", "job_type": JOB["kind"], "outcome": "ok"}
    points = collector.metrics["skycap_jobs_finished_total"].sum.data_points
    return [point for point in points if _attributes(point.attributes) == wanted and point.as_double]


async def test_a_collector_that_is_away_hinders_nothing(site: Site, redis_url: str) -> None:
    site.extra["telemetry"] = {"traces": True, "metrics": True, "metrics_seconds": 1, "endpoint": "http://127.0.0.1:1"}
    async with site.daemon() as daemon, AsyncClient(redis_url) as client:
        job = await client.wait(await enqueue(daemon.http_url, JOB, {}), queue="email", timeout=PATIENCE)
        assert job is not None
        assert job.state is JobState.COMPLETED


async def test_an_address_with_a_secret_in_it_is_refused(site: Site) -> None:
    site.extra["telemetry"] = {"traces": True, "endpoint": "http://user:password@collector.example.com"}
    done = await skycap("run", "--config", str(site.config))
    assert done.code == Exit.CONFIGURATION
    assert "telemetry.endpoint" in done.err
    assert "password" not in done.err


@pytest.mark.parametrize(
    ("given", "carried"),
    [
        ({}, {}),
        ({"traceparent": TRACEPARENT}, {"traceparent": TRACEPARENT}),
        ({"traceparent": TRACEPARENT.upper()}, {}),
        ({"traceparent": f"{TRACEPARENT}\n"}, {}),
        ({"traceparent": TRACEPARENT, "tracestate": "a" * 513}, {"traceparent": TRACEPARENT}),
        ({"tracestate": "a=1"}, {}),
    ],
)
def test_only_what_can_be_read_is_carried(given: dict[str, str], carried: dict[str, str]) -> None:
    assert carried_by(given) == carried
