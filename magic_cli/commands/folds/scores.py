"""Scores of a cross-validation: the held-out predictions of all folds, scored together and fold by fold."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from magic_cli.data.prepared import Prepared
from magic_cli.metrics import bootstrap
from magic_cli.records import EncounterScores, Review, Sample, TaskScores
from magic_cli.report.run_text import Fold, FoldScores, PooledScore
from magic_cli.submission.reader import open_predictions
from magic_cli.training.task import Task

Parts = Sequence[Sequence[Sample]]


def score_folds(
    task: Task, prepared: Prepared, predictions: Path, parts: Parts, folds: Sequence[Fold]
) -> tuple[FoldScores, Review]:
    """Score the held-out predictions of all folds together.

    Args:
        task: what was predicted.
        prepared: all of its split train is the gold: samples without a prediction count as zero, as in `magic score`.
        predictions: a folder in the submission layout.
        parts: the samples that each fold held out, for trivial answers that are learned in the same way.
        folds: the encounters that each fold held out.

    Returns:
        The scores, and the task's review of the predictions.
    """
    gold = task.gold(prepared, "train")
    questions = prepared.questions
    with open_predictions(predictions) as submission:
        scored = task.score(gold, submission.of(task.deliverable, questions.by_qid))
        held_out = [fold.encounters for fold in folds]
        baselines = task.baseline_predictions(parts, questions)
        review = task.validation_review(gold, submission.of(task.deliverable, questions.by_qid), baselines, held_out)
    baselines = task.baseline_predictions(parts, questions)  # again: an iterator of predictions can be read only once
    trivial = {label: task.score(gold, predicted) for label, predicted in baselines.items()}
    sums = _sums(scored)
    scored_folds = tuple(
        replace(fold, scores=_scores_of(sums, _names(part))) for fold, part in zip(folds, parts, strict=True)
    )
    few = bootstrap.remark_on_few(len(sums.ids))
    rows = {label: {**scores.scores, **scores.extra} for label, scores in trivial.items()} | dict(scored.baselines)
    scores = FoldScores(
        monitor=task.monitor,
        encounters=len(sums.ids),
        parts=scored_folds,
        pooled=_pooled(sums, [fold.scores or {} for fold in scored_folds]),
        baselines={label: {name: row[name] for name in sums.names if name in row} for label, row in rows.items()},
        differences={label: bootstrap.paired(sums, _sums(other)) for label, other in trivial.items()},
        notes=(*scored.notes, *(f"counted as zero: {line}" for line in scored.rejected), *([few] if few else [])),
    )
    return scores, review


def _sums(scores: TaskScores) -> EncounterScores:
    if scores.encounter_sums is None:
        raise ValueError(f"task {scores.task} gives no sums over encounters")
    return scores.encounter_sums


def _names(part: Sequence[Sample]) -> list[str]:
    """Return the encounters of samples, and their groups: scores are of the ones or of the others."""
    return sorted({name for sample in part for name in (sample.case.case_id, sample.case.group_id) if name})


def _scores_of(sums: EncounterScores, encounters: Sequence[str]) -> dict[str, float | None]:
    """Return the scores on these encounters only."""
    wanted = set(encounters)
    rows = [number for number, encounter in enumerate(sums.ids) if encounter in wanted]
    return dict(zip(sums.names, sums.over(rows).tolist(), strict=True))


def _pooled(sums: EncounterScores, by_fold: Sequence[Mapping[str, float | None]]) -> dict[str, PooledScore]:
    """Return each score pooled, with the bounds of its 95 % interval, and mean and sd over the folds that have it."""
    bounds = bootstrap.intervals(sums)
    pooled = {}
    for name, value in zip(sums.names, sums.over(range(len(sums.ids))).tolist(), strict=True):
        values = [score for row in by_fold if (score := row[name]) is not None and not math.isnan(score)]
        mean = statistics.fmean(values) if values else math.nan
        sd = statistics.stdev(values) if len(values) > 1 else math.nan
        pooled[name] = PooledScore(value, bounds[name].low, bounds[name].high, mean, sd)
    return pooled
