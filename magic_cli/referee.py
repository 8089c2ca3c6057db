"""The referee: systems scored against one gold, with intervals, paired comparisons and where it all came from.

`judge` returns the object of schemas/report.schema.json, from which the terminal, the CSV and the page are made.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from magic_cli import __version__, leaderboard, report, tasks
from magic_cli.data.gold import Gold, open_gold
from magic_cli.errors import ConfigError, DataError, SubmissionError, printable, problem
from magic_cli.files import finite
from magic_cli.metrics import statistics
from magic_cli.records import Report, Rules
from magic_cli.submission import Submission, open_predictions

EMPTY = ("one", "zero", "skip")
TRACKS = ("both", "official", "strict")
_PACKAGES = ("numpy", "tifffile", "pillow")


@dataclass(frozen=True)
class Options:
    """How `judge` scores: the split, the track that is shown, the strict rules, resampling, threads."""

    split: str = "valid"
    track: str = "both"
    rules: Rules = field(default_factory=Rules)
    resamples: int = 10_000
    seed: int = 2025
    workers: int = 1

    def __post_init__(self) -> None:
        """Refuse values that the command line cannot check by type."""
        if self.rules.empty not in EMPTY:
            raise ConfigError(problem("--empty", self.rules.empty, " or ".join(EMPTY), "choose one of these"))

    def as_dict(self) -> dict[str, Any]:
        """Return what the report says about the settings."""
        chosen = {"track": self.track, **asdict(self.rules)}
        return chosen | {"resamples": self.resamples, "seed": self.seed}


@dataclass(frozen=True)
class System:
    """One system's predictions, scored: a report for each task that they and the gold have in common."""

    name: str
    notes: tuple[str, ...]
    reports: tuple[Report, ...]

    def of(self, task: str) -> Report | None:
        """Return the report of a task, None where this system lacks it."""
        return next((found for found in self.reports if found.task == task), None)


def judge(
    preds: Sequence[Path],
    gold_path: Path,
    options: Options,
    against: Path | None = None,
    published: bool = False,
) -> tuple[dict[str, Any], Gold]:
    """Score one or more systems against a gold, each against another if asked.

    Args:
        preds: predictions of each system: JSON file, folder of masks, predictions folder or zip.
        gold_path: gold file, folder of annotators' masks, challenge folder or prepared/.
        options: split, rules, resampling.
        against: predictions that every system is compared with, encounter by encounter.
        published: add the published leaderboard.

    Returns:
        The report (schemas/report.schema.json) and the gold it was scored against.

    Raises:
        DataError: no gold, or the gold is damaged. SubmissionError: predictions that cannot be scored at all.
    """
    gold = open_gold(gold_path, options.split)
    systems = [_score(path, gold, options) for path in preds]
    other = _without_rows(_score(against, gold, options)) if against else None
    found: dict[str, Any] = {
        "schema": 1,
        "format": "magic-report",
        "gold": {"source": printable(gold.source), "split": options.split},
        "settings": options.as_dict(),
        "systems": [_system(system, options) for system in systems],
        "comparisons": [
            row for system in systems if other and system.name != other.name for row in _compare(system, other, options)
        ],
        "provenance": _provenance(),
        "notes": [],
    }
    if published:
        scored = dict.fromkeys(r.task for system in systems for r in system.reports)
        found["leaderboard"] = [{"task": task, **row} for task in scored for row in leaderboard.rows(task)]
        found["notes"].append(leaderboard.sentence())
    return found, gold


def _score(path: Path, gold: Gold, options: Options) -> System:
    with open_predictions(path) as found:
        reports = [
            tasks.load(name).score(gold, found.of(name, gold), options.rules, options.workers)
            for name in found.tasks_with(gold)
        ]
        return System(printable(path), found.notes, tuple(_run_of_all(found, reports)))


def _without_rows(system: System) -> System:
    """Keep the figures alone of what others are compared with: its items are as many as theirs, and shown nowhere."""
    return replace(system, reports=tuple(replace(one, rows=(), items=(), errors=()) for one in system.reports))


def _run_of_all(found: Submission, reports: Sequence[Report]) -> Iterator[Report]:
    """Yield the reports as one official run gives them: what stops one task takes the figures of the other too."""
    stopped = [report.task for report in reports if report.stops]
    for one in reports:
        stops = (*found.stops, *one.stops)
        if stopped and not stops:
            stops = (f"the run stops at the other task ({', '.join(stopped)}), and both lose their figures",)
        yield replace(one, official=None, stops=stops) if stops else one


def _system(system: System, options: Options) -> dict[str, Any]:
    rows = []
    for found in system.reports:
        row = report.task_json(found)
        intervals = statistics.intervals(found.clusters, options.resamples, options.seed) if found.clusters else {}
        row["intervals"] = {name: finite((pair.low, pair.high)) for name, pair in intervals.items()}
        rows.append(row)
    return {"name": system.name, "notes": list(system.notes), "reports": rows}


def _compare(system: System, other: System, options: Options) -> Iterator[dict[str, Any]]:
    for mine in system.reports:
        theirs = other.of(mine.task)
        if theirs is None or mine.clusters is None or theirs.clusters is None:
            continue
        found = statistics.paired(mine.clusters, theirs.clusters, options.resamples, options.seed)
        yield {
            "task": mine.task,
            "system": system.name,
            "other": other.name,
            "encounters": len(mine.clusters.ids),
            "figures": finite({name: asdict(one) for name, one in found.items()}),
        }
    if not {r.task for r in system.reports} & {r.task for r in other.reports}:
        raise DataError(f"{other.name}: has no task in common with {system.name}; give predictions of the same task")


def exit_code(found: Mapping[str, Any]) -> int:
    """Return 4 where the track that was asked for has a fault: --official and it stops, --strict and items refused."""
    key = {"official": "stops", "strict": "refused"}.get(found["settings"]["track"], "")
    faulty = any(one.get(key) for system in found["systems"] for one in system["reports"])
    return SubmissionError.exit_code if faulty else 0


def _provenance() -> dict[str, Any]:
    versions = {"magic": __version__, "python": sys.version.split()[0]} | {name: version(name) for name in _PACKAGES}
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return {"argv": [printable(word) for word in ["magic", *sys.argv[1:]]], "versions": versions, "made": made}
