"""Operator events: what an admin may have to act on. Each has an id for good, by which the journal explains it.

``systemd/skycap.catalog`` has the explanations; `journalctl -x` shows them.
"""

from __future__ import annotations

from collections.abc import Mapping

MESSAGE_IDS: Mapping[str, str] = {
    "daemon started": "d3065f82793a468babbbfbec9bc964d9",
    "daemon stopped": "a2367a63e43241deae6cd79ec73b32c2",
    "draining": "7c4938540c7b466f9bed18802abe8ca2",
    "reloaded": "284e56bf2c4d4645afc1d3d22c2f5acb",
    "reload refused": "6ed9ec3e92e24191859757c99f82e917",
    "watchdog not fed": "debd8d2449e04cbf8c5025763820523d",
    "memory used up; restarting": "2914d395866f484b8de391c06572b354",
    "memory limit ignored": "904ba1b896784687be9423b730827627",
    "redis is away; running jobs go on": "b9e99220641c411db48d26c35c71959b",
    "redis is back": "aa54637d013b48018758f9567de35114",
    "redis puts jobs at risk": "b03fe91a21da4b088f3729dd5c4147dc",
    "jobs wait in the outbox": "8ae290c39ef344e8bc06e8513df00453",
    "queue paused until an admin acts": "36ba79a774394a479b8d9592f071fd16",
    "job discarded": "fc88a106bdde43c692a20ae9659f87ca",
    "breaker opened": "89a1ae44171d42b08ed624099b529ceb",
    "plugin left out": "5c57f3cfaf5b484293dc573a00402467",
}
"""By what the log says. A text may be changed, and its id never."""
