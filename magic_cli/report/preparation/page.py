"""prepared/index.html: a page that shows what was read, what was lost, and where annotators disagree.

It holds ids, numbers and pictures, but no patient's text, and loads nothing.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from PIL import Image

from magic_cli.data.imaging.masks import read_mask
from magic_cli.data.manifest import BINS, Agreement, Inputs, LabelCounts, PrepareManifest, PrepareSettings
from magic_cli.data.prompt_lengths import PromptStatistics
from magic_cli.errors import DataError
from magic_cli.records import SPLITS, ImageRecord
from magic_cli.report import overlays, page
from magic_cli.report.preparation.duplicate_pictures import draw_duplicates, duplicates_to_show
from magic_cli.report.preparation.text import case_word, left_out_texts, lesion_texts, row_labels, source_text

LOWEST, SPREAD = 24, 24  # pictures of at most 30 kB: the page stays below 2 MB, and takes seconds at most

_LESS = 8  # pictures that make room for those of duplicates

_LABELS = 40  # labels that the page lists

_SIDE = 360

_FRAME = (40.0, 374.0, 26.0, 196.0)  # left, right, top and bottom of a plot's area, in a view of 382 x 238

_SHOWN, _MOST = 10, 1_000  # problems that are visible at first, and the most that the page holds

_MERGES = {
    "or": "or: foreground where any annotator says so",
    "majority": "majority: foreground where at least half of the annotators say so",
    "intersection": "intersection: foreground where all annotators say so",
    "each": "not at all: each annotator's mask stays on its own",
}

_PROMPTS = {
    "qa": "qa: the query, then the clinicians' responses",
    "query": "query: the query alone",
    "answer": "answer: the clinicians' responses alone",
    "fixed": "fixed: the same words for every photo",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A photo with its annotators' contours: a data URI, its (width, height), and the facts in the caption."""

    image_id: str
    split: str
    annotators: int
    dice: float | None
    lesion: float
    source: str
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Plot:
    """Bars over [0, span): `bars` (x, y, width, height, text), ticks (place, text), marks (x, text), view units."""

    title: str
    label: str
    axis: str
    things: str
    bars: tuple[tuple[float, float, float, float, str], ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    marks: tuple[tuple[float, str], ...]
    frame: tuple[float, float, float, float] = _FRAME


def html(
    manifest: PrepareManifest,
    images: Sequence[ImageRecord],
    dices: Mapping[str, float],
    mean: Image.Image | None,
    duplicates: Mapping[str, ImageRecord] = MappingProxyType({}),
) -> str:
    """Return the page of a prepared dataset.

    Args:
        manifest: prepare.json.
        images: the photos, in file order; those shown are read again, with their annotators' masks.
        dices: agreement of the photos with two or more annotators: mean Dice over pairs.
        mean: the training mean mask, 8-bit grey; None without any.
        duplicates: the photos of `duplicates_to_show` by id.
    """
    clusters = draw_duplicates(manifest, duplicates)
    lowest, spread = choose(images, dices, SPREAD - _LESS if clusters else SPREAD)
    pictures = list(_draw([*lowest, *spread], dices))
    names = {image.image_id for image in lowest}
    return page.render(
        "prepare.html.jinja",
        manifest=manifest,
        splits=SPLITS,
        shown=_SHOWN,
        most=_MOST,
        merges=_MERGES,
        prompts=_PROMPTS,
        sections=_sections(manifest),
        facts=_facts(manifest),
        counts=_counts(manifest),
        annotators=sorted({int(n) for row in manifest.counts.values() for n in row.annotators}),
        lost=left_out_texts(manifest),
        source=source_text(manifest),
        case_word=case_word(manifest, _facts(manifest)["cases"]),
        lines=[overlays.line_of(k) for k in range(max((p.annotators for p in pictures), default=0))],
        agreement_plot=_agreement_plot(manifest.agreement),
        length_plots=_length_plots(manifest.prompts),
        length_rows=_length_rows(manifest.prompts),
        lowest=[picture for picture in pictures if picture.image_id in names],
        spread=[picture for picture in pictures if picture.image_id not in names],
        others=sum(bool(image.annotators) for image in images) - len(lowest),
        clusters=clusters,
        label_rows=_label_rows(manifest.labels),
        splits_by=_splits_by(manifest.settings),
        mean=_mean(mean),
        inputs=_inputs(manifest.inputs),
        lesion=lesion_texts(manifest),
    )


def choose(
    images: Sequence[ImageRecord], dices: Mapping[str, float], most: int = SPREAD
) -> tuple[list[ImageRecord], list[ImageRecord]]:
    """Return the photos to show: up to 24 with the lowest agreement, lowest first, and up to `most` others with masks.

    The others are evenly spaced and in file order.
    """
    marked = [image for image in images if image.annotators]
    ranked = sorted(
        (image for image in marked if image.image_id in dices), key=lambda i: (dices[i.image_id], i.image_id)
    )
    lowest = ranked[:LOWEST]
    names = {image.image_id for image in lowest}
    rest = [image for image in marked if image.image_id not in names]
    number = min(most, len(rest))
    return lowest, [rest[(2 * k + 1) * len(rest) // (2 * number)] for k in range(number)]


def _draw(images: Sequence[ImageRecord], dices: Mapping[str, float]) -> Iterator[Picture]:
    """Yield the pictures in order; if a photo or mask has vanished meanwhile, its picture is skipped."""
    pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
    try:
        for picture in pool.map(lambda image: _picture(image, dices.get(image.image_id)), images):
            if picture is not None:
                yield picture
    finally:
        pool.shutdown(cancel_futures=True)


def _picture(image: ImageRecord, dice: float | None) -> Picture | None:
    try:
        masks = [read_mask(path) for path in image.annotators.values()]
        drawn = overlays.overlay(image.path, masks, None, _SIDE, image.upright)
    except DataError:
        return None
    lesion = float(np.mean([np.count_nonzero(mask) / mask.size for mask in masks]))
    source = page.data_uri(drawn, _SIDE)
    return Picture(image.image_id, image.split, len(masks), dice, lesion, source, drawn.size)


def _sections(manifest: PrepareManifest) -> list[tuple[str, str]]:
    sections = [("counts", "Counts"), ("problems", "Problems and notes")]
    sections += [("duplicates", "Duplicates")] if duplicates_to_show(manifest) else []
    sections += [("annotators", "Annotators")] if _facts(manifest)["masks"] else []
    sections += [("prompts", "Prompt lengths")] if manifest.prompts else []
    return [*sections, ("inputs", "Inputs")]


def _splits_by(settings: PrepareSettings) -> str:
    """Return where the splits are from, for people."""
    if settings.split_rule == "official":
        return "those of the source"
    whole = settings.split_by or "groups of the source (patient, else lesion, else photo)"
    shares = f"valid {page.share(settings.valid)}"
    if settings.split_rule == "dealt":
        shares += f" and test {page.share(settings.test)}"
    else:
        shares += " of the source's train"
    return f"dealt by magic: {shares}; never divided: {whole}; labels spread evenly, seed {settings.seed}"


def _label_rows(labels: LabelCounts | None) -> list[tuple[str, list[tuple[int, float | None]]]]:
    """Return rows (label, for each split the number of cases and their share of its labelled cases)."""
    if labels is None:
        return []
    totals = [sum(row[split] for row in labels.counts.values()) for split in SPLITS]
    return [
        (
            label,
            [(row[split], row[split] / total if total else None) for split, total in zip(SPLITS, totals, strict=True)],
        )
        for label, row in list(labels.counts.items())[:_LABELS]
    ]


def _facts(manifest: PrepareManifest) -> dict[str, int]:
    """Return the numbers of all splits together."""
    counts = [manifest.counts[split] for split in SPLITS]
    return {
        "photos": sum(split.images for split in counts),
        "listed": sum(split.listed for split in counts),
        "cases": sum(split.cases for split in counts),
        "masks": sum(split.masks for split in counts),
    }


def _inputs(inputs: Inputs) -> list[tuple[str, str]]:
    pictures = {"photos": inputs.photos, "masks": inputs.masks}
    together = [(f"{digest.count:,} {kind}", digest.sha256) for kind, digest in pictures.items()]
    return [*inputs.files.items(), *together]


def _counts(manifest: PrepareManifest) -> list[tuple[str, list[tuple[int, int | None]]]]:
    """Return rows (label, for each split the counted number and the published one)."""
    published = manifest.published.counts if manifest.published else {}
    return [
        (label, [(manifest.counts[split].number(key), published.get(split, {}).get(key)) for split in SPLITS])
        for key, label in row_labels(manifest)
    ]


def _mean(mean: Image.Image | None) -> tuple[str, float] | None:
    """Return the mean mask as a picture, scaled so that its highest share is white, and that share."""
    if mean is None:
        return None
    levels = np.asarray(mean, np.float64)
    top = max(float(levels.max()), 1.0)
    stretched = Image.fromarray(np.rint(255 * levels / top).astype(np.uint8))
    return page.data_uri(stretched.resize((256, 256), Image.Resampling.BICUBIC)), float(levels.max()) / 255


def _agreement_plot(agreement: Agreement | None) -> Plot | None:
    if agreement is None:
        return None
    texts = [f"{k / BINS:.2f} to {(k + 1) / BINS:.2f}" for k in range(BINS)]
    median = agreement.median_dice
    ticks = [(k / 4, f"{k / 4:g}") for k in range(5)]
    return _plot(
        ("Agreement of annotators", "mean Dice over pairs of annotators", "photos"),
        (agreement.histogram, texts),
        1.0,
        ticks,
        [(median, f"median {median:.2f}")],
    )


def _length_plots(prompts: PromptStatistics | None) -> list[Plot]:
    if prompts is None:
        return []
    lengths, histograms = prompts.lengths, prompts.lengths.by_split()
    texts = [text for text, _ in _length_rows(prompts)]
    marks = [(window.tokens, f"{window.model} {window.tokens}") for window in prompts.windows]
    span = lengths.width * len(texts)
    ticks: list[tuple[float, str]] = [(value, str(value)) for value in range(0, span - lengths.width, 128)]
    ticks.append((span - lengths.width / 2, f"{span - lengths.width}+"))
    return [
        _plot((f"Prompts of {split}", "tokens", "prompts"), (histogram, texts), span, ticks, marks)
        for split, histogram in histograms.items()
        if sum(histogram)
    ]


def _length_rows(prompts: PromptStatistics | None) -> list[tuple[str, list[int]]]:
    """Return rows (range of tokens, prompts of each split)."""
    if prompts is None:
        return []
    width, histograms = prompts.lengths.width, prompts.lengths.by_split()
    last = len(prompts.lengths.train) - 1
    texts = [
        f"{k * width} to {k * width + width - 1}" if k < last else f"{k * width} and more" for k in range(last + 1)
    ]
    return [(text, [histogram[k] for histogram in histograms.values()]) for k, text in enumerate(texts)]


def _plot(
    words: tuple[str, str, str],
    counts: tuple[Sequence[int], Sequence[str]],
    span: float,
    ticks: Sequence[tuple[float, str]],
    marks: Sequence[tuple[float, str]],
) -> Plot:
    """Place bars of equal width on the view; `words` are title, axis and what is counted."""
    title, axis, things = words
    numbers, texts = counts
    left, right, top, bottom = _FRAME
    steps = _steps(max(numbers))
    width, high = (right - left) / len(numbers), max(max(numbers) * 1.12, steps[-1])

    def x(value: float) -> float:
        return round(left + (right - left) * value / span, 2)

    def y(value: float) -> float:
        return round(bottom - (bottom - top) * value / high, 2)

    bars = tuple(
        (
            round(left + k * width + 0.5, 2),
            y(n),
            round(width - 1, 2),
            round(bottom - y(n), 2),
            f"{text}: {n:,} {things}",
        )
        for k, (n, text) in enumerate(zip(numbers, texts, strict=True))
        if n
    )
    marked = ", ".join(text for _, text in marks)
    return Plot(
        title,
        f"{title}: histogram of {sum(numbers):,} {things} over {axis}; marked: {marked}.",
        axis,
        things,
        bars,
        tuple((x(value), text) for value, text in ticks),
        tuple((y(value), f"{value:,}") for value in steps),
        tuple((x(value), text) for value, text in marks),
    )


def _steps(most: int) -> list[int]:
    """Return up to six round numbers from 0 to at least nine tenths of `most`, for an axis of counts.

    >>> _steps(51), _steps(3), _steps(1)
    ([0, 10, 20, 30, 40, 50], [0, 1, 2, 3], [0, 1])
    """
    step = next(s for power in range(20) for f in (1, 2, 5) if (s := f * 10**power) * 5 >= most)
    return list(range(0, max(most, step) + 1, step))
