from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import skycap_travel.payloads
from skycap_travel import (
    accounts,
    bookings,
    mails,
    partners,
    payments,
    price_alerts,
    price_history,
    price_retention,
    price_sweep,
    processing,
    recommendations,
    reports,
)

NOT_FOR_A_BACKEND = (
    *("aiohttp", "aiosmtplib", "apscheduler", "asyncpg", "babel", "click", "css_inline", "icalendar", "jinja2"),
    *("pluggy", "redis", "structlog", "taskiq"),
    *("skycap.registry", "skycap.settings", "skycap.worker", "skycap_travel.bookings", "skycap_travel.content"),
)


def test_a_backend_that_enqueues_loads_no_handler_and_no_server_library() -> None:
    script = (
        "import sys; from skycap import AsyncClient; from skycap_travel.payloads import SendBookingConfirmation; "
        f"print([name for name in {NOT_FOR_A_BACKEND!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "module",
    [
        accounts,
        bookings,
        mails,
        partners,
        payments,
        price_alerts,
        price_history,
        price_retention,
        price_sweep,
        processing,
        recommendations,
        reports,
    ],
    ids=lambda module: module.__name__,
)
def test_a_payload_can_be_imported_from_the_payloads_and_from_beside_its_handler(module: Any) -> None:
    handled = [job_type.payload for job_type in module.plugin.register_jobs()]
    assert handled
    for payload in handled:
        assert getattr(skycap_travel.payloads, payload.__name__) is payload
        assert getattr(module, payload.__name__) is payload
