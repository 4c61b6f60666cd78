"""Queues and kinds of jobs: the backend's figures, and what an admin changes of them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from skycap.backoff import Backoff, exponential, fixed, linear, waits
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


def test_only_mails_have_a_rate_by_default_as_the_backend_has_it() -> None:
    queues = Settings().queues
    assert {name: queue.rate for name, queue in queues.items() if queue.rate} == {"email": (10, timedelta(seconds=1))}
    assert {(queue.order, queue.max_waiting, queue.fleet_concurrency) for queue in queues.values()} == {
        ("fifo", None, None)
    }


def test_a_rate_is_a_number_and_a_time(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "[queues.processing]\nrate_max = 90\nrate_seconds = 60\n[jobs.sync]\nrate_max = 2\n"
        "[jobs.report]\nrate_max = 1\nrate_seconds = 3600\n",
    )
    assert settings.queues["processing"].rate == (90, timedelta(minutes=1))
    assert settings.job("sync").rate == (2, timedelta(seconds=1))
    assert settings.job("report").rate == (1, timedelta(hours=1))
    assert settings.job("other").rate is None


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


@pytest.mark.parametrize(
    ("toml", "retry"),
    [
        ('backoff = "linear"', linear(seconds=5, attempts=3)),
        ('backoff = "fixed"\njitter = 0', fixed(seconds=5, attempts=3, jitter=0)),
        ("backoff_longest_seconds = 9", exponential(seconds=5, attempts=3, longest=timedelta(seconds=9))),
        ('backoff = "list"\nbackoff_seconds = [1, 5, 30.5]', waits([1, 5, 30.5], attempts=3)),
        ("backoff_seconds = 2592000\nbackoff_longest_seconds = 2592000", None),
    ],
)
def test_a_queue_has_each_shape_of_waits(tmp_path: Path, toml: str, retry: Backoff | None) -> None:
    found = load(tmp_path, f"[queues.email]\n{toml}\n").queues["email"].retry
    assert found == retry or (retry is None and found.first == timedelta(days=30))


@pytest.mark.parametrize(
    ("toml", "declared", "retry"),
    [
        ('backoff = "linear"', exponential(seconds=3, attempts=2), linear(seconds=3, attempts=2)),
        ('backoff = "fixed"', waits([3, 4], attempts=2), fixed(seconds=3, attempts=2)),
        ('backoff = "exponential"', linear(seconds=3, attempts=2), exponential(seconds=3, attempts=2)),
        ('backoff = "list"\nbackoff_seconds = [1, 9]', linear(seconds=3, attempts=2), waits([1, 9], attempts=2)),
        ("backoff_seconds = 7", linear(seconds=3, attempts=2), linear(seconds=7, attempts=2)),
        ("backoff_seconds = 7", waits([3, 4], attempts=2), fixed(seconds=7, attempts=2)),
        ("jitter = 1", waits([3, 4], attempts=2), waits([3, 4], attempts=2, jitter=1)),
        (
            "backoff_longest_seconds = 2",
            waits([1, 3, 4], attempts=2),
            waits([1, 2, 2], attempts=2, longest=timedelta(seconds=2)),
        ),
        (
            'backoff = "list"\nbackoff_seconds = [1, 172800]',
            fixed(seconds=3, attempts=2),
            waits([1, 172800], attempts=2, longest=timedelta(days=2)),
        ),
    ],
)
def test_a_kind_changes_any_shape_into_any_other(tmp_path: Path, toml: str, declared: Backoff, retry: Backoff) -> None:
    settings = load(tmp_path, f"[jobs.sync]\n{toml}\n")
    assert settings.retry_of("sync", queue="email", declared=declared) == retry


def test_what_is_kept_of_a_kind_wins_over_its_queue(tmp_path: Path) -> None:
    settings = load(tmp_path, "[jobs.sync]\nkeep_finished_seconds = 0\n[jobs.report]\nkeep_discarded_seconds = 60\n")
    assert settings.retention_of("sync", queue="email") == (timedelta(0), timedelta(days=1))
    assert settings.retention_of("report", queue="email") == (timedelta(hours=1), timedelta(minutes=1))
    assert settings.retention_of("other", queue="nowhere") == (timedelta(hours=1), timedelta(days=2))


@pytest.mark.parametrize(("toml", "shown"), [("", 5.0), ('backoff = "list"\nbackoff_seconds = [1, 5]', [1.0, 5.0])])
@pytest.mark.filterwarnings("error")
def test_waits_are_shown_as_they_were_written(tmp_path: Path, toml: str, shown: object) -> None:
    queues = load(tmp_path, f"[queues.email]\n{toml}\n").model_dump(mode="json")["queues"]
    assert queues["email"]["backoff_seconds"] == shown


def test_every_retry_that_can_be_configured_can_be_used(tmp_path: Path) -> None:
    settings = load(tmp_path, "[jobs.slow]\nbackoff_seconds = 86400\n[queues.slow]\nbackoff_seconds = 86400\n")
    short = exponential(seconds=1, attempts=3, longest=timedelta(minutes=1))
    assert settings.retry_of("slow", queue="email", declared=short).first == timedelta(days=1)
    assert settings.queues["slow"].retry.first == timedelta(days=1)
