"""What several tests need; imported by tests only."""
