"""Every sample of every kind in every locale, against what it looked like when a person last looked at it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skycap_travel.payloads import BookingType
from skycap_travel.samples import bookings
from tests.support.golden import assert_golden
from tests.support.previews import all_previews

FOLDER = Path(__file__).parents[1] / "golden" / "samples"


@pytest.mark.parametrize("part", ["subject.txt", "txt", "html"])
def test_every_mail_looks_as_it_did_when_it_was_last_looked_at(part: str) -> None:
    previews = all_previews()
    assert previews
    changed: list[str] = []
    for name, preview in previews.items():
        actual = {"subject.txt": f"{preview.subject}\n", "txt": preview.text, "html": preview.html}[part]
        try:
            assert_golden(f"samples/{name}.{part}", actual)
        except pytest.fail.Exception as difference:
            changed.append(str(difference))
    if changed:
        pytest.fail("\n\n".join([*changed[:5], f"{len(changed)} of {len(previews)} mails"]), pytrace=False)


def test_the_samples_show_every_type_and_every_status_of_a_booking() -> None:
    rows = [row for sample in bookings() for found in sample.rows.values() for row in found]
    assert {row["booking_type"] for row in rows} == set(BookingType)
    assert {row["status"] for row in rows} == {"PENDING", "CONFIRMED", "CANCELLED", "COMPLETED", "REFUNDED"}


def test_no_golden_file_is_left_of_a_mail_that_is_gone() -> None:
    expected = {f"{name}.{part}" for name in all_previews() for part in ("subject.txt", "txt", "html")}
    left = {file.name for file in FOLDER.glob("*")} - expected
    if os.environ.get("SKYCAP_UPDATE_GOLDEN") == "1":
        for name in left:
            (FOLDER / name).unlink()
        return
    assert left == set()
