"""Calibration and selective prediction of a system: its errors, how sure it was of them, and the plots of both."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from magic_cli.io.json_files import finite
from magic_cli.metrics.bootstrap import intervals
from magic_cli.metrics.calibration import BINS, COVERAGES, Bin, reliability
from magic_cli.metrics.row_scores import RowScores
from magic_cli.records import EncounterScores, Interval
from magic_cli.report.score_text import bounds, interval, number
from magic_cli.report.table import Table
from magic_cli.training.task import of_class

if TYPE_CHECKING:
    from markupsafe import Markup

RESAMPLES = 1000
"""At most: every resample sorts all answers; bounds vary by about a thirtieth of an interval's width."""

LABELS = {
    "accuracy": "Accuracy",
    "ece": "Expected calibration error (ECE)",
    "aurc": "Area under the risk-coverage curve (AURC)",
    "aurc_random": "AURC by chance",
    "aurc_oracle": "AURC at best",
    "gain": "Gain over chance",
}

ROWS = {
    "accuracy": "answers that are right",
    "ece": f"distance of confidence and share of right answers, {BINS} bins; 0 is perfect",
    "aurc": "mean share of wrong answers among the surest; 0 is perfect",
    "aurc_random": "the same in an order by chance",
    "aurc_oracle": "the same with all wrong answers last: no confidence is better",
    "gain": "random minus system: above 0, doubt tells wrong answers",
}


@dataclass(frozen=True, slots=True)
class CalibrationScores:
    """How sure a system's answers are, and whether they are right.

    Attributes:
        task: its name. system: path of the predictions.
        answers: how many; encounters: of how many.
        scores: those of metrics/calibration.confidence_scores, by name.
        intervals: their 95 % intervals.
        bins: of the reliability plot.
    """

    task: str
    system: str
    answers: int
    encounters: int
    scores: Mapping[str, float]
    intervals: Mapping[str, Interval]
    bins: tuple[Bin, ...]

    @classmethod
    def of(cls, task: str, system: str, confidence: EncounterScores, resamples: int, seed: int) -> "CalibrationScores":
        """Return the scores of a system's `TaskScores.confidence`, with intervals of RESAMPLES resamples at most."""
        rows = of_class(confidence, RowScores)
        values = dict(zip(rows.names, rows.over(range(len(rows.ids))).tolist(), strict=True))
        found = intervals(rows, min(resamples, RESAMPLES), seed)
        sure, right = rows.columns
        return cls(task, system, len(sure), len(rows.ids), values, found, reliability(sure, right))

    @property
    def rows(self) -> list[tuple[str, str, float, tuple[float, float] | None]]:
        """The scores for a table: name, meaning, value, interval."""
        return [(name, text, self.scores[name], bounds(self.intervals.get(name))) for name, text in ROWS.items()]

    @property
    def labels(self) -> Mapping[str, str]:
        """The names of the scores for people."""
        return LABELS

    def to_json(self) -> dict[str, object]:
        """Return an item of `calibration` of schemas/report.schema.json."""
        curve = [{"coverage": c, "risk": self.scores[f"risk@{c:g}"], **self._bounds(f"risk@{c:g}")} for c in COVERAGES]
        head = {"task": self.task, "system": self.system, "answers": self.answers, "encounters": self.encounters}
        figures = {name: {"value": self.scores[name], **self._bounds(name)} for name in ROWS}
        bins = [row._asdict() for row in self.bins]
        return {**head, "bins_of_equal_width": BINS, "figures": finite(figures), "bins": bins, "curve": finite(curve)}

    def _bounds(self, name: str) -> dict[str, float]:
        return asdict(self.intervals[name])

    def lines(self) -> Iterator[str]:
        """Yield the table for the terminal."""
        cells = [(name, number(value), interval(pair), text) for name, text, value, pair in self.rows]
        title = f"{self.system}: how sure, and right? {self.answers:,} answers with probabilities"
        yield from Table(title, ("", "value", "95 % interval", "what it is"), tuple(cells)).lines()

    @property
    def plots(self) -> list[tuple["Markup", str]]:
        """The reliability plot and the risk-coverage curve, each with its caption."""
        from magic_cli.report.plots.reliability import reliability_plot, risk_plot

        pairs = [self.intervals[f"risk@{c:g}"] for c in COVERAGES]
        risks = [(c, self.scores[f"risk@{c:g}"], bounds(pair)) for c, pair in zip(COVERAGES, pairs, strict=True)]
        of_bins = f"Each point is a bin of {1 / BINS:.3f}, its area the share of the answers that it holds. Below the "
        of_bins += "diagonal answers are surer than they are right."
        of_risks = "Wrong answers among the surest part; the band is the 95 % interval. A system whose doubt tells "
        of_risks += "nothing has the dashed line, no order is better than the dotted one."
        wrong = self.scores["aurc_random"]
        return [
            (reliability_plot(self.bins, self.answers), of_bins),
            (risk_plot(risks, wrong, _oracle(wrong)), of_risks),
        ]


def _oracle(wrong: float) -> Sequence[tuple[float, float]]:
    """Return the risk at each coverage if all wrong answers came last: 0 up to the share of right ones."""
    return [(float(c), max(0.0, 1 - (1 - wrong) / c)) for c in np.linspace(0.05, 1, 39)]
