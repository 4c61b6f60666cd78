"""Another program's eyes: KDE Itinerary's extractor (Debian: libkpimitinerary-bin) reads the mails as they are sent."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.mails import SAMPLES, booking, confirmation_mail, eml
from tests.support.skips import skip

_PLACES = (
    "/usr/lib/x86_64-linux-gnu/libexec/kf5/kitinerary-extractor",
    "/usr/lib/aarch64-linux-gnu/libexec/kf5/kitinerary-extractor",
    "/usr/lib/x86_64-linux-gnu/libexec/kf6/kitinerary-extractor",
    "/usr/lib/aarch64-linux-gnu/libexec/kf6/kitinerary-extractor",
)


@pytest.fixture(scope="module")
def extractor() -> str:
    found = shutil.which("kitinerary-extractor") or next((path for path in _PLACES if Path(path).exists()), None)
    return found or skip("kitinerary-extractor is missing: apt-get install libkpimitinerary-bin")


def read(extractor: str, file: Path, **columns: object) -> list[dict[str, Any]]:
    """The reservations that the extractor finds in the mail about a booking with these columns."""
    file.write_bytes(eml(confirmation_mail(booking(**columns), locale="en")))
    environment = os.environ | {"QT_QPA_PLATFORM": "offscreen", "TZ": "UTC", "HOME": str(file.parent)}
    done = subprocess.run([extractor, str(file)], capture_output=True, env=environment, timeout=60, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def moment(value: Any) -> tuple[str, str | None]:
    """A moment as the extractor gives it, with the zone that it worked out from the place."""
    is_zoned = not isinstance(value, str)
    return (value["@value"], value["timezone"]) if is_zoned else (value, None)


# Type, name, the property with the moment, and that moment with the zone.
EXPECTED = {
    "hotel": (
        *("LodgingReservation", "Ilıca Koyu Butik Otel", "checkinTime"),
        ("2027-06-11T14:00:00+03:00", "Europe/Istanbul"),
    ),
    "car": ("RentalCarReservation", "Fiat Egea", "pickupTime", ("2027-06-11T10:00:00+03:00", None)),
    "restaurant": (
        *("FoodEstablishmentReservation", "Asma Yaprağı", "startTime"),
        ("2027-06-12T19:30:00+03:00", "Europe/Istanbul"),
    ),
    "tour": ("EventReservation", "Ephesus", "startDate", ("2027-06-12T09:30:00+03:00", "Europe/Istanbul")),
    "activity": ("EventReservation", "Sailing", "startDate", ("2027-06-12T09:30:00+02:00", None)),
    "transfer": ("TaxiReservation", "Minibus", "pickupTime", ("2027-04-01T08:20:00+03:00", None)),
}


@pytest.mark.parametrize("name", list(EXPECTED))
@pytest.mark.parametrize("status", ["Confirmed", "Cancelled"])
def test_a_reservation_comes_back(extractor: str, tmp_path: Path, name: str, status: str) -> None:
    [found] = read(extractor, tmp_path / "mail.eml", **SAMPLES[name] | {"status": status.upper()})
    kind, what, moment_name, when = EXPECTED[name]
    assert (found["@type"], found["reservationNumber"]) == (kind, "BK-2026-7F3K9Q")
    assert found["reservationStatus"] == f"http://schema.org/Reservation{status}"
    assert (found["underName"]["name"], found["reservationFor"]["name"]) == ("Ayşe Yılmaz", what)
    assert moment((found | found["reservationFor"])[moment_name]) == when


@pytest.mark.parametrize(("status", "told"), [("CONFIRMED", "Confirmed"), ("CANCELLED", "Cancelled")])
def test_each_flight_comes_back_on_the_clocks_of_its_airports(
    extractor: str, tmp_path: Path, status: str, told: str
) -> None:
    found = read(extractor, tmp_path / "mail.eml", **SAMPLES["flight"] | {"status": status})
    assert {(each["@type"], each["reservationNumber"]) for each in found} == {("FlightReservation", "BK-2026-7F3K9Q")}
    assert {each["reservationStatus"] for each in found} == {f"http://schema.org/Reservation{told}"}
    there, back = (each["reservationFor"] for each in found)
    assert (there["airline"]["iataCode"], there["flightNumber"]) == ("TK", "1972")
    assert moment(there["departureTime"]) == ("2027-02-10T08:05:00+03:00", "Europe/Istanbul")
    assert moment(there["arrivalTime"]) == ("2027-02-10T10:10:00+00:00", "Europe/London")
    assert moment(back["departureTime"]) == ("2027-02-17T16:30:00+00:00", "Europe/London")
    assert moment(back["arrivalTime"]) == ("2027-02-17T23:20:00+03:00", "Europe/Istanbul")


def test_a_package_comes_back_as_all_that_it_holds(extractor: str, tmp_path: Path) -> None:
    found = read(extractor, tmp_path / "mail.eml", **SAMPLES["package"])
    assert sorted(each["@type"] for each in found) == [
        *("EventReservation", "FlightReservation", "LodgingReservation", "TaxiReservation")
    ]
    assert {each["reservationNumber"] for each in found} == {"BK-2026-7F3K9Q"}


def test_a_booking_of_which_too_little_is_known_is_no_reservation(extractor: str, tmp_path: Path) -> None:
    assert read(extractor, tmp_path / "mail.eml") == []
