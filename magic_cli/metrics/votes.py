"""The vote of the nearest neighbours under ties: the exact probability that a class gets the most votes."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

Ints = NDArray[np.int64]


def win_probability(fixed: Floats, drawn: Floats, places: Ints, mine: Ints, k: int) -> Floats:
    """Return (q,): probability that a query's class has the most of k votes; t classes that tie win with 1/t each.

    `fixed` votes (q, classes) are given; the other `places` (q,) are drawn without replacement from `drawn`.
    """
    own = np.arange(len(mine)), mine
    most = fixed.max(1)
    won = np.where(fixed[own] == most, (most > 0) / (fixed == most[:, None]).sum(1), 0.0)
    open_rows = np.flatnonzero(places > 0)
    if len(open_rows):
        unique, of_row = np.unique(
            np.column_stack([fixed, drawn, places, mine])[open_rows], axis=0, return_inverse=True
        )
        classes = fixed.shape[1]
        given, block = unique[:, :classes], unique[:, classes : 2 * classes]
        left, who = unique[:, -2].astype(np.int64), unique[:, -1].astype(np.int64)
        won[open_rows] = _drawn_wins(given, block, left, who, k)[of_row.ravel()]
    return np.asarray(won, np.float64)


def _drawn_wins(fixed: Floats, drawn: Floats, places: Ints, mine: Ints, k: int) -> Floats:
    """Return `win_probability` where places are left, by counting draws class by class."""
    rows, classes = fixed.shape
    most, own = int(places.max()), (np.arange(rows), mine)
    ways = _choices(drawn, most)  # (rows, classes, most + 1)
    total = _choices(drawn.sum(1)[:, None], most)[own[0], 0, places]
    won = np.zeros(rows)
    for votes in range(1, k + 1):
        taken = votes - fixed[own]  # of the block, by the query's class
        can = (taken >= 0) & (taken <= places)
        if not can.any():
            continue
        at = np.clip(taken, 0, most).astype(np.int64)
        left = places - at
        ties = k // votes
        table = np.zeros((rows, most + 1, ties))  # draws of the other classes by places and ties
        table[:, 0, 0] = 1.0
        for other in range(classes):
            table = np.where(
                (mine == other)[:, None, None], table, _with(table, ways[:, other], fixed[:, other], votes)
            )
        shares = table[own[0], np.clip(left, 0, most)] @ (1 / np.arange(1, ties + 1))
        won += np.where(can, ways[own[0], mine, at] * shares, 0.0)
    return np.asarray(won / total, np.float64)


def _with(table: Floats, ways: Floats, fixed: Floats, votes: int) -> Floats:
    """Return the draws with one more class, which has at most `votes` votes; with as many, it is one more tie."""
    made = np.zeros_like(table)
    for number in range(table.shape[1]):
        weight = ways[:, number, None, None]
        has = (fixed + number)[:, None, None]
        moved = np.zeros_like(table)
        moved[:, number:] = table[:, : table.shape[1] - number]
        tied = np.zeros_like(table)
        tied[:, :, 1:] = moved[:, :, :-1]
        made += weight * np.where(has < votes, moved, np.where(has == votes, tied, 0.0))
    return made


def _choices(size: Floats, most: int) -> Floats:
    """Return (..., most + 1): the number of ways to choose 0 to `most` of `size`."""
    steps = np.arange(most)
    factors = np.maximum(size[..., None] - steps, 0) / (steps + 1)
    return np.concatenate([np.ones((*size.shape, 1)), np.cumprod(factors, -1)], -1)
