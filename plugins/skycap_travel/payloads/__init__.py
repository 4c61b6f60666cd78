"""What can be asked of the travel plugins: all that a Python backend needs to import in order to enqueue.

No handler, template or server library comes along.
"""

from skycap_travel.payloads.accounts import SendWelcomeEmail
from skycap_travel.payloads.attachments import AttachedFile
from skycap_travel.payloads.bookings import BookingType, SendBookingConfirmation
from skycap_travel.payloads.mails import SendEmail
from skycap_travel.payloads.partners import SyncExternalData
from skycap_travel.payloads.payments import SendPaymentReceipt
from skycap_travel.payloads.price_alerts import EntityType, SendPriceAlert
from skycap_travel.payloads.price_history import UpdatePriceHistory
from skycap_travel.payloads.price_retention import TendPriceHistory
from skycap_travel.payloads.price_sweep import CheckPriceAlerts
from skycap_travel.payloads.processing import ProcessBooking
from skycap_travel.payloads.recommendations import GenerateAiRecommendations
from skycap_travel.payloads.reports import GenerateReport, NamedPeriod, ReportKind
from skycap_travel.payloads.upkeep import CleanupOldData, WarmCache

__all__ = [
    "AttachedFile",
    "BookingType",
    "CheckPriceAlerts",
    "CleanupOldData",
    "EntityType",
    "GenerateAiRecommendations",
    "GenerateReport",
    "NamedPeriod",
    "ProcessBooking",
    "ReportKind",
    "SendBookingConfirmation",
    "SendEmail",
    "SendPaymentReceipt",
    "SendPriceAlert",
    "SendWelcomeEmail",
    "SyncExternalData",
    "TendPriceHistory",
    "UpdatePriceHistory",
    "WarmCache",
]
