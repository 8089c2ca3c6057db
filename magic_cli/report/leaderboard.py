"""Published scores to compare with: the leaderboard of MEDIQA-MAGIC 2025, and the tables of report/make_tables.py.

Source: "IReL, IIT(BHU) at MEDIQA-MAGIC 2025" (CLEF 2025 working notes), Tables 1 and 2: every run of every team in
the tables' order, which is that of their last column, with their three and four decimals. Neither table has a row
for annotators, for chance or for the organisers' own systems.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from magic_cli.metrics.mask_scores import MASK_SCORES
from magic_cli.report import make_tables

SOURCE = "IReL, IIT(BHU) at MEDIQA-MAGIC 2025, Tables 1 and 2 (test set)"

KEYS: Mapping[str, tuple[str, ...]] = {"seg": MASK_SCORES, "cvqa": ("accuracy_all",)}

_KLE1 = ("KLE1", 0.638, 0.554, 0.751, 0.671, 0.541, 0.702)

_H3N1 = ("H3N1", 0.636, 0.547, 0.743, 0.659, 0.514, 0.679)

_BEST = ("Anastasia", 0.677, 0.591, 0.783, 0.705, 0.646, 0.785)

_TABLES: Mapping[str, tuple[tuple[str, *tuple[float, ...]], ...]] = {
    "seg": (
        *(_BEST,) * 3,
        ("Anastasia", 0.631, 0.550, 0.742, 0.666, 0.611, 0.759),
        ("IReL, IIT(BHU)", 0.655, 0.569, 0.765, 0.686, 0.588, 0.741),
        *(_KLE1,) * 4,
        *(_H3N1,) * 4,
        ("Anastasia", 0.521, 0.411, 0.633, 0.525, 0.321, 0.485),
        ("Anastasia", 0.523, 0.411, 0.635, 0.525, 0.313, 0.477),
        ("Kasukabe Defense Group", 0.162, 0.135, 0.224, 0.191, 0.187, 0.315),
    ),
    "cvqa": (
        ("H3N1", 0.7580),
        ("H3N1", 0.7507),
        ("H3N1", 0.7452),
        ("H3N1", 0.7452),
        ("H3N1", 0.7358),
        ("DS@GT MEDIQA-MAGIC", 0.7095),
        ("DS@GT MEDIQA-MAGIC", 0.7062),
        ("DS@GT MEDIQA-MAGIC", 0.6924),
        ("DS@GT MEDIQA-MAGIC", 0.6752),
        ("DS@GT MEDIQA-MAGIC", 0.6527),
        ("KLE1", 0.5698),
        ("KLE1", 0.5530),
        ("KLE1", 0.5530),
        ("Kasukabe Defense Group", 0.5366),
        ("Kasukabe Defense Group", 0.5259),
        ("Kasukabe Defense Group", 0.4637),
        ("DS@GT MEDIQA-MAGIC", 0.3743),
        ("Oggy", 0.2223),
        ("IReL, IIT(BHU)", 0.1731),
    ),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One published run: its team, its number among the team's runs in the table (from 1), its test-set scores.

    `scores` are under the official keys, each in [0, 1]; those of pretraining name the dataset and the score. `table`
    is where they were printed, if a task has several tables, which hold other scores and systems.
    """

    team: str
    run: int
    scores: Mapping[str, float]
    table: str = ""

    @property
    def name(self) -> str:
        """The system, for people."""
        return self.team if self.table else f"{self.team}, run {self.run}"

    def to_json(self) -> dict[str, object]:
        """Return an item of `leaderboard` of schemas/report.schema.json, less its task."""
        table = {"table": self.table} if self.table else {}
        return {"team": self.team, "run": self.run, **table, "figures": dict(self.scores)}


def entries(task: str) -> tuple[Entry, ...]:
    """Return every published run of a task ("seg", "cvqa", "pretrain"), in the table's order; none for another task."""
    return tuple(_OTHERS[task]() if task in _OTHERS else _entries(task))


def _pretrained() -> Iterator[Entry]:
    for table, rows in make_tables.TABLES.items():
        for team, *values in rows:
            cells = zip(make_tables.KEYS[table], values, strict=True)
            yield Entry(team, 1, {name: value for name, value in cells if value is not None}, table)


def _entries(task: str) -> Iterator[Entry]:
    runs: Counter[str] = Counter()
    for team, *values in _TABLES.get(task, ()):
        runs[team] += 1
        yield Entry(team, runs[team], dict(zip(KEYS[task], values, strict=True)))


_OTHERS: Mapping[str, Callable[[], Iterator[Entry]]] = {"pretrain": _pretrained}  # tasks that are not the challenge's


def sentences(tasks: Collection[str]) -> tuple[str, ...]:
    """Return the source of the published scores of each task, and that others cannot be compared with them."""
    pretrained = (
        f"published scores of contrastive pretraining: {make_tables.SOURCE}, on whole datasets and without training on "
        "them; scores on other photos, or of a model that learned from these datasets, are not comparable with them"
    )
    return (
        *((sentence(),) if set(tasks) - _OTHERS.keys() else ()),
        *((pretrained,) if set(tasks) & _OTHERS.keys() else ()),
    )


def sentence() -> str:
    """Return the source of the challenge's scores, and that scores on other photos cannot be compared with them."""
    return (
        f"published scores: {SOURCE}; they were computed on the hidden test set; scores on another split, "
        "or on other photos, are not comparable with them and have no rank among them"
    )
