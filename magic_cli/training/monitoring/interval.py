"""The 95 % interval of the score that chooses the best epoch, from the sums over encounters that were scored anyway."""

import math

from magic_cli.metrics import bootstrap
from magic_cli.records import TaskScores

RESAMPLES = 2_000  # bounds vary by a fiftieth of the interval's width, and an epoch waits for less than a second


def interval_of(scores: TaskScores, name: str) -> tuple[float, float] | None:
    """Return the interval of a score by resampling encounters; None where it has none.

    Args:
        scores: of one dataset.
        name: a key of its scores.
    """
    sums = scores.encounter_sums
    if sums is None or name not in sums.names:
        return None
    bounds = bootstrap.intervals(sums, RESAMPLES)[name]
    return (bounds.low, bounds.high) if math.isfinite(bounds.low) and math.isfinite(bounds.high) else None
