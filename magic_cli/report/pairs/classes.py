"""Classes against chance, which are taken for which, and how well concepts are seen."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from magic_cli.records import TaskScores
from magic_cli.report.score_text import bounds, is_defined

MOST_ROWS = 60

MOST_IN_TABLE = 20  # classes of which every confusion is shown

_MOST_CONFUSIONS = 12


@dataclass(frozen=True, slots=True)
class NamedScore:
    """A class or a concept: its photos, its score with interval, and that of every system where there are several.

    `known` is the number of photos of which it is known whether they show a concept; None for a class. `specificity` is
    that of a class at the sensitivity of metrics/classification.py, None where it is not known.
    """

    name: str
    photos: int
    known: int | None
    value: float | None
    interval: tuple[float, float] | None
    auroc: float | None
    others: tuple[float | None, ...]
    specificity: float | None


@dataclass(frozen=True, slots=True)
class ClassContent:
    """Classes by falling number of photos.

    Attributes:
        rows: classes with photos; `more` are those beyond the rows, `empty` the names of classes without photos.
        chance: the recall that guessing gives each class.
        systems: the systems of `others`; () for one.
        names: classes of the table of confusions, () where there are too many; `table` counts photos, gold by answer.
        confused: how often a class is taken for which, the most frequent first.
    """

    rows: tuple[NamedScore, ...]
    more: int
    empty: tuple[str, ...]
    chance: float
    systems: tuple[str, ...]
    names: tuple[str, ...]
    table: tuple[tuple[int, ...], ...]
    confused: tuple[tuple[str, str, int, int], ...]


@dataclass(frozen=True, slots=True)
class ConceptContent:
    """Concepts by falling AUROC: those that are defined, those beyond the rows, and those without one, with why."""

    rows: tuple[NamedScore, ...]
    more: int
    undefined: tuple[tuple[str, str], ...]
    systems: tuple[str, ...]


def class_content(scores: TaskScores, systems: Mapping[str, TaskScores]) -> ClassContent | None:
    """Return what is shown of classes, None without any.

    Args:
        scores: of the system that is shown in detail.
        systems: scores of all systems by the name that is shown.
    """
    rows = [row for row in scores.summary_rows if "class" in row]
    if not rows:
        return None
    seen = sorted((row for row in rows if row["photos"]), key=lambda row: (-row["photos"], row["class"]))
    names = [row["class"] for row in seen]
    pairs = Counter((item["class"], item["predicted"]) for item in scores.per_item if "predicted" in item)
    answers = [*names, *sorted({answer for _, answer in pairs} - set(names))]
    fits = len(answers) <= MOST_IN_TABLE
    return ClassContent(
        rows=_named(seen[:MOST_ROWS], "class", "recall", scores, systems),
        more=max(0, len(seen) - MOST_ROWS),
        empty=tuple(row["class"] for row in rows if not row["photos"]),
        chance=rows[0]["chance"],
        systems=tuple(systems) if len(systems) > 1 else (),
        names=tuple(answers) if fits else (),
        table=tuple(tuple(pairs[gold, answer] for answer in answers) for gold in names) if fits else (),
        confused=_confused(pairs),
    )


def _confused(pairs: Counter[tuple[str, str]]) -> tuple[tuple[str, str, int, int], ...]:
    total: Counter[str] = Counter()
    for (gold, _), count in pairs.items():
        total[gold] += count
    wrong = sorted((-count, gold, answer) for (gold, answer), count in pairs.items() if gold != answer)
    return tuple((gold, answer, -count, total[gold]) for count, gold, answer in wrong[:_MOST_CONFUSIONS])


def concept_content(scores: TaskScores, systems: Mapping[str, TaskScores]) -> ConceptContent | None:
    """Return what is shown of concepts, None without any; arguments as for `class_content`."""
    rows = [row for row in scores.summary_rows if "concept" in row]
    if not rows:
        return None
    defined = sorted((row for row in rows if is_defined(row["auroc"])), key=lambda row: (-row["auroc"], row["concept"]))
    without = [(row["concept"], _why(row["photos"], row["known"])) for row in rows if not is_defined(row["auroc"])]
    return ConceptContent(
        rows=_named(defined[:MOST_ROWS], "concept", "auroc", scores, systems),
        more=max(0, len(defined) - MOST_ROWS),
        undefined=tuple(without),
        systems=tuple(systems) if len(systems) > 1 else (),
    )


def _why(photos: int, known: int) -> str:
    if not known:
        return "not known of any photo"
    return "seen on no photo" if not photos else f"seen on all {known} photos" if photos == known else "no score"


def _named(
    rows: Sequence[Mapping[str, object]],
    kind: str,
    score: str,
    scores: TaskScores,
    systems: Mapping[str, TaskScores],
) -> tuple[NamedScore, ...]:
    prefix = score if kind == "class" else "concept_auroc"
    of_system = [{row[kind]: row[score] for row in s.summary_rows if kind in row} for s in systems.values()]
    return tuple(
        NamedScore(
            name=str(row[kind]),
            photos=int(str(row["photos"])),
            known=int(str(row["known"])) if "known" in row else None,
            value=_number(row[score]),
            interval=bounds(scores.intervals.get(f"{prefix}[{row[kind]}]")),
            auroc=_number(row["auroc"]),
            others=tuple(_number(values.get(row[kind])) for values in of_system) if len(systems) > 1 else (),
            specificity=_number(row.get("specificity")),
        )
        for row in rows
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and is_defined(value) else None
