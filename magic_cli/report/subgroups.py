"""Scores by subgroup (`magic score --by`): which value each encounter has, and the table for the terminal."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from magic_cli.data.prepared import Prepared
from magic_cli.errors import ConfigError, did_you_mean, problem
from magic_cli.io.json_files import finite
from magic_cli.metrics.bootstrap import FEW
from magic_cli.metrics.subgroups import MISSING, Subgroup, binned
from magic_cli.records import Case
from magic_cli.report.score_text import SCORE_NAMES, bounds, interval, is_defined, number, signed
from magic_cli.report.table import Table

LABEL, PHOTOS = "label", "photos"

_SEVERAL = "several"


@dataclass(frozen=True, slots=True)
class SubgroupScores:
    """The scores of one system on one task by the values of one attribute.

    Attributes:
        task: its name. system: path of the predictions.
        by: the attribute, "label", "photos" (number of photos), or a closed question, as CQID011.
        rows: the subgroups.
        shown: names of the scores to show first.
    """

    task: str
    system: str
    by: str
    rows: tuple[Subgroup, ...]
    shown: tuple[str, ...]

    @property
    def names(self) -> dict[str, str]:
        """The scores that are shown, with their names for people."""
        return {key: SCORE_NAMES.get(key, (key, ""))[0] for key in self.shown}

    @staticmethod
    def bounds(row: Subgroup, score: str) -> tuple[float, float] | None:
        """Return the interval of a subgroup's score, None if there is none."""
        return bounds(row.intervals.get(score))

    def gap(self, score: str) -> tuple[str, str, float] | None:
        """Return the best and the worst of the subgroups with FEW encounters or more, and the gap between them."""
        known = [row for row in self.rows if row.encounters >= FEW and row.value != MISSING]
        known = [row for row in known if is_defined(row.scores.get(score))]
        if len(known) < 2:
            return None
        best, worst = (choose(known, key=lambda row: row.scores[score]) for choose in (max, min))
        return best.value, worst.value, best.scores[score] - worst.scores[score]

    def to_json(self) -> dict[str, object]:
        """Return an item of `subgroups` of schemas/report.schema.json."""
        rows = [
            {
                "value": row.value,
                "encounters": row.encounters,
                "figures": row.scores,
                "intervals": {name: (pair.low, pair.high) for name, pair in row.intervals.items()},
                "against_rest": {name: asdict(gap) for name, gap in row.differences.items()},
            }
            for row in self.rows
        ]
        return {"task": self.task, "system": self.system, "by": self.by, "rows": finite(rows)}

    def lines(self) -> Iterator[str]:
        """Yield the table, and the gap of each score that is shown."""
        cells = []
        for row in self.rows:
            values = (f"{number(row.scores.get(n))}\n{interval(bounds(row.intervals.get(n)))}" for n in self.shown)
            cells.append((row.value, str(row.encounters), *values, *(self._against(row, name) for name in self.shown)))
        heads = (*self.shown, *(f"{name} - rest" for name in self.shown))
        yield from Table(f"{self.system} by {self.by}", ("", "encounters", *heads), tuple(cells)).lines()
        for name in self.shown:
            gap = self.gap(name)
            if gap is not None:
                yield f"{name}: {gap[0]} is {gap[2]:.4f} above {gap[1]} (of subgroups of {FEW} or more)"

    @staticmethod
    def _against(row: Subgroup, name: str) -> str:
        gap = row.differences.get(name)
        return "" if gap is None or not is_defined(gap.difference) else f"{signed(gap.difference)}\np {gap.p:.3f}"


def values_by(prepared: Prepared, split: str, name: str) -> dict[str, str]:
    """Return the value that the cases of a split, and their groups, have of an attribute.

    Args:
        prepared: the dataset.
        split: its split that is scored.
        name: an attribute, "label", "photos" for the number of photos, or a closed question.

    Raises:
        ConfigError: no case has such an attribute; with the nearest name.
    """
    cases = prepared.cases_of(split)
    of_case = {case.case_id: value for case in cases if (value := _value(prepared, case, name)) is not None}
    if not of_case:
        known = _known(prepared, cases)
        got, expected = "no case with it", "an attribute of the cases"
        raise ConfigError(problem(f"--by {name}", got, expected, did_you_mean(name, known)))
    of_case = binned(name, of_case)
    of_group: dict[str, str] = {}
    for case in cases:
        value = of_case.get(case.case_id, MISSING)
        group = case.group_id or case.case_id
        of_group[group] = value if of_group.get(group, value) == value else _SEVERAL
    return of_group | of_case


def _known(prepared: Prepared, cases: Sequence[Case]) -> list[str]:
    stated = {name for case in cases for name in case.attributes}
    labels = [LABEL] if any(case.label for case in cases) else []
    questions = list(prepared.questions.parents) if any(case.answers for case in cases) else []
    return [*sorted(stated), *labels, PHOTOS, *questions]


def _value(prepared: Prepared, case: Case, name: str) -> str | None:
    if name in case.attributes:
        return case.attributes[name]
    if name == LABEL:
        return case.label
    if name == PHOTOS:
        return str(len(case.image_ids))
    slots = prepared.questions.parents.get(name)
    return prepared.questions.option(slots[0], case.answers[slots[0]]) if slots and case.answers else None
