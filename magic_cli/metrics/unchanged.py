"""How many answers of two systems are the same, right or wrong, with an interval over encounters."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magic_cli.metrics import bootstrap
from magic_cli.records import EncounterSums, Interval, TaskScores


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Of `answers` answers of both systems, `share`, in [0, 1], are the same; NaN bounds where none can be given."""

    answers: int
    share: float
    interval: Interval

    def to_json(self) -> dict[str, float]:
        """Return `unchanged` of schemas/report.schema.json; NaN bounds are to become null."""
        return {"answers": self.answers, "share": self.share, "low": self.interval.low, "high": self.interval.high}


def unchanged(ours: TaskScores, theirs: TaskScores, resamples: int = 10_000, seed: int = 2025) -> Unchanged | None:
    """Return the share of answers that two systems have in common, with its 95 % interval.

    Answers are the option sets of parent questions, by encounter, or the classes of photos, by patient or case, that
    both have predicted. None for tasks without such answers.

    Args:
        ours, theirs: scores with their rows per item.
        resamples: bootstrap resamples of encounters, at least 2.
        seed: same seed, same interval.
    """
    mine, others = dict(_answers(ours)), dict(_answers(theirs))
    common = [key for key in mine if key in others]
    if not common:
        return None
    units = sorted({unit for unit, _ in common})
    place = {unit: row for row, unit in enumerate(units)}
    sums = np.zeros((len(units), 2))
    for key in common:
        sums[place[key[0]]] += mine[key] == others[key], 1
    scores = EncounterSums(tuple(units), ("unchanged",), sums, _share)
    interval = bootstrap.intervals(scores, resamples, seed)["unchanged"]
    return Unchanged(len(common), float(_share(sums.sum(0))[0]), interval)


def _answers(scores: TaskScores) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield ((encounter or group, question or photo), answer)."""
    for row in scores.per_item:
        for unit, item in (("encounter", "parent"), ("group", "image")):
            if {unit, item, "predicted"} <= row.keys():
                yield (str(row[unit]), str(row[item])), str(row["predicted"])


def _share(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return same / all (..., 1) from sums (..., 2)."""
    with np.errstate(invalid="ignore"):
        return np.asarray(sums[..., :1] / sums[..., 1:], np.float64)
