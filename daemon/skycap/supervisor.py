"""Supervisor: the life of one daemon, from its start to the last settled job."""

from __future__ import annotations

import asyncio
import faulthandler
import resource
import signal
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import structlog

from skycap.assembly import Daemon
from skycap.engine.durability import concerns
from skycap.errors import Unavailable
from skycap.observe.loop_lag import watch_lag
from skycap.observe.systemd import Notifier

_log = structlog.get_logger("skycap.supervisor")

STALLED_AFTER = timedelta(seconds=15)
"""A consumer this long without an answer from Redis, while Redis is there, makes no progress."""

OPEN_FILES = 65_536
"""As many as the unit allows."""

REPORT_INTERVAL = timedelta(seconds=5)

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def supervise(daemon: Daemon) -> None:
    """Run the daemon until SIGTERM or SIGINT, then drain it; a second signal hands the running jobs back at once.

    SIGHUP has the admin's templates read again. Raises what a part that died raised.
    """
    faulthandler.enable()  # the watchdog's SIGABRT then leaves every stack in the journal
    _allow_many_connections()
    notifier = Notifier()
    stop = asyncio.Event()
    reload = asyncio.Event()
    async with AsyncExitStack() as closing, _signals(stop, reload) as hurry:
        await _start(daemon, closing)
        await _tell_plugins_of_the_start(daemon, stop)
        if not stop.is_set():
            notifier.ready(_status(daemon), http_url=daemon.http.url if daemon.http else "")
        async with _companions(daemon, notifier, reload):
            await _until_stopped(daemon, stop)
            notifier.stopping(f"draining: {_status(daemon)}")
            await _drain(daemon, notifier, hurry)
    _log.info("daemon stopped", worker=daemon.id)


def _allow_many_connections() -> None:
    # A shell's usual 1,024 are used up by as many clients of the HTTP API, and then Redis cannot be reached either.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _start(daemon: Daemon, closing: AsyncExitStack) -> None:
    # Closed in reverse: what handlers use goes last.
    if daemon.databases is not None:
        closing.push_async_callback(daemon.databases.close)
    if daemon.smtp is not None:
        closing.push_async_callback(daemon.smtp.close)
    closing.push_async_callback(daemon.http_client.close)
    closing.push_async_callback(daemon.client.close)
    daemon.broker.is_worker_process = True
    await daemon.broker.startup()
    closing.push_async_callback(daemon.broker.shutdown)
    if daemon.cache_link is not daemon.broker.link:
        closing.push_async_callback(daemon.cache_link.close)
    closing.push_async_callback(daemon.cache.close)
    closing.push_async_callback(daemon.breakers.close)
    if daemon.http is not None:
        await daemon.http.start()
        closing.push_async_callback(daemon.http.stop)
    daemon.loop_monitor.start()
    closing.callback(daemon.loop_monitor.stop)
    daemon.worker.start()
    _log.info(
        "daemon started",
        worker=daemon.id,
        queues=[consumer.queue.name for consumer in daemon.worker.consumers],
        kinds=[job_type.kind for job_type in daemon.registry.job_types],
    )


async def _tell_plugins_of_the_start(daemon: Daemon, stop: asyncio.Event) -> None:
    telling = asyncio.create_task(daemon.registry.notify("daemon_started", worker_id=daemon.id), name="daemon_started")
    stopped = asyncio.create_task(stop.wait(), name="stop signal")
    await asyncio.wait((telling, stopped), return_when=asyncio.FIRST_COMPLETED)
    for task in (telling, stopped):
        task.cancel()


async def _until_stopped(daemon: Daemon, stop: asyncio.Event) -> None:
    """Return at the first stop signal, or raise what a part raised; then nothing ticks or is relayed any more."""
    stopped = asyncio.create_task(stop.wait(), name="stop signal")
    parts = [
        asyncio.create_task(daemon.worker.ended(), name="worker"),
        asyncio.create_task(daemon.clock.run(), name="clock"),
        asyncio.create_task(_look_at_redis(daemon), name="redis settings"),
        asyncio.create_task(daemon.tables.watch(), name="absent tables"),
    ]
    if daemon.outbox is not None:
        parts.append(asyncio.create_task(daemon.outbox.run(), name="outbox"))
    if daemon.alerts is not None:
        parts.append(asyncio.create_task(daemon.alerts.run(), name="alerts"))
    try:
        done, _ = await asyncio.wait((stopped, *parts), return_when=asyncio.FIRST_COMPLETED)
        for part in done:
            part.result()
    finally:
        for task in (stopped, *parts):
            task.cancel()


async def _look_at_redis(daemon: Daemon) -> None:
    """Warn of settings that may lose jobs, once; raises ConfigurationError for a Redis that cannot run the queues."""
    while True:
        try:
            found = await concerns(daemon.broker.link)
            break
        except Unavailable:
            await asyncio.sleep(REPORT_INTERVAL.total_seconds())
    for concern in found:
        _log.warning("redis puts jobs at risk", problem=concern)
    await asyncio.get_running_loop().create_future()


async def _drain(daemon: Daemon, notifier: Notifier, hurry: asyncio.Event) -> None:
    grace = timedelta(seconds=daemon.settings.worker.grace_seconds)
    _log.info("draining", jobs=daemon.worker.running, grace_seconds=grace.total_seconds())
    notifier.extend(grace + timedelta(seconds=10))
    draining = asyncio.create_task(_until_drained(daemon, grace), name="drain")
    hurried = asyncio.create_task(hurry.wait(), name="second signal")
    await asyncio.wait((draining, hurried), return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    if not draining.done():
        draining.cancel()
        await daemon.worker.drain(timedelta(0))
    else:
        draining.result()


async def _until_drained(daemon: Daemon, grace: timedelta) -> None:
    """Jobs and plugins have the same time to come to their end."""
    async with asyncio.TaskGroup() as group:
        group.create_task(daemon.worker.drain(grace))
        group.create_task(_tell_plugins_of_the_end(daemon, grace))


async def _tell_plugins_of_the_end(daemon: Daemon, grace: timedelta) -> None:
    try:
        async with asyncio.timeout(grace.total_seconds()):
            await daemon.registry.notify("daemon_stopping", worker_id=daemon.id)
    except TimeoutError:
        _log.warning("grace period over; a plugin was not done", hook="daemon_stopping")


@asynccontextmanager
async def _signals(stop: asyncio.Event, reload: asyncio.Event) -> AsyncGenerator[asyncio.Event]:
    """The first stop signal sets ``stop``, a further one the event that this yields; SIGHUP sets ``reload``."""
    hurry = asyncio.Event()
    loop = asyncio.get_running_loop()

    def received() -> None:
        (hurry if stop.is_set() else stop).set()

    for each in _STOP_SIGNALS:
        loop.add_signal_handler(each, received)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    try:
        yield hurry
    finally:
        for each in (*_STOP_SIGNALS, signal.SIGHUP):
            loop.remove_signal_handler(each)


@asynccontextmanager
async def _companions(daemon: Daemon, notifier: Notifier, reload: asyncio.Event) -> AsyncGenerator[None]:
    """What runs beside the worker, and ends with it."""
    tasks = [
        asyncio.create_task(notifier.feed_watchdog(lambda: _is_alive(daemon)), name="watchdog"),
        asyncio.create_task(_report(daemon, notifier), name="status"),
        asyncio.create_task(_reload(daemon, notifier, reload), name="reload"),
        asyncio.create_task(daemon.presence.run(), name="presence"),
    ]
    if daemon.http is not None:
        tasks.append(asyncio.create_task(watch_lag(daemon.meters.loop_lag.note), name="event loop lag"))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _reload(daemon: Daemon, notifier: Notifier, wanted: asyncio.Event) -> None:
    while True:
        await wanted.wait()
        wanted.clear()
        notifier.reloading()
        if daemon.templates is not None:
            await asyncio.to_thread(daemon.templates.reload)  # all are compiled anew, which takes a while
        _log.info("templates read again; other settings are as they were at the start")
        notifier.ready(_status(daemon), http_url=daemon.http.url if daemon.http else "")


async def _report(daemon: Daemon, notifier: Notifier) -> None:
    said = ""
    while True:
        await asyncio.sleep(REPORT_INTERVAL.total_seconds())
        status = f"draining: {_status(daemon)}" if daemon.worker.is_draining else _status(daemon)
        if status != said:
            notifier.status(status)
            said = status


def _is_alive(daemon: Daemon) -> bool:
    return daemon.worker.since_last_try < STALLED_AFTER


def _status(daemon: Daemon) -> str:
    return ", ".join(
        f"{consumer.queue.name} {consumer.running}/{consumer.concurrency}" for consumer in daemon.worker.consumers
    )
