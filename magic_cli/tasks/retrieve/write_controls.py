"""Write the controls of case retrieval beside a model's predictions, each as a system of its own."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.retrieval.gold import RetrievalGold
from magic_cli.data.retrieval.queries import query_of
from magic_cli.records import Sample
from magic_cli.tasks.retrieve.controls import ControlInput, controls, left_out
from magic_cli.tasks.retrieve.write import write_rankings
from magic_cli.training.case_encoder import CaseEncoder


def write_controls(
    folder: Path, gold: RetrievalGold, queries: Sequence[Sample], encoders: Sequence[CaseEncoder]
) -> dict[str, str]:
    """Write the rankings of every control that can be computed to folder/NAME, and return why others cannot be.

    Args:
        folder: of the controls, which does not exist yet.
        gold: whose queries are those of `queries`, in their order.
        queries: the photos that ask.
        encoders: whose vectors of photos are compared.
    """
    mine, theirs = ([query_of(sample.case) for sample in samples] for samples in (queries, gold.samples))
    given = ControlInput(gold, *photo_vectors(encoders, queries, gold.samples), mine, theirs)
    groups = [np.array([gold.groups[photo] for photo in ids], str) for ids in (gold.queries, gold.gallery)]
    is_own = groups[0][:, None] == groups[1]
    for name, similar in controls(given).items():
        (folder / name).mkdir(parents=True)
        scores = np.where(is_own, np.float32(np.nan), similar)
        write_rankings(folder / name, (gold.queries, gold.gallery), scores, gold)
    return left_out(given)


def photo_vectors(
    encoders: Sequence[CaseEncoder], queries: Sequence[Sample], gallery: Sequence[Sample]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return vectors of photos (Q, d) and (G, d): the global parts of every encoder, side by side.

    Each part is of unit length, so a cosine of these is the mean of the parts' cosines. Words have no part in them.
    """
    samples = {sample.id: sample for sample in (*queries, *gallery)}
    place = {name: at for at, name in enumerate(samples)}
    columns = []
    for encoder in encoders:
        rows, kinds = encoder.photos(list(samples.values())), [part.kind for part in encoder.parts]
        is_global = np.repeat(np.array(kinds) == "global", [part.width for part in encoder.parts])
        columns.append(rows[:, is_global])
    every = np.concatenate(columns, 1)
    mine, theirs = (every[[place[sample.id] for sample in part]] for part in (queries, gallery))
    return mine, theirs
