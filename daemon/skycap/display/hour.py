"""Hour: what a queue has done in the last sixty minutes, drawn and in figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from skycap.display import words
from skycap.engine.minutes import Minute

BAR: Final = 3
HEIGHT: Final = 24
_LEAST: Final = 1.5
"""A single failure in an hour of thousands is still seen."""
_RECENT: Final = 5


@dataclass(frozen=True, kw_only=True)
class Hour:
    """One figure a minute, oldest first; the last one is of the minute that still goes on."""

    completed: Sequence[int]
    failed: Sequence[int]
    """Attempts: those that are tried again, and those that ended as dead letters."""

    @classmethod
    def of(cls, minutes: Sequence[Minute]) -> Hour:
        return cls(
            completed=[each.completed for each in minutes],
            failed=[each.retried + each.discarded for each in minutes],
        )

    @property
    def rate(self) -> float:
        """Attempts that ended in a minute, of the last five whole ones."""
        ended = [done + failed for done, failed in zip(self.completed, self.failed, strict=True)][:-1][-_RECENT:]
        return sum(ended) / len(ended) if ended else 0.0

    @property
    def failures(self) -> int:
        return sum(self.failed)

    @property
    def is_empty(self) -> bool:
        return not any(self.completed) and not any(self.failed)

    @property
    def width(self) -> int:
        return BAR * len(self.completed)

    @property
    def height(self) -> int:
        return HEIGHT

    @property
    def words(self) -> str:
        """For whoever does not see the drawing."""
        most = max(self.completed, default=0)
        return (
            f"Last hour: {words.count(sum(self.completed))} completed, at most {words.count(most)} in a minute; "
            f"{words.count(self.failures)} failed"
        )

    @property
    def bars(self) -> str:
        """A path of upright strokes: what was completed."""
        return self._strokes([(0.0, self._tall(done)) for done in self.completed])

    @property
    def failed_bars(self) -> str:
        """On top of the others."""
        pairs = zip(self.completed, self.failed, strict=True)
        return self._strokes([(self._tall(done), self._tall(failed)) for done, failed in pairs])

    def _tall(self, number: int) -> float:
        tallest = max(done + failed for done, failed in zip(self.completed, self.failed, strict=True))
        return max(_LEAST, number / tallest * (HEIGHT - _LEAST)) if number else 0.0

    @staticmethod
    def _strokes(spans: Sequence[tuple[float, float]]) -> str:
        return "".join(
            f"M{BAR * place + BAR / 2:g} {HEIGHT - bottom:.4g}v{-tall:.4g}"
            for place, (bottom, tall) in enumerate(spans)
            if tall
        )
