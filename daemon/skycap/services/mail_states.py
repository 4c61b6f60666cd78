"""The states of a mail in the ledger."""

STATES = ("intent", "sending", "dot", "sent", "deferred", "failed", "unknown", "suppressed")
