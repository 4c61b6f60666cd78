"""Scope: what a token is good for."""

from enum import StrEnum


class Scope(StrEnum):
    """What a token is good for; ``admin`` implies the others."""

    ENQUEUE = "enqueue"
    READ = "read"
    ADMIN = "admin"
