"""Checks: what an admin should see to before a daemon runs, each a small function that says what is so and the fix."""
