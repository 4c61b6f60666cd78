"""The small status endpoint: liveness, readiness and what the existing dashboards read."""
