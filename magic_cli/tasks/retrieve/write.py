"""Write predictions of case retrieval: similarities, a TREC run and its judgements (submission/rankings.py)."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from magic_cli.data.retrieval.gold import RetrievalGold
from magic_cli.data.retrieval.judgements import positives
from magic_cli.io.staging import replace_results
from magic_cli.submission.rankings import JUDGED, MOST_PAIRS, RUN, SIMILARITIES, judgement_lines, run_lines
from magic_cli.tasks.retrieve.predictions import RetrievalPrediction


def save(predictions: Iterable[RetrievalPrediction], gold: RetrievalGold, out: Path) -> list[Path]:
    """Write predictions to the folder `out` in one step, and return the files.

    Args:
        predictions: of distinct queries; their galleries may differ, as those of the models of several folds do.
        gold: of the queries, for qrels.txt; queries without a class have no lines in it.
        out: the folder.
    """
    made = list(predictions)
    gallery = _gallery(made, gold)
    place = {photo: at for at, photo in enumerate(gallery)}
    scores = np.full((len(made), len(gallery)), np.nan, np.float32)
    for own, prediction in zip(scores, made, strict=True):
        own[[place[photo] for photo in prediction.gallery]] = prediction.scores
    queries = [prediction.id for prediction in made]
    with replace_results(out) as folder:
        np.savez(folder / SIMILARITIES, queries=np.array(queries, str), gallery=np.array(gallery, str), scores=scores)
        if scores.size <= MOST_PAIRS:
            with (folder / RUN).open("w", encoding="utf-8", newline="\n") as file:
                for query, row in zip(queries, scores, strict=True):
                    file.writelines(run_lines(query, gallery, row))
            with (folder / JUDGED).open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(judgement_lines({q: row for q, row in positives(gold).items() if q in set(queries)}))
        names = sorted(path.name for path in folder.iterdir())
    return [out / name for name in names]


def _gallery(predictions: Sequence[RetrievalPrediction], gold: RetrievalGold) -> tuple[str, ...]:
    """Return the photos that any of the queries ranks, in the order of the gold, then of the predictions."""
    galleries = {id(prediction.gallery): prediction.gallery for prediction in predictions}
    ranked = dict.fromkeys(photo for gallery in galleries.values() for photo in gallery)
    first = [photo for photo in gold.gallery if photo in ranked]
    return tuple(dict.fromkeys((*first, *ranked)))
