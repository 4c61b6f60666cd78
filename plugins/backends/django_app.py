"""Views of Django that enqueue, outside of a transaction and in one; ``urlpatterns`` at the end.

``settings.SKYCAP_URL`` is where skycap is: redis://…, https://… or postgresql://….
"""

# Django has no types of its own: a project that has django-stubs needs neither of these.
# mypy: ignore-errors
# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false

from __future__ import annotations

from functools import cache

from django.conf import settings
from django.db import connection, transaction
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.http import require_POST
from pydantic import ValidationError

from skycap import Client, Unavailable
from skycap_travel.payloads import SendPaymentReceipt, SendWelcomeEmail


@cache
def skycap() -> Client:
    """One for the process: any thread may use it, and workers that are forked later get connections of their own."""
    return Client(settings.SKYCAP_URL)


@require_POST
def register(request: HttpRequest) -> JsonResponse:
    """When this answers 202, the job is stored."""
    try:
        payload = SendWelcomeEmail(user_email=request.POST["email"], user_name=request.POST["name"])
    except ValidationError as error:
        fields = [str(problem["loc"][0]) for problem in error.errors()]
        return JsonResponse({"wrong": fields}, status=400)
    try:
        enqueued = skycap().enqueue(payload)
    except Unavailable:  # the client has tried again by itself: now it is the caller's turn
        return JsonResponse({"message": "please try again"}, status=503, headers={"Retry-After": "1"})
    return JsonResponse({"jobId": enqueued.job_id}, status=202)


@require_POST
def pay(request: HttpRequest, booking_id: str) -> JsonResponse:
    """The payment and its receipt, both or neither: with ``tx`` the job exists if and only if that commits."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(
                """UPDATE bookings SET "paymentStatus" = 'COMPLETED' WHERE id = %s RETURNING "userId" """, [booking_id]
            )
            row = cursor.fetchone()
        if row is None:
            return JsonResponse({"message": "no such booking"}, status=404)
        payload = SendPaymentReceipt(user_id=row[0], booking_id=booking_id)
        enqueued = skycap().enqueue(payload, job_id=f"receipt-{booking_id}", tx=connection)
    return JsonResponse({"jobId": enqueued.job_id}, status=202)


urlpatterns = [path("register", register), path("bookings/<str:booking_id>/pay", pay)]
