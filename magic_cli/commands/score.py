"""The referee: systems scored against one gold, with intervals, paired comparisons and where it all came from.

`judge` returns the object of schemas/report.schema.json, from which the terminal, the CSV and the page are made.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from magic_cli import __version__, tasks
from magic_cli.data.gold import Gold, open_gold
from magic_cli.data.prepared import MANIFEST
from magic_cli.errors import ConfigError, DataError, SubmissionError, printable, problem
from magic_cli.io import environment, run_record
from magic_cli.io.files import finite, read_jsonl, refuse_existing, sha256, write_json, write_parts, write_text
from magic_cli.io.staging import replace_results
from magic_cli.metrics import bootstrap
from magic_cli.records import Mask, Rules, TaskScores
from magic_cli.report import leaderboard, score_page, score_text
from magic_cli.submission.reader import Submission, open_predictions

SCORES, REPORT, ITEMS, PAGE = "scores.json", "report.json", "per_item.csv", "report.html"

_AT_A_TIME = 4096  # rows

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run a cell that starts so


def publish(
    found: dict[str, Any],
    gold: Gold,
    preds: Sequence[Path],
    gold_path: Path,
    out: Path,
    run: Path | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write the report of `referee.judge` to the folder `out` and return the files.

    scores.json holds the official keys of the first system alone (those of others: scores_2.json, ...); null where
    the official scorer prints NaN or nothing. `run` is a run folder whose metrics.jsonl gives training curves.

    Raises:
        DataError: `out` is taken and `overwrite` is false, it cannot be written, or `run` has no metrics.jsonl.
    """
    refuse_existing(out, overwrite)
    history = None if run is None else _history(run)
    found["provenance"]["sha256"] = {str(path): digest(path) for path in (*preds, gold_path)}
    with replace_results(out, (REPORT, ITEMS, PAGE, "scores*.json")) as folder:
        names = [REPORT, ITEMS, PAGE]
        for number, system in enumerate(found["systems"], 1):
            names.append(SCORES if number == 1 else f"scores_{number}.json")
            write_json(folder / names[-1], score_text.scores(system["reports"]))
        write_json(folder / REPORT, found)
        write_parts(folder / ITEMS, items_csv(found["systems"]))
        with open_predictions(preds[0]) as first:
            write_text(folder / PAGE, score_page.html(found, gold, masks_of(first, gold), history))
        run_record.begin(out / run_record.FILE)
    return [out / name for name in names]


def _history(run: Path) -> list[Mapping[str, Any]]:
    path = run / "metrics.jsonl"
    if not path.is_file():
        raise DataError(problem(run, "no metrics.jsonl", "a folder that `magic train` wrote", "check --run"))
    rows = read_jsonl(path)
    numbers = (type(None), int, float)
    for row in rows:
        if not isinstance(row, dict) or not all(isinstance(value, numbers) for value in row.values()):
            raise DataError(problem(path, "a line of another kind", "an object of figures", "train again"))
    return rows


def items_csv(systems: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a CSV of all systems' items, part by part: images with every annotator's figures, then parent questions.

    Cells that a spreadsheet would take for a formula are preceded by an apostrophe.
    """
    import pandas as pd

    columns, rows = list(dict.fromkeys(key for row in _rows(systems) for key in row)), _rows(systems)
    yield pd.DataFrame(columns=columns).to_csv(index=False, lineterminator="\n")
    while some := [{key: _cell(value) for key, value in row.items()} for row in islice(rows, _AT_A_TIME)]:
        frame = pd.DataFrame(some, columns=columns, dtype=object)  # as they are: 3, not 3.0 where others have none
        yield frame.to_csv(index=False, header=False, lineterminator="\n")


def _rows(systems: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for system in systems:
        for one in system["reports"]:
            yield from ({"system": system["name"], "task": one["task"], **item} for item in one["items"])


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = printable(value)  # an end of a line in a cell would be one of a row
    return f"'{text}" if value.startswith(_FORMULA) else text


def digest(path: Path) -> str:
    """Return the SHA-256 of a file; of prepared/, that of its prepare.json; of a folder, that of its list of files.

    run.json, which says when and where they were made, is none of them.
    """
    if path.is_file():
        return sha256(path)
    if (path / MANIFEST).is_file():
        return sha256(path / MANIFEST)
    whole = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name != run_record.FILE):
        whole.update(os.fsencode(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n"))
    return whole.hexdigest()


def masks_of(found: Submission, gold: Gold) -> dict[str, Callable[[], Mask]]:
    """Return a reader for each photo that has a mask, of (H, W) uint8 {0, 1}; call it while `found` is open."""
    return {image: partial(_mask, found, image) for image in found.masks or {} if image in gold.images}


def _mask(found: Submission, image: str) -> Mask:
    for submitted in found.submitted_masks([image]):
        if submitted.mask is not None:
            return (submitted.mask > 0).astype(np.uint8)
    raise DataError(f"{image}: is no mask; `magic package --check-only` says more")


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
    reports: tuple[TaskScores, ...]

    def of(self, task: str) -> TaskScores | None:
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
            tasks.get(name).score(gold, found.of(name, gold), options.rules, options.workers)
            for name in found.tasks_with(gold)
        ]
        return System(printable(path), found.notes, tuple(_run_of_all(found, reports)))


def _without_rows(system: System) -> System:
    """Keep the figures alone of what others are compared with: its items are as many as theirs, and shown nowhere."""
    return replace(
        system, reports=tuple(replace(one, summary_rows=(), per_item=(), errors=()) for one in system.reports)
    )


def _run_of_all(found: Submission, reports: Sequence[TaskScores]) -> Iterator[TaskScores]:
    """Yield the reports as one official run gives them: what stops one task takes the figures of the other too."""
    stopped = [report.task for report in reports if report.official_errors]
    for one in reports:
        stops = (*found.official_errors, *one.official_errors)
        if stopped and not stops:
            stops = (f"the run stops at the other task ({', '.join(stopped)}), and both lose their figures",)
        yield replace(one, official=None, official_errors=stops) if stops else one


def _system(system: System, options: Options) -> dict[str, Any]:
    rows = []
    for found in system.reports:
        row = score_text.task_json(found)
        intervals = (
            bootstrap.intervals(found.encounter_sums, options.resamples, options.seed) if found.encounter_sums else {}
        )
        row["intervals"] = {name: finite((pair.low, pair.high)) for name, pair in intervals.items()}
        rows.append(row)
    return {"name": system.name, "notes": list(system.notes), "reports": rows}


def _compare(system: System, other: System, options: Options) -> Iterator[dict[str, Any]]:
    for mine in system.reports:
        theirs = other.of(mine.task)
        if theirs is None or mine.encounter_sums is None or theirs.encounter_sums is None:
            continue
        found = bootstrap.paired(mine.encounter_sums, theirs.encounter_sums, options.resamples, options.seed)
        yield {
            "task": mine.task,
            "system": system.name,
            "other": other.name,
            "encounters": len(mine.encounter_sums.ids),
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
    versions = {"magic": __version__} | {name: environment.version(name) for name in ("python", *_PACKAGES)}
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return {"argv": [printable(word) for word in ["magic", *sys.argv[1:]]], "versions": versions, "made": made}
