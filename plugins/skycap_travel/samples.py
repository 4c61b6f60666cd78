"""Samples: jobs with their rows, for ``skycap mail preview``; the daemon never loads them.

The guests and places are invented. Names are long, from right to left, or with an İ, where that shows something.
"""

# ruff: noqa: RUF001 - guests and places have letters that look like others

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from skycap import Sample
from skycap_travel.payloads import (
    AttachedFile,
    BookingType,
    EntityType,
    SendBookingConfirmation,
    SendEmail,
    SendPriceAlert,
    SendWelcomeEmail,
)
from skycap_travel.rows import BOOKING_OF_USER, LANGUAGE_OF_ADDRESS, PRICE_ALERT_OF_USER

_BOOKED = datetime.fromisoformat("2026-11-20T08:14:32.120")
_CHANGED = datetime.fromisoformat("2026-11-23T09:29:58.004")


class _Guest(NamedTuple):
    user_id: str
    name: str | None
    email: str
    language: str


_AYSE = _Guest("cmq1us0a7000108l4a1ay5ey1", "Ayşe Yılmaz", "ayse.yilmaz@example.com", "tr")
_ISIK = _Guest("cmq1us0a7000208l4a2isik22", "İlkay Işık Çağlayangil", "ilkay.isik@example.com", "tr")
_MAXIMILIAN = _Guest(
    "cmq1us0a7000308l4a3maxi33", "Maximilian-Alexander Freiherr von Hohenstaufen-Oberammergau", "m@example.de", "de"
)
_YUSUF = _Guest("cmq1us0a7000408l4a4yusu44", "يوسف بن عبد الرحمن العلي", "yusuf.alali@example.com", "ar")
_EKATERINA = _Guest("cmq1us0a7000508l4a5ekat55", "Екатерина Александровна Преображенская", "e.p@example.com", "ru")
_NIAMH = _Guest("cmq1us0a7000608l4a6niam66", "Niamh O’Sullivan", "niamh@example.ie", "en")
_NAMELESS = _Guest("cmq1us0a7000708l4a7noname", None, "guest@example.com", "tr")


def bookings() -> Iterator[Sample]:
    """Every type of booking, and every status."""
    yield _booking(
        "hotel-confirmed",
        "BK-2026-7F3K9Q",
        _AYSE,
        BookingType.HOTEL,
        special_requests="Deniz gören bir oda rica ederiz.\nBebek yatağı & sessiz bir kat olursa seviniriz.",
        meta_data={
            "hotelName": "Ilıca Koyu Butik Otel",
            "roomType": "Deniz manzaralı üç kişilik oda",
            "address": "Çeşme Caddesi 14, Ilıca Mahallesi",
            "city": "Çeşme",
            "country": "Turkey",
            "phone": "+90 232 000 00 14",
            "checkInTime": "14:00",
            "checkOutTime": "12:00",
            "adults": 2,
            "children": 1,
            "cancellationDeadline": "2027-06-08T18:00:00+03:00",
        },
    )
    yield _booking(
        "flight-confirmed",
        "BK-2026-2MZ8TA",
        _YUSUF,
        BookingType.FLIGHT,
        total_amount=Decimal("187.125"),
        currency="KWD",
        payment_method="DEBIT_CARD",
        check_in=datetime.fromisoformat("2027-02-10T05:05"),
        check_out=datetime.fromisoformat("2027-02-17T19:40"),
        guest_count=3,
        meta_data={
            "pnr": "7QX4ZL",
            "flights": [
                {
                    "airline": "Turkish Airlines",
                    "flightNumber": "TK 773",
                    "departure": {
                        "airport": "Kuwait International Airport",
                        "iataCode": "KWI",
                        "terminal": "1",
                        "timeZone": "Asia/Kuwait",
                    },
                    "departureTime": "2027-02-10T08:05:00+03:00",
                    "arrival": {"airport": "İstanbul Havalimanı", "iataCode": "IST", "timeZone": "Europe/Istanbul"},
                    "arrivalTime": "2027-02-10T12:40:00+03:00",
                },
                {
                    "airline": "Turkish Airlines",
                    "flightNumber": "TK 2334",
                    "departure": {"airport": "İstanbul Havalimanı", "iataCode": "IST", "timeZone": "Europe/Istanbul"},
                    "departureTime": "2027-02-10T14:30:00+03:00",
                    "arrival": {"airport": "İzmir Adnan Menderes", "iataCode": "ADB", "timeZone": "Europe/Istanbul"},
                    "arrivalTime": "2027-02-10T15:40:00+03:00",
                },
                {
                    "airline": "Turkish Airlines",
                    "flightNumber": "TK 2341",
                    "departure": {"airport": "İzmir Adnan Menderes", "iataCode": "ADB", "timeZone": "Europe/Istanbul"},
                    "departureTime": "2027-02-17T19:40:00+03:00",
                    "arrival": {"airport": "İstanbul Havalimanı", "iataCode": "IST", "timeZone": "Europe/Istanbul"},
                    "arrivalTime": "2027-02-17T21:00:00+03:00",
                },
            ],
            "cabinClass": "Economy",
            "baggage": "2 × 23 kg",
            "passengers": ["Yusuf Alali", "Maryam Alali", "Salem Alali"],
            "passportRequired": True,
            "visaRequired": True,
        },
    )
    yield _booking(
        "activity-confirmed",
        "BK-2026-C4R61W",
        _MAXIMILIAN,
        BookingType.ACTIVITY,
        total_amount=Decimal("149.5"),
        currency="EUR",
        check_in=datetime.fromisoformat("2027-05-03T02:30"),
        check_out=None,
        meta_data={
            "activityName": "Heißluftballonfahrt über Göreme bei Sonnenaufgang mit Sektfrühstück",
            "meetingPoint": "Lobby des Hotels, 45 Minuten vor Sonnenaufgang",
            "city": "Göreme, Nevşehir",
            "provider": "Kapadokya Gökyüzü Balonculuk A.Ş.",
            "phone": "+90 384 000 00 28",
        },
    )
    yield _booking(
        "tour-pending",
        "BK-2026-9HPX0E",
        _EKATERINA,
        BookingType.TOUR,
        status="PENDING",
        payment_method="BANK_TRANSFER",
        payment_status="PENDING",
        total_amount=Decimal(48600),
        currency="RUB",
        check_in=datetime.fromisoformat("2027-04-18T06:00"),
        check_out=datetime.fromisoformat("2027-04-18T15:00"),
        guest_count=4,
        meta_data={
            "tourName": "Эфес и дом Девы Марии: экскурсия на целый день",
            "meetingPoint": "Kuşadası, Liman Caddesi 2",
            "city": "Selçuk",
            "provider": "Ege Rehberlik",
        },
    )
    yield _booking(
        "car-rental-confirmed",
        "BK-2026-K7D2VN",
        _NIAMH,
        BookingType.CAR_RENTAL,
        total_amount=Decimal("412.8"),
        currency="EUR",
        check_in=datetime.fromisoformat("2027-03-08T11:30"),
        check_out=datetime.fromisoformat("2027-03-15T07:00"),
        guest_count=None,
        meta_data={
            "carModel": "Fiat Egea 1.4 Fire or similar",
            "rentalCompany": "Akdeniz Rent a Car",
            "pickupLocation": "Antalya Airport (AYT), arrivals hall T1",
            "dropoffLocation": "Dalaman Airport (DLM)",
            "phone": "+90 242 000 00 51",
        },
    )
    yield _booking(
        "restaurant-confirmed",
        "BK-2026-5TQ3GB",
        _ISIK,
        BookingType.RESTAURANT,
        total_amount=Decimal(0),
        payment_method="LOYALTY_POINTS",
        check_in=datetime.fromisoformat("2026-12-31T17:30"),
        check_out=None,
        guest_count=6,
        special_requests="Pencere kenarı; bir kişi glütensiz yiyor.",
        meta_data={
            "restaurantName": "Mavi Martı Balıkçısı",
            "address": "İskele Sokak 3, Kuzguncuk",
            "city": "İstanbul",
            "phone": "+90 216 000 00 03",
        },
    )
    yield _booking(
        "package-completed",
        "BK-2026-Z1L8YC",
        _MAXIMILIAN,
        BookingType.PACKAGE,
        status="COMPLETED",
        total_amount=Decimal("2349.9"),
        currency="EUR",
        check_in=datetime.fromisoformat("2026-11-07T00:00"),
        check_out=datetime.fromisoformat("2026-11-21T00:00"),
        meta_data={
            "packageName": "Zwei Wochen Lykische Küste mit Flug, Transfer und Halbpension",
            "hotelName": "Kaş Yarımada Hotel",
            "roomType": "Doppelzimmer mit Meerblick und Balkon",
            "city": "Kaş",
            "country": "Turkey",
            "flights": [
                {
                    "airline": "SunExpress",
                    "flightNumber": "XQ 141",
                    "origin": {"name": "Düsseldorf", "code": "DUS", "timeZone": "Europe/Berlin"},
                    "departureTime": "2026-11-07T09:15:00+01:00",
                    "destination": {"name": "Dalaman", "code": "DLM", "timeZone": "Europe/Istanbul"},
                    "arrivalTime": "2026-11-07T14:50:00+03:00",
                },
            ],
            "transfer": {"pickup": "Dalaman Havalimanı", "dropoff": "Kaş Yarımada Hotel", "vehicle": "Kleinbus"},
            "included": ["Halbpension", "Bootsausflug nach Kekova"],
        },
    )
    yield _booking(
        "transfer-confirmed",
        "BK-2026-4WJ6RM",
        _NAMELESS,
        BookingType.AIRPORT_TRANSFER,
        total_amount=Decimal(9400),
        currency="JPY",
        check_in=datetime.fromisoformat("2027-04-01T05:20"),
        check_out=None,
        meta_data={
            "pickup": {"location": "Dalaman Havalimanı (DLM), çıkış 2"},
            "dropoff": {"location": "Ölüdeniz, Kumsal Otel"},
            "vehicle": "Mercedes Vito",
            "flightNumber": "PC 3048",
        },
    )
    yield _booking(
        "hotel-cancelled",
        "BK-2026-B0N9SU",
        _YUSUF,
        BookingType.HOTEL,
        status="CANCELLED",
        payment_status="REFUNDED",
        total_amount=Decimal(2150),
        currency="SAR",
        meta_data={"hotelName": "فندق شاطئ البوسفور", "city": "إسطنبول", "phone": "+90 212 000 00 77"},
    )
    yield _booking(
        "flight-refunded",
        "BK-2026-8XE5HD",
        _AYSE,
        BookingType.FLIGHT,
        status="REFUNDED",
        payment_status="PARTIALLY_REFUNDED",
        total_amount=Decimal("6240.45"),
        check_in=datetime.fromisoformat("2027-01-04T16:30"),
        check_out=None,
        guest_count=1,
        meta_data={"from": {"name": "İzmir"}, "to": {"name": "Diyarbakır"}, "flightNumber": 771},
    )
    yield _booking(
        "hotel-bare",
        "BK-2026-3YV7PF",
        _NAMELESS,
        BookingType.HOTEL,
        check_in=None,
        check_out=None,
        guest_count=None,
        meta_data=None,
    )


def price_alerts() -> Iterator[Sample]:
    """One that reached its target, and one that only fell far enough."""
    yield _price_alert(
        "target-reached",
        _AYSE,
        EntityType.HOTEL,
        old_price=Decimal(24900),
        new_price=Decimal("18450.5"),
        entity_name="Ilıca Koyu Butik Otel",
        target_price=Decimal(19000),
        expires_at=datetime.fromisoformat("2027-03-31T21:00"),
    )
    yield _price_alert(
        "fallen",
        _MAXIMILIAN,
        EntityType.FLIGHT,
        old_price=Decimal("389.99"),
        new_price=Decimal("329.9"),
        entity_name="Düsseldorf (DUS) – Antalya (AYT), 3. bis 17. Mai 2027, zwei Erwachsene mit Aufgabegepäck",
        target_price=Decimal(300),
        currency="EUR",
    )


def accounts() -> Iterator[Sample]:
    """A new guest."""
    yield Sample(
        name="new-guest",
        payload=SendWelcomeEmail(user_email=_ISIK.email, user_name=_ISIK.name or ""),
        rows={LANGUAGE_OF_ADDRESS: [{"preferredLanguage": _ISIK.language}]},
    )


def mails() -> Iterator[Sample]:
    """One that the backend has written itself."""
    yield Sample(
        name="with-attachment",
        payload=SendEmail(
            to=_AYSE.email,
            subject="Uçuş planınız değişti: TK 2341",
            html=_WRITTEN_BY_THE_BACKEND,
            attachments=(AttachedFile(filename="Uçuş planı.txt", content="TK 2341  16.40 → 17.25\n".encode()),),
        ),
    )


_WRITTEN_BY_THE_BACKEND = """<!doctype html>
<html lang="tr" dir="ltr">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Uçuş planı</title></head>
<body style="margin: 0; padding: 24px; background-color: #ffffff; color: #222222; font: 16px/1.5 Arial, sans-serif">
<h1 style="font-size: 22px">Uçuşunuzun saati değişti</h1>
<p>Sayın Ayşe Yılmaz,</p>
<p>4 Ocak 2027 tarihli <strong>TK 2341</strong> sefer sayılı İzmir – Diyarbakır uçuşunuz <strong>17.25</strong> saatinde
kalkacak. Yeni planınız ektedir.</p>
<p>İyi yolculuklar dileriz.</p>
</body>
</html>
"""


def _booking(
    name: str, reference: str, guest: _Guest, booking_type: BookingType, *, meta_data: object, **columns: Any
) -> Sample:
    """A booking of next summer, paid by card, but for what ``columns`` say."""
    booking_id = f"cmq1bk-{name}"
    row = {
        "reference": reference,
        "booking_type": booking_type.value,
        "status": "CONFIRMED",
        "total_amount": Decimal("18450.000000000000000000000000000000"),
        "currency": "TRY",
        "payment_method": "CREDIT_CARD",
        "payment_status": "COMPLETED",
        "check_in": datetime.fromisoformat("2027-06-11T00:00"),
        "check_out": datetime.fromisoformat("2027-06-15T00:00"),
        "guest_count": 2,
        "special_requests": None,
        "meta_data": None if meta_data is None else json.dumps(meta_data),
        "created_at": _BOOKED,
        "updated_at": _CHANGED,
        "guest_name": guest.name,
        "guest_email": guest.email,
        "language": guest.language,
    }
    return Sample(
        name=name,
        payload=SendBookingConfirmation(
            booking_id=booking_id, user_id=guest.user_id, user_email=guest.email, booking_type=booking_type
        ),
        rows={BOOKING_OF_USER: [row | columns]},
        settings={"manage_url": "https://www.example.com/bookings/{reference}"},
    )


def _price_alert(
    name: str, guest: _Guest, entity_type: EntityType, *, old_price: Decimal, new_price: Decimal, **columns: Any
) -> Sample:
    row = {
        "entity_type": entity_type.value,
        "entity_id": f"cmq1en-{name}",
        "target_price": new_price,
        "currency": "TRY",
        "status": "ACTIVE",
        "notification_methods": ["EMAIL"],
        "expires_at": None,
        "email": guest.email,
        "guest_name": guest.name,
        "language": guest.language,
        "is_user_active": True,
    }
    return Sample(
        name=name,
        payload=SendPriceAlert(
            alert_id=f"cmq1pa-{name}",
            user_id=guest.user_id,
            entity_type=entity_type,
            entity_id=f"cmq1en-{name}",
            old_price=old_price,
            new_price=new_price,
        ),
        rows={PRICE_ALERT_OF_USER: [row | columns]},
        settings={
            "hotel_url": "https://www.example.com/hotels/{id}",
            "flight_url": "https://www.example.com/flights/{id}",
            "tour_url": "https://www.example.com/tours/{id}",
        },
    )
