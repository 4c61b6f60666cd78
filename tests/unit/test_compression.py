"""Which coding an asker gets, by what it says it reads and likes."""

from __future__ import annotations

import pytest

from skycap.http.compression import coding_for


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("", None),
        ("identity", None),
        ("br", None),
        ("gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("GZIP", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1.0, zstd;q=0.5", "gzip"),
        ("gzip; q=0.8 , zstd ; q=0.801", "zstd"),
        ("gzip;q=0", None),
        ("zstd;q=0, gzip;q=0.001", "gzip"),
        ("*", "zstd"),
        ("*;q=0.5, gzip", "gzip"),
        ("*;q=0", None),
        ("zstd;q=0, *", "gzip"),
        ("identity, gzip;q=0.5", None),
        ("identity;q=0.5, gzip;q=0.5", "gzip"),
        ("identity;q=0, gzip;q=0.1", "gzip"),
        ("gzip;q=2", None),
        ("gzip;q=x", None),
        ("gzip;level=9", None),
        (",,gzip", "gzip"),
    ],
)
def test_the_asker_gets_the_coding_that_it_likes_best(accepted: str, coding: str | None) -> None:
    assert coding_for(accepted) == coding
