// Written by "skycap kinds --typescript"; do not edit.

/** ANALYZE tables that have changed much, and to which autovacuum has not come. */
export type AnalyzeStaleTables = { [name: string]: never };

/** Look at every active price alert. While one such job waits or runs, a second one is the first. */
export type CheckPriceAlerts = { [name: string]: never };

/** Delete old notifications, and what the configuration names besides. */
export type CleanupOldData = { [name: string]: never };

/** Look for what makes the database slow or large, and mail it to whom it concerns. */
export type DatabaseReport = { [name: string]: never };

/** What the backend enqueues, delayed by some seconds, when there is news about a user's taste. */
export interface GenerateAiRecommendations {
  /** Must be: 1 to 128 characters, /^[!-~]+$/. */
  userId: string;
  /**
   * Must be: ≥ 1, ≤ 20.
   * @default 5
   */
  limit?: number;
}

/** The last whole one before the job was enqueued, in the zone of the settings; a week begins on Monday. */
export type NamedPeriod = "yesterday" | "last-week" | "last-month" | "last-quarter" | "last-year";

/** BOOKINGS lists each booking, REVENUE adds up by type, status and currency. */
export type ReportKind = "bookings" | "revenue";

/**
 * Bookings that were made in a period: a named one, or the days `from` one `to` another, both included.
 *
 * `currency` leaves out all others. `locale` is that of the mail, and of a report in HTML.
 */
export interface GenerateReport {
  /** @default "revenue" */
  kind?: ReportKind;
  /** @default "csv" */
  format?: "csv" | "html";
  /** Must be: at most 254 characters, email. */
  mailTo: string;
  period?: NamedPeriod | null;
  /** Must be: date. */
  from?: string | null;
  /** Must be: date. */
  to?: string | null;
  /** Must be: /^[A-Z]{3,5}$/. */
  currency?: string | null;
  /** Must be: /^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$/. */
  locale?: string | null;
}

/**
 * What the backend enqueues when a booking was made, or its payment has gone through.
 *
 * `userId`, when it is given, must be the booking's. Cancelling and refunding stay the backend's, which talks to
 * the partner.
 */
export interface ProcessBooking {
  /** Must be: 1 to 128 characters, /^[!-~]+$/. */
  bookingId: string;
  /** Must be: 1 to 128 characters, /^[!-~]+$/. */
  userId?: string | null;
  /** @default "confirm" */
  action?: "confirm";
}

/** The backend's enum of the same name. */
export type BookingType =
  | "HOTEL"
  | "FLIGHT"
  | "ACTIVITY"
  | "TOUR"
  | "CAR_RENTAL"
  | "RESTAURANT"
  | "PACKAGE"
  | "AIRPORT_TRANSFER";

/** What the backend enqueues after a booking has changed its status. The mail goes to `userEmail`. */
export interface SendBookingConfirmation {
  /** Must be: 1 to 128 characters, /^[!-~]+$/. */
  bookingId: string;
  /** Must be: 1 to 128 characters, /^[!-~]+$/. */
  userId: string;
  /** Must be: at most 254 characters, email. */
  userEmail: string;
  bookingType: BookingType;
}

/** One attachment; `content` is base64 on the wire, or the file's bytes in Python. */
export interface AttachedFile {
  /** Must be: not empty. */
  filename: string;
  /** Must be: not empty, base64. */
  content: string;
  contentType?: string | null;
}

/**
 * A mail that the backend has written. Without `text`, the words of the HTML are the plain text part.
 *
 * `key` says what the mail means: it is sent to that address once, ever. Without one, what says exactly the same
 * within 24 hours is the same mail. `onUnknown` is for a crash that hides whether it has left.
 */
export interface SendEmail {
  /** Must be: at most 254 characters, email. */
  to: string;
  /** Must be: at most 998 characters. */
  subject: string;
  /** Must be: not empty. */
  html: string;
  text?: string | null;
  /** Must be: at most 20 items. */
  attachments?: readonly AttachedFile[];
  /** Must be: at most 200 characters. */
  key?: string | null;
  /** @default "resend" */
  onUnknown?: "resend" | "hold";
}

/** What the backend enqueues after a payment has succeeded, or was refunded. The mail goes to the user's address. */
export interface SendPaymentReceipt {
  /** Must be: 1 to 128 characters, /^[!-~]+$/. */
  userId: string;
  /** Must be: 1 to 128 characters, /^[!-~]+$/. */
  bookingId: string;
}

/** What a price can be watched of; text in the backend's table. */
export type EntityType = "HOTEL" | "FLIGHT" | "TOUR";

/** What the sweep enqueues when an alert is due. The mail goes to the user's address as it is then. */
export interface SendPriceAlert {
  /** Must be: 1 to 128 characters, /^[!-~]+$/. */
  alertId: string;
  /** Must be: 1 to 128 characters, /^[!-~]+$/. */
  userId: string;
  entityType: EntityType;
  /** Must be: 1 to 128 characters, /^[!-~]+$/. */
  entityId: string;
  oldPrice: number | string;
  newPrice: number | string;
}

/** What the backend enqueues when an account was made, maybe before the user's row can be read. */
export interface SendWelcomeEmail {
  /** Must be: at most 254 characters, email. */
  userEmail: string;
  /** Must be: at most 10000 characters. */
  userName: string;
}

/**
 * Prices and availability of hotels, from a partner: of those named, or of all that are active.
 *
 * Only hotels have rows that can be brought up to date; prices of flights and tours are `update-price-history`'s.
 * `since`, a moment with its offset, asks the partner for what has changed after it.
 */
export interface SyncExternalData {
  /** Must be: at most 64 characters, /^[a-z][a-z0-9]*(-[a-z0-9]+)*$/. */
  provider: string;
  /** @default "HOTEL" */
  entityType?: "HOTEL";
  /** Must be: 1 to 1000 items. */
  entityIds?: readonly string[] | null;
  /** Must be: date-time. */
  since?: string | null;
}

/** Make the partitions of the coming months, and take old prices away. */
export type TendPriceHistory = { [name: string]: never };

/** Delete what skycap's own tables need not keep any more. */
export type TidyRecords = { [name: string]: never };

/**
 * Ask a provider for prices, of these entities; or of all that active price alerts watch, of one type or any.
 *
 * Without `provider`, it is the one of the settings.
 */
export interface UpdatePriceHistory {
  /** Must be: at most 64 characters, /^[a-z][a-z0-9]*(-[a-z0-9]+)*$/. */
  provider?: string | null;
  entityType?: EntityType | null;
  /** Must be: at most 2000 items. */
  entityIds?: readonly string[];
}

/** Load the configured hotel searches into the cache before a guest asks for them. */
export type WarmCache = { [name: string]: never };

/** The payload of each kind. */
export interface Kinds {
  "analyze-stale-tables": AnalyzeStaleTables;
  "check-price-alerts": CheckPriceAlerts;
  "cleanup-old-data": CleanupOldData;
  "database-report": DatabaseReport;
  "generate-ai-recommendations": GenerateAiRecommendations;
  "generate-report": GenerateReport;
  "process-booking": ProcessBooking;
  "send-booking-confirmation": SendBookingConfirmation;
  "send-email": SendEmail;
  "send-payment-receipt": SendPaymentReceipt;
  "send-price-alert": SendPriceAlert;
  "send-welcome-email": SendWelcomeEmail;
  "sync-external-data": SyncExternalData;
  "tend-price-history": TendPriceHistory;
  "tidy-records": TidyRecords;
  "update-price-history": UpdatePriceHistory;
  "warm-cache": WarmCache;
}

/** Of the payloads above: sent along, a daemon that knows a newer one still understands them. */
export const VERSIONS = {
  "analyze-stale-tables": 1,
  "check-price-alerts": 1,
  "cleanup-old-data": 1,
  "database-report": 1,
  "generate-ai-recommendations": 1,
  "generate-report": 1,
  "process-booking": 1,
  "send-booking-confirmation": 1,
  "send-email": 1,
  "send-payment-receipt": 1,
  "send-price-alert": 1,
  "send-welcome-email": 1,
  "sync-external-data": 1,
  "tend-price-history": 1,
  "tidy-records": 1,
  "update-price-history": 1,
  "warm-cache": 1,
} as const satisfies Record<keyof Kinds, number>;
