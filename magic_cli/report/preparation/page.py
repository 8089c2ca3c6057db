"""prepared/index.html: a page that shows what was read, what was lost, and where annotators disagree.

It holds ids, numbers, words of the source's classes and pictures, but no patient's text, and loads nothing.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from PIL import Image

from magic_cli.data.imaging.masks import read_mask
from magic_cli.data.manifest import Inputs, LabelCounts, PrepareManifest, PrepareSettings
from magic_cli.data.preparation.overview import Overview
from magic_cli.data.prompts import LADDER
from magic_cli.errors import DataError
from magic_cli.records import SPLITS, ImageRecord
from magic_cli.report import overlays, page
from magic_cli.report.preparation.balance import answers_of, attributes_of
from magic_cli.report.preparation.duplicate_pictures import draw_duplicates
from magic_cli.report.preparation.histograms import agreement_plot, length_plots, length_rows, number_plots, size_plots
from magic_cli.report.preparation.text import (
    case_word,
    left_out_texts,
    lesion_texts,
    published_text,
    row_labels,
    source_text,
    words_in,
)

LOWEST, SPREAD = 24, 24  # pictures of at most 30 kB: the page stays below 2 MB, and takes seconds at most

_LESS = 8  # pictures that make room for those of duplicates

_LABELS = 40  # labels that the page lists

_SIDE = 360

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
    "p0": "p0: none",
    **{step: f"{step}: from gold answers and classes, for seg alone" for step in LADDER[1:]},
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
        agreement_plot=agreement_plot(manifest.agreement),
        length_plots=length_plots(manifest.prompts),
        length_rows=length_rows(manifest.prompts),
        words_in=words_in,
        published=published_text(manifest),
        **_overview(manifest),
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


def _overview(manifest: PrepareManifest) -> dict[str, object]:
    """Return what the page tells of answers, attributes and sizes; nothing of a dataset of an earlier version."""
    overview = manifest.overview or Overview()
    attributes = attributes_of(overview, manifest.labels)
    train = manifest.lesion.get("train")
    return {
        "answers": answers_of(overview),
        "attributes": attributes,
        "number_plots": number_plots(overview, attributes.numbers),
        "size_plots": size_plots(overview, train, case_word(manifest, 2)),
        "sizes": overview.photos,
        "per_case": next(iter(overview.photos_per_case)) if len(overview.photos_per_case) == 1 else "",
        "case_word_one": case_word(manifest, 1),
    }


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
    overview, facts = manifest.overview or Overview(), _facts(manifest)
    sections = [
        ("counts", "Counts", True),
        ("problems", "Problems and notes", True),
        ("answers", "Closed questions", bool(overview.answers)),
        ("classes", "Classes and attributes", bool(manifest.labels or overview.attributes)),
        ("sizes", "Sizes", overview.photos is not None),
        ("duplicates", "Duplicates", manifest.duplicates is not None and facts["photos"] > 0),
        ("annotators", "Annotators", facts["masks"] > 0),
        ("prompts", "Text lengths", manifest.prompts is not None),
        ("inputs", "Inputs", True),
    ]
    return [(name, title) for name, title, is_there in sections if is_there]


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
