"""Runs jobs: claims them from the queues, executes one attempt of each, and settles what became of it."""
