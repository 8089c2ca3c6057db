"""Cross-validation's figures: out-of-fold predictions scored once over all encounters, and by fold beside it.

The pooled figure and its interval (metrics/statistics.py) are the result. Mean and sd over folds describe how far
folds differ; folds share most of what they learn from, so the sd is no standard error.
"""

import math
import statistics as moments
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from magic_cli import tasks
from magic_cli.data.gold import gold_of
from magic_cli.data.prepared import Prepared
from magic_cli.files import finite
from magic_cli.metrics import statistics
from magic_cli.records import Clusters, Report, Sample
from magic_cli.submission import open_predictions


def judge(
    name: str,
    prepared: Prepared,
    predictions: Path,
    parts: Sequence[Sequence[Sample]],
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the part of folds.json that holds figures, with NaN as null.

    Args:
        name: the task.
        prepared: its split train is the gold, all of it: what has no prediction counts as zero, as in `magic score`.
        predictions: a folder in the submission layout.
        parts: the samples that each fold held out, from which trivial answers are learned in the same way.
        rows: folds.json's row of each fold, with its "encounters".
    """
    task, gold = tasks.load(name), gold_of(prepared, "train")
    with open_predictions(predictions) as found:
        scored: Report = task.score(gold, found.of(name, gold))
        held = [row["encounters"] for row in rows]
        reviewed = task.review(gold, found.of(name, gold), task.guesses(parts, prepared.questions), held)
    guessed = {label: task.score(gold, guess) for label, guess in task.guesses(parts, prepared.questions).items()}
    clusters = _clusters(scored)
    baselines = {label: {**one.figures, **one.extra} for label, one in guessed.items()} | dict(scored.baselines)
    by_fold = [{**row, "figures": _part(clusters, row["encounters"])} for row in rows]
    found_: dict[str, Any] = {
        "monitor": task.MONITOR,
        "encounters": len(clusters.ids),
        "parts": by_fold,
        "figures": _figures(clusters, [row["figures"] for row in by_fold]),
        "baselines": {label: {n: row[n] for n in clusters.names if n in row} for label, row in baselines.items()},
        "differences": {label: _differences(clusters, _clusters(one)) for label, one in guessed.items()},
        "review": reviewed,
        "notes": [*scored.notes, *(f"counted as zero: {line}" for line in scored.refused)],
    }
    result: dict[str, Any] = finite(found_)
    return result


def _clusters(found: Report) -> Clusters:
    if found.clusters is None:
        raise ValueError(f"task {found.task} gives no sums over encounters")
    return found.clusters


def _part(clusters: Clusters, encounters: Sequence[str]) -> dict[str, float]:
    """Return the figures of some encounters alone."""
    wanted = set(encounters)
    rows = [number for number, encounter in enumerate(clusters.ids) if encounter in wanted]
    return dict(zip(clusters.names, clusters.figures(clusters.sums[rows].sum(0)).tolist(), strict=True))


def _figures(clusters: Clusters, by_fold: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Return each figure pooled, with the bounds of its 95 % interval, and mean and sd over the folds that have it."""
    values = dict(zip(clusters.names, clusters.figures(clusters.sums.sum(0)).tolist(), strict=True))
    bounds = statistics.intervals(clusters)
    found = {}
    for name, value in values.items():
        there = [row[name] for row in by_fold if not math.isnan(row[name])]
        mean = moments.fmean(there) if there else math.nan
        sd = moments.stdev(there) if len(there) > 1 else math.nan
        found[name] = {"value": value, "low": bounds[name].low, "high": bounds[name].high, "mean": mean, "sd": sd}
    return found


def _differences(ours: Clusters, trivial: Clusters) -> dict[str, dict[str, float]]:
    """Return each figure minus that of a trivial answer, over the same encounters."""
    return {name: asdict(found) for name, found in statistics.paired(ours, trivial).items()}
