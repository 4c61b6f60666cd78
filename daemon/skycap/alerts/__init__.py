"""Alarms for those without Prometheus: rules over figures, one state for the fleet, told by mail and webhook."""
