"""Systems as the rows of an ablation table: what differs in their settings, their scores, and what can be concluded."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from magic_cli.metrics.bootstrap import Difference
from magic_cli.records import TaskScores
from magic_cli.report.score_report import Comparison
from magic_cli.report.score_text import SCORE_NAMES, best_of, bounds, is_defined, verdict_of
from magic_cli.report.short_names import short_names

Setting = str | int | float

MOST_SETTINGS = 8

SHOWN: tuple[str, ...] = ("balanced_accuracy", "top1", "concept_auroc", "recall@10")
SHOWN += ("i2t_recall_any@50", "t2i_recall_any@50", "mean_of_tasks")
"""Scores of the table; all are in [0, 1], and higher is better."""

CONCLUDED = ("balanced_accuracy", "concept_auroc", "recall@10", "i2t_recall_any@50", "t2i_recall_any@50")
"""Scores that a sentence is about."""

_PARTS = {"objective": "loss", "subtexts": "subtexts", "local_weight": "slra, weight", "weighting": "dkw"}

_TECHNICAL = frozenset({"preset", "workers", "weights_dir", "micro_batch", "chunk_rows", "gradient_checkpointing"})


@dataclass(frozen=True, slots=True)
class AblationCell:
    """A score with its interval, and its difference to the reference with a verdict; None and "" without."""

    value: float | None
    interval: tuple[float, float] | None
    best: bool
    difference: Difference | None
    verdict: str


@dataclass(frozen=True, slots=True)
class AblationRow:
    """A system: its name, whether it is the reference, values of the settings that differ, and scores."""

    name: str
    is_reference: bool
    settings: tuple[str, ...]
    cells: tuple[AblationCell, ...]


@dataclass(frozen=True, slots=True)
class Ablation:
    """The table.

    Attributes:
        reference: the system that differences are to.
        units: the number of resampled units of the comparisons, None without any.
        settings: names of the settings that differ; `more` are those beyond the columns.
        heads: names of the scores.
        chance: what chance gives for each score, None where it is unknown.
        rows: the systems in their order.
        verdicts: a sentence per system that is compared.
    """

    reference: str
    units: int | None
    settings: tuple[str, ...]
    more: tuple[str, ...]
    heads: tuple[str, ...]
    chance: tuple[float | None, ...]
    rows: tuple[AblationRow, ...]
    verdicts: tuple[str, ...]


def ablation(
    systems: Mapping[str, TaskScores], comparisons: Sequence[Comparison], settings: Mapping[str, Mapping[str, Setting]]
) -> Ablation:
    """Return systems side by side.

    Args:
        systems: scores by system, in the order of the rows.
        comparisons: of systems with one other, the reference; () without any.
        settings: of the training behind each system; {} where they are unknown.
    """
    other = comparisons[0].other if comparisons else next(iter(systems))
    names = short_names(list(dict.fromkeys((*systems, other))))
    keys = [key for key in SHOWN if any(is_defined(scores.scores.get(key)) for scores in systems.values())]
    found = {row.system: row for row in comparisons}
    best = best_of([{key: scores.scores.get(key, float("nan")) for key in keys} for scores in systems.values()])
    columns, more = differing(list(settings.values()))
    rows = []
    for line, (system, scores) in enumerate(systems.items()):
        differences = found[system].differences if system in found else {}
        cells = (_cell(scores, key, (line, key) in best and len(systems) > 1, differences.get(key)) for key in keys)
        shown = tuple(_shown(settings.get(system, {}).get(key)) for key in columns)
        rows.append(AblationRow(names[system], system == other, shown, tuple(cells)))
    chance = next(iter(systems.values())).baselines.get("chance", {})
    sentences = (verdict(names[row.system], names[other], row.differences) for row in comparisons)
    same = (f"{names[row.system]}: {shared}." for row in comparisons if (shared := row.unchanged_line()))
    return Ablation(
        reference=names[other],
        units=comparisons[0].n_encounters if comparisons else None,
        settings=tuple(_PARTS.get(key, key) for key in columns),
        more=more,
        heads=tuple(SCORE_NAMES.get(key, (key, ""))[0] for key in keys),
        chance=tuple(chance.get(key) for key in keys),
        rows=tuple(rows),
        verdicts=tuple(filter(None, (*sentences, *same))),
    )


def _cell(scores: TaskScores, key: str, best: bool, row: Difference | None) -> AblationCell:
    known = row if row is not None and is_defined(row.difference) else None
    interval = bounds(scores.intervals.get(key))
    return AblationCell(scores.scores.get(key), interval, best, known, "" if known is None else verdict_of(known))


def differing(settings: Sequence[Mapping[str, Setting]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the settings that differ among those that are known, MAKE's parts first: columns, and what is beyond."""
    known = [row for row in settings if row]
    keys = [key for key in dict.fromkeys(key for row in known for key in row) if key not in _TECHNICAL]
    unlike = [key for key in keys if len({row.get(key) for row in known}) > 1]
    ordered = [*(key for key in _PARTS if key in unlike), *(key for key in unlike if key not in _PARTS)]
    return tuple(ordered[:MOST_SETTINGS]), tuple(ordered[MOST_SETTINGS:])


def _shown(value: Setting | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, int | float) else value


def verdict(name: str, reference: str, differences: Mapping[str, Difference]) -> str:
    """Return what intervals say about a system and its reference, "" if nothing was compared.

    >>> verdict("MAKE", "CLIP", {"balanced_accuracy": Difference(0.12, 0.05, 0.19, 0.001)})
    'MAKE is above CLIP in balanced accuracy by 0.12 [0.05, 0.19].'
    """
    sorts: dict[str, list[str]] = {"higher": [], "lower": [], "": []}
    for key in CONCLUDED:
        row = differences.get(key)
        if row is None or not is_defined(row.difference):
            continue
        kind = verdict_of(row) if verdict_of(row) in sorts else ""
        sorts[kind].append(_in_words(key) + (_by(row) if kind else ""))
    parts = [f"{_AS[kind]} {reference} in {_joined(words, 'and')}" for kind, words in sorts.items() if kind and words]
    if sorts[""]:
        parts.append(f"no difference{'' if parts else f' to {reference}'} is shown in {_joined(sorts[''], 'or')}")
    colon = "" if sorts["higher"] or sorts["lower"] else ":"
    return f"{name}{colon} {'; '.join(parts)}." if parts else ""


_AS = {"higher": "is above", "lower": "is below"}


def _by(row: Difference) -> str:
    size, ends = abs(row.difference), sorted((abs(row.low), abs(row.high)))
    return f" by {size:.2f} [{ends[0]:.2f}, {ends[1]:.2f}]"


def _in_words(key: str) -> str:
    way, _, rest = key.partition("_recall_any@")
    if rest:
        return f"recall at {rest} from {'photo to text' if way == 'i2t' else 'text to photo'}"
    name = SCORE_NAMES.get(key, (key, ""))[0]
    return name[:1].lower() + name[1:]


def _joined(words: Sequence[str], conjunction: str) -> str:
    return f" {conjunction} ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def against_chance(name: str, scores: TaskScores) -> Iterator[str]:
    """Yield a sentence about a system's scores against chance; nothing where there is no interval."""
    level, parts = scores.baselines.get("chance", {}), []
    for key in CONCLUDED[:3]:
        pair, chance = bounds(scores.intervals.get(key)), level.get(key)
        if pair is None or chance is None or not is_defined(chance):
            continue
        side = "above" if pair[0] > chance else "below" if pair[1] < chance else "not shown to differ from"
        parts.append(
            f"{_in_words(key)} {scores.scores[key]:.2f} [{pair[0]:.2f}, {pair[1]:.2f}], {side} chance ({chance:.2f})"
        )
    if parts:
        yield f"{name}: {'; '.join(parts)}."
