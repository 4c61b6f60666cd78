"""Queues and kinds of jobs: the backend's figures, and what an admin changes of them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from skycap.backoff import exponential, fixed
from skycap.settings import QueueSettings, Settings, load_settings

HOUR, DAY = 3600, 86_400


def load(tmp_path: Path, toml: str) -> Settings:
    file = tmp_path / "skycap.toml"
    file.write_text(toml)
    return load_settings(file, environ={})


@pytest.mark.parametrize(
    ("name", "concurrency", "retry", "finished", "discarded_seconds"),
    [
        ("email", 3, exponential(seconds=5, attempts=3), (HOUR, 100), DAY),
        ("processing", 5, exponential(seconds=10, attempts=5), (HOUR, 50), 2 * DAY),
        ("scheduled", 2, fixed(seconds=60, attempts=3), (2 * HOUR, 10), 2 * DAY),
        ("default", 5, exponential(seconds=5, attempts=3), (HOUR, 100), 2 * DAY),
    ],
)
def test_queues_are_as_the_backend_has_them(
    name: str, concurrency: int, retry: object, finished: tuple[float, int], discarded_seconds: int
) -> None:
    queue = Settings().queues[name]
    assert queue.concurrency == concurrency
    assert queue.retry == retry
    assert (queue.keep_finished_seconds, queue.keep_finished_count) == finished
    assert queue.keep_discarded_seconds == discarded_seconds
    assert queue.timeout == timedelta(minutes=5)


def test_one_key_of_a_queue_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    queues = load(tmp_path, "[queues.email]\nconcurrency = 9\n").queues
    assert queues["email"] == Settings().queues["email"].model_copy(update={"concurrency": 9})
    assert queues["scheduled"] == Settings().queues["scheduled"]


def test_a_new_queue_starts_from_the_default_one_as_it_is_configured(tmp_path: Path) -> None:
    settings = load(tmp_path, "[queues.default]\nattempts = 8\n[queues.reports]\nconcurrency = 1\n")
    assert settings.queues["reports"] == QueueSettings(attempts=8, concurrency=1)
    assert settings.queues["email"].attempts == 3


def test_a_queue_that_is_not_configured_runs_as_the_default_one(tmp_path: Path) -> None:
    settings = load(tmp_path, "[queues.default]\nconcurrency = 8\n")
    assert settings.queue("never-heard-of").concurrency == 8
    assert settings.queue("email").concurrency == 3


def test_what_is_set_for_a_kind_wins_over_its_plugin_and_its_queue(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        '[jobs.sync]\nattempts = 9\n[jobs.report]\nbackoff = "fixed"\nbackoff_seconds = 2\ntimeout_seconds = 7\n',
    )
    declared = exponential(seconds=1, attempts=2, factor=3)
    assert settings.retry_of("other", queue="email") == exponential(seconds=5, attempts=3)
    assert settings.retry_of("other", queue="email", declared=declared) == declared
    assert settings.retry_of("sync", queue="email", declared=declared) == exponential(seconds=1, attempts=9, factor=3)
    assert settings.retry_of("report", queue="email", declared=declared) == fixed(seconds=2, attempts=2)
    assert settings.timeout_of("report", queue="email", declared=timedelta(hours=1)) == timedelta(seconds=7)
    assert settings.timeout_of("other", queue="email", declared=timedelta(hours=1)) == timedelta(hours=1)
    assert settings.timeout_of("other", queue="email") == timedelta(minutes=5)


def test_every_retry_that_can_be_configured_can_be_used(tmp_path: Path) -> None:
    settings = load(tmp_path, "[jobs.slow]\nbackoff_seconds = 86400\n[queues.slow]\nbackoff_seconds = 86400\n")
    short = exponential(seconds=1, attempts=3, longest=timedelta(minutes=1))
    assert settings.retry_of("slow", queue="email", declared=short).first == timedelta(days=1)
    assert settings.queues["slow"].retry.first == timedelta(days=1)
