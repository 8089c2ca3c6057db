"""The histograms of prepared/index.html, and their numbers as tables."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from markupsafe import Markup

from magic_cli.data.imaging.lesion_share import LesionShares
from magic_cli.data.manifest import BINS, Agreement
from magic_cli.data.preparation.overview import Histogram, Overview
from magic_cli.data.prompt_lengths import PromptStatistics
from magic_cli.records import SPLITS
from magic_cli.report import page
from magic_cli.report.plots import Counts, count_bars

_TICKS = 8  # of an axis, at most

_PER_CASE = 12  # photos of a case; cases with more share a bar


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram of all splits together, and its numbers by split: rows (range, numbers), with a heading."""

    svg: Markup
    heading: str
    rows: tuple[tuple[str, tuple[int, ...]], ...]


def agreement_plot(agreement: Agreement | None) -> Markup | None:
    """Return the histogram of agreement, with the median."""
    if agreement is None:
        return None
    median = agreement.median_dice
    counts = Counts(
        agreement.histogram,
        [f"{k / BINS:.2f} to {(k + 1) / BINS:.2f}" for k in range(BINS)],
        [(BINS * k / 4, f"{k / 4:g}") for k in range(5)],
        [(BINS * median, f"median {median:.2f}")],
    )
    return count_bars(
        counts, title="Agreement of annotators", axis="mean Dice over pairs of annotators", things="photos"
    )


def length_plots(prompts: PromptStatistics | None) -> list[Markup]:
    """Return the histogram of the texts of each split that has any, with the windows of encoders."""
    if prompts is None:
        return []
    width, histograms = prompts.lengths.width, prompts.lengths.by_split()
    texts = [text for text, _ in length_rows(prompts)]
    last = len(texts) - 1
    ticks = [(k, f"{k * width}") for k in range(0, last, 128 // width)] + [(last + 0.5, f"{last * width}+")]
    marks = [(window.tokens / width, f"{window.model} {window.tokens}") for window in prompts.windows]
    return [
        count_bars(Counts(histogram, texts, ticks, marks), title=f"Texts of {split}", axis="tokens", things="texts")
        for split, histogram in histograms.items()
        if sum(histogram)
    ]


def length_rows(prompts: PromptStatistics | None) -> list[tuple[str, list[int]]]:
    """Return rows (range of tokens, texts of each split)."""
    if prompts is None:
        return []
    width, histograms = prompts.lengths.width, prompts.lengths.by_split()
    last = len(prompts.lengths.train) - 1
    texts = [
        f"{k * width} to {k * width + width - 1}" if k < last else f"{k * width} and more" for k in range(last + 1)
    ]
    return [(text, [histogram[k] for histogram in histograms.values()]) for k, text in enumerate(texts)]


def size_plots(overview: Overview, lesion: LesionShares | None, cases: str) -> list[Distribution]:
    """Return the histograms of lesions, photos and photos per case, those that have more than one bar.

    Args:
        overview: of the dataset.
        lesion: shares of the train masks; None without any.
        cases: the word for cases, such as "encounters".
    """
    found = []
    if overview.lesions is not None:
        edges = overview.lesions.edges
        names = [f"{100 * edge:g}" for edge in edges]
        median = (
            [] if lesion is None else [(_place(lesion.median, edges), f"median of train {page.share(lesion.median)}")]
        )
        words = "Lesion sizes", "% of the photo that a mask marks (unequal ranges)", "masks"
        found.append(_ranges(words, overview.lesions, names, " %", median))
    if overview.photos is not None:
        sides = overview.photos.shorter_sides
        names = [f"{edge:g}" for edge in sides.edges]
        marks = [(_place(overview.photos.median, sides.edges), f"median {overview.photos.median:g}")]
        words = "Photo sizes", "pixels of the shorter side", "photos"
        found.append(_ranges(words, sides, names, " pixels", marks))
        found.append(_per_case(overview, cases))
    return [plot for plot in found if sum(any(numbers) for _, numbers in plot.rows) > 1]


def number_plots(overview: Overview, attributes: Sequence[tuple[str, ...]]) -> list[Distribution]:
    """Return the histogram of each attribute whose values are numbers; `attributes` are the names of each."""
    found = []
    for names in attributes:
        numbers = overview.attributes[names[0]].numbers
        if numbers is not None:
            texts = [f"{edge:g}" for edge in numbers.edges]
            found.append(_ranges((", ".join(names), names[0], "cases"), numbers, texts))
    return found


def _ranges(
    words: tuple[str, str, str],
    histogram: Histogram,
    names: Sequence[str],
    unit: str = "",
    marks: Sequence[tuple[float, str]] = (),
) -> Distribution:
    """Return the histogram of values between edges that are called `names`; words: title, axis, what is counted."""
    title, axis, things = words
    last = len(names) - 1
    texts = [f"{low} to {high}{unit}" for low, high in pairwise(names)]
    every = 1 if unit == " %" else math.ceil(len(names) / _TICKS)
    ticks = [(k, names[k]) for k in range(0, last + 1, every)]
    svg = count_bars(Counts(histogram.total, texts, ticks, marks), title=title, axis=axis, things=things)
    rows = tuple((text, tuple(histogram.counts[split][k] for split in SPLITS)) for k, text in enumerate(texts))
    return Distribution(svg, f"{title}: {things}", rows)


def _per_case(overview: Overview, cases: str) -> Distribution:
    sizes = {int(size): row for size, row in overview.photos_per_case.items()}
    most = min(max(sizes), _PER_CASE)
    together = [[0] * len(SPLITS) for _ in range(most + 1)]
    for size, row in sizes.items():
        for k, split in enumerate(SPLITS):
            together[min(size, most)][k] += row[split]
    names = [f"{size}" for size in range(most + 1)]
    names[-1] += " or more" if max(sizes) > most else ""
    first = 0 if sum(together[0]) else min(1, most)
    shown = [f"{name} {'photo' if name == '1' else 'photos'}" for name in names[first:]]
    ticks = [(k + 0.5, name.replace(" or more", "+")) for k, name in enumerate(names[first:])]
    counts = Counts([sum(row) for row in together[first:]], shown, ticks)
    title = f"Photos per {cases.removesuffix('s')}"
    svg = count_bars(counts, title=title, axis="photos", things=cases)
    return Distribution(svg, f"{title}: {cases}", tuple(zip(shown, map(tuple, together[first:]), strict=True)))


def _place(value: float, edges: Sequence[float]) -> float:
    """Return where a value lies, counted in ranges from 0."""
    return float(np.interp(value, edges, range(len(edges))))
