"""Write predictions of case retrieval: similarities, a TREC run and its judgements (submission/rankings.py)."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.retrieval.gold import RetrievalGold
from magic_cli.data.retrieval.judgements import positives
from magic_cli.io.staging import replace_results
from magic_cli.submission.rankings import JUDGED, MOST_PAIRS, RUN, SIMILARITIES, judgement_lines, run_lines
from magic_cli.tasks.retrieve.predictions import RetrievalPrediction

Beside = Callable[[Path, tuple[str, ...]], None]
"""Writes more to a folder of predictions, for these queries, before it is put in place."""


def save(
    predictions: Iterable[RetrievalPrediction], gold: RetrievalGold, out: Path, beside: Beside | None = None
) -> list[Path]:
    """Write predictions to the folder `out` in one step, and return the files.

    Args:
        predictions: of distinct queries; their galleries may differ, as those of the models of several folds do.
        gold: of the queries, for qrels.txt; queries without a class have no lines in it.
        out: the folder.
        beside: writes what else belongs to it.
    """
    made = list(predictions)
    gallery = _gallery(made, gold)
    place = {photo: at for at, photo in enumerate(gallery)}
    scores = np.full((len(made), len(gallery)), np.nan, np.float32)
    for own, prediction in zip(scores, made, strict=True):
        own[[place[photo] for photo in prediction.gallery]] = prediction.scores
    queries = tuple(prediction.id for prediction in made)
    with replace_results(out) as folder:
        write_rankings(folder, (queries, gallery), scores, gold)
        if beside is not None:
            beside(folder, queries)
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [out / name for name in names]


def write_rankings(
    folder: Path, ids: tuple[Sequence[str], Sequence[str]], scores: NDArray[np.float32], gold: RetrievalGold
) -> None:
    """Write the files of a prediction to a folder that exists.

    Args:
        folder: to write to.
        ids: of the queries and of the gallery.
        scores: (Q, G), NaN where a photo is not in a query's gallery.
        gold: of the queries, and more.
    """
    queries, gallery = ids
    np.savez(
        folder / SIMILARITIES,
        queries=np.array(queries, str),
        gallery=np.array(gallery, str),
        scores=scores,
        protocol=np.array(gold.protocol),
        classes=np.array(gold.classes),
    )
    if scores.size > MOST_PAIRS:
        return
    with (folder / RUN).open("w", encoding="utf-8", newline="\n") as file:
        for query, row in zip(queries, scores, strict=True):
            file.writelines(run_lines(query, gallery, row))
    kept = set(queries)
    with (folder / JUDGED).open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(judgement_lines({q: row for q, row in positives(gold).items() if q in kept}))


def _gallery(predictions: Sequence[RetrievalPrediction], gold: RetrievalGold) -> tuple[str, ...]:
    """Return the photos that any of the queries ranks, in the order of the gold, then of the predictions."""
    galleries = {id(prediction.gallery): prediction.gallery for prediction in predictions}
    ranked = dict.fromkeys(photo for gallery in galleries.values() for photo in gallery)
    first = [photo for photo in gold.gallery if photo in ranked]
    return tuple(dict.fromkeys((*first, *ranked)))
