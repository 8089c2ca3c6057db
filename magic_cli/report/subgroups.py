"""Scores by subgroup (`magic score --by`): which value each encounter has, and the table for the terminal."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from magic_cli.data.imaging.artefacts import ARTEFACTS
from magic_cli.data.prepared import Prepared
from magic_cli.errors import ConfigError, did_you_mean, problem
from magic_cli.io.json_files import finite
from magic_cli.io.progress import log
from magic_cli.metrics.bootstrap import FEW
from magic_cli.metrics.subgroups import MISSING, Gap, Subgroup, binned
from magic_cli.records import Case
from magic_cli.report.score_text import SCORE_NAMES, between, bounds, interval, is_defined, number, signed
from magic_cli.report.table import Table

LABEL, PHOTOS, ARTEFACT = "label", "photos", "artefact"

_SEVERAL = "several"


@dataclass(frozen=True, slots=True)
class SubgroupScores:
    """The scores of one system on one task by the values of one attribute.

    Attributes:
        task: its name. system: path of the predictions.
        by: the attribute, "label", "photos" (number of photos), or a closed question, as CQID011.
        rows: the subgroups.
        shown: names of the scores to show first.
        gaps: of each score, between the best and the worst subgroup of FEW encounters or more.
    """

    task: str
    system: str
    by: str
    rows: tuple[Subgroup, ...]
    shown: tuple[str, ...]
    gaps: Mapping[str, Gap] = field(default_factory=dict)

    @property
    def names(self) -> dict[str, str]:
        """The scores that are shown, with their names for people."""
        return {key: SCORE_NAMES.get(key, (key, ""))[0] for key in self.shown}

    @staticmethod
    def bounds(row: Subgroup, score: str) -> tuple[float, float] | None:
        """Return the interval of a subgroup's score, None if there is none."""
        return bounds(row.intervals.get(score))

    def gap(self, score: str) -> Gap | None:
        """Return the gap between the best and the worst of the subgroups with FEW encounters or more."""
        return self.gaps.get(score)

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
        gaps = finite({name: asdict(gap) for name, gap in self.gaps.items()})
        return {"task": self.task, "system": self.system, "by": self.by, "rows": finite(rows), "gaps": gaps}

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
                of = f"{name}: {gap.best} is {gap.difference:.4f} above {gap.worst}"
                shown = f"95 % interval {between(gap.low, gap.high)}, " if is_defined(gap.low) else ""
                yield f"{of} ({shown}p {gap.p:.3f} of so wide a gap by chance; of subgroups of {FEW} or more)"

    @staticmethod
    def _against(row: Subgroup, name: str) -> str:
        gap = row.differences.get(name)
        return "" if gap is None or not is_defined(gap.difference) else f"{signed(gap.difference)}\np {gap.p:.3f}"


def by_name(prepared: Prepared, split: str, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the values of the encounters of a split by each name, for `metrics.subgroups`.

    Args:
        prepared: the dataset.
        split: its split that is scored.
        names: attributes, "label", "photos" for the number of photos, closed questions; or artefacts, which are looked
            for on the photos (data/imaging/artefacts/) if no case has an attribute of that name; "artefact": all.

    A name that no case has is left out, and told on stderr, if cases have any of the others.

    Raises:
        ConfigError: no case has any of the attributes; a line for each, with the nearest name.
    """
    stated = {name for case in prepared.cases_of(split) for name in case.attributes}
    wanted = [each for name in names for each in (ARTEFACTS if name == ARTEFACT else (name,))]
    on_photos = [name for name in wanted if name in ARTEFACTS and name not in stated]
    seen: dict[str, frozenset[str]] = {}
    if on_photos:
        from magic_cli.data.imaging.artefacts.cases import artefacts_by_case  # not at the top: Pillow takes time

        seen = artefacts_by_case(prepared, split)
    found, missing = dict[str, dict[str, str]](), list[str]()
    for name in dict.fromkeys(wanted):
        if name in on_photos:
            words = {case: name if name in artefacts else f"no {name}" for case, artefacts in seen.items()}
            found[name] = _with_groups(prepared.cases_of(split), words)
        else:
            try:
                found[name] = values_by(prepared, split, name)
            except ConfigError as error:
                missing.extend(error.problems)
    if not found:
        raise ConfigError(missing)
    for line in missing:
        log(f"left out: {line}")
    return found


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
    return _with_groups(cases, binned(name, of_case))


def _with_groups(cases: Sequence[Case], of_case: Mapping[str, str]) -> dict[str, str]:
    """Return the values of cases, and of groups; a group of cases with several values has its own."""
    of_group: dict[str, str] = {}
    for case in cases:
        value = of_case.get(case.case_id, MISSING)
        group = case.group_id or case.case_id
        of_group[group] = value if of_group.get(group, value) == value else _SEVERAL
    return of_group | dict(of_case)


def _known(prepared: Prepared, cases: Sequence[Case]) -> list[str]:
    stated = {name for case in cases for name in case.attributes}
    labels = [LABEL] if any(case.label for case in cases) else []
    questions = list(prepared.questions.parents) if any(case.answers for case in cases) else []
    return [*sorted(stated), *labels, PHOTOS, ARTEFACT, *ARTEFACTS, *questions]


def _value(prepared: Prepared, case: Case, name: str) -> str | None:
    if name in case.attributes:
        return case.attributes[name]
    if name == LABEL:
        return case.label
    if name == PHOTOS:
        return str(len(case.image_ids))
    slots = prepared.questions.parents.get(name)
    return prepared.questions.option(slots[0], case.answers[slots[0]]) if slots and case.answers else None
