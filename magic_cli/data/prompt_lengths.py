"""Prompt lengths in tokens: their distribution, and how much of a prompt fits into a text encoder's window."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from magic_cli.data.prompts import share_window
from magic_cli.records import SPLITS

WINDOWS = ((77, "CLIP"), (256, "MiniLM"))

SPECIAL = 2  # start and end token; encoders join the halves with nothing between them

WIDTH, BINS = 16, 32  # the last bin holds every longer prompt

# (tokens of the question, of the answer half), without special tokens, to the number of such prompts: as many as there
# are different ones, not as there are prompts
Sizes = Mapping[tuple[int, int], int]


@dataclass(frozen=True, slots=True)
class PromptWindow:
    """How much of `prompts` prompts fits into a text encoder's window of `tokens` tokens.

    `exceed` of them are longer; `exceed_by_split` counts them per split. `kept_question` and `kept_answer` are
    the mean share of that half that fits, in [0, 1], over the prompts that have it; None if no prompt has it.
    """

    tokens: int
    prompts: int
    exceed: int
    kept_question: float | None
    kept_answer: float | None
    model: str
    exceed_by_split: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PromptLengths:
    """Prompts per split with 0 to width - 1, width to 2 width - 1, ... tokens; the last of 32 bins is open."""

    width: int
    train: tuple[int, ...]
    valid: tuple[int, ...]
    test: tuple[int, ...]

    def by_split(self) -> dict[str, tuple[int, ...]]:
        """Return the histograms by the name of their split."""
        return dict(zip(SPLITS, (self.train, self.valid, self.test), strict=True))


@dataclass(frozen=True, slots=True)
class PromptStatistics:
    """How long the prompts of a dataset are, in tokens of `tokenizer`."""

    tokenizer: str
    windows: tuple[PromptWindow, ...]
    lengths: PromptLengths


def prompt_statistics(sizes: Mapping[str, Sizes], tokenizer: str) -> PromptStatistics:
    """Return how long the prompts of each split are, and how much of them fits into the windows of CLIP and MiniLM."""
    windows = tuple(window_use(sizes, tokens, model) for tokens, model in WINDOWS)
    histograms = (length_histogram(sizes[split]) for split in SPLITS)
    return PromptStatistics(tokenizer, windows, PromptLengths(WIDTH, *histograms))


def window_use(sizes: Mapping[str, Sizes], tokens: int, model: str) -> PromptWindow:
    """Return how many prompts exceed a window, and the mean share of each half that fits.

    Args:
        sizes: split to the sizes of its prompts.
        tokens: the window, which holds two special tokens and both halves, shared by `share_window`.
        model: name of the encoder that has this window.
    """
    room = tokens - SPECIAL
    kept, with_half = [0.0, 0.0], [0, 0]
    for halves, number in (item for counts in sizes.values() for item in counts.items()):
        for half, (n_kept, size) in enumerate(zip(share_window(*halves, room), halves, strict=True)):
            if size:
                kept[half] += number * n_kept / size
                with_half[half] += number
    question, answer = (
        round(share / number, 6) if number else None for share, number in zip(kept, with_half, strict=True)
    )
    by_split = {
        split: sum(number for halves, number in counts.items() if sum(halves) > room) for split, counts in sizes.items()
    }
    prompts = sum(sum(counts.values()) for counts in sizes.values())
    return PromptWindow(tokens, prompts, sum(by_split.values()), question, answer, model, by_split)


def length_histogram(sizes: Sizes) -> tuple[int, ...]:
    """Return how many prompts have 0-15, 16-31, ... tokens, special tokens included; the last of 32 bins is open.

    >>> length_histogram({(4, 9): 1, (5, 9): 2, (9000, 9000): 1})[:2], length_histogram({(9000, 9000): 3})[-1]
    ((1, 2), 3)
    """
    bins: Counter[int] = Counter()
    for halves, number in sizes.items():
        bins[min((sum(halves) + SPECIAL) // WIDTH, BINS - 1)] += number
    return tuple(bins[k] for k in range(BINS))
