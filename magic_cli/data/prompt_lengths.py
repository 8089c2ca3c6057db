"""Prompt lengths in tokens: how they are spread, and how much of a prompt a text encoder's window keeps."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from magic_cli.data.prompts import share_window

WINDOWS = ((77, "CLIP"), (256, "MiniLM"))

SPECIAL = 2  # start and end token; encoders join the halves with nothing between them

WIDTH, BINS = 16, 32  # the last bin holds every longer prompt

Sizes = Sequence[tuple[int, int]]


def exceeding(sizes: Sizes, tokens: int) -> int:
    """Return how many prompts are longer than a window of `tokens`; arguments as `window_use`."""
    return sum(sum(halves) > tokens - SPECIAL for halves in sizes)


def window_use(sizes: Sizes, tokens: int) -> dict[str, Any]:
    """Return how many prompts exceed a window, and the mean share of each half that is kept.

    Args:
        sizes: tokens of the question and of the answer half of each prompt, without special tokens.
        tokens: the window, which holds two special tokens and both halves, shared by `share_window`.

    Returns:
        tokens, prompts, exceed; kept_question and kept_answer in [0, 1] over the prompts that have this half,
        None without any.
    """
    room = tokens - SPECIAL
    shares: tuple[list[float], list[float]] = ([], [])
    for halves in sizes:
        for share, kept, size in zip(shares, share_window(*halves, room), halves, strict=True):
            share += [kept / size] if size else []
    question, answer = (round(float(np.mean(share)), 6) if share else None for share in shares)
    counts = {"tokens": tokens, "prompts": len(sizes), "exceed": exceeding(sizes, tokens)}
    return counts | {"kept_question": question, "kept_answer": answer}


def length_histogram(sizes: Sizes) -> list[int]:
    """Return how many prompts have 0-15, 16-31, ... tokens, special tokens included; the last of 32 bins is open.

    >>> length_histogram([(4, 9), (5, 9), (9000, 9000)])[:2], length_histogram([(9000, 9000)])[-1]
    ([1, 1], 1)
    """
    bins = [min((sum(halves) + SPECIAL) // WIDTH, BINS - 1) for halves in sizes]
    return [int(number) for number in np.bincount(np.array(bins, np.int64), minlength=BINS)]
