"""What mails say beyond their words: journeys, receipts, reservations for machines, entries for calendars."""
