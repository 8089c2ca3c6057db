"""From judged photos to the report: figures of both tracks, why they differ, what counts as zero, who agrees."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.gold import Gold
from magic_cli.errors import shorten
from magic_cli.io.files import finite
from magic_cli.metrics.mask_scores import MASK_SCORES, OFFICIAL, TERMS, scores_from_sums
from magic_cli.records import EncounterSums, Rules, TaskScores
from magic_cli.tasks.seg import image_score as kinds
from magic_cli.tasks.seg.image_score import ImageScore, MaskScores, Terms

NUMBER = "number_segmentation_instances"

_SHOWN = ("dice_meanofmax", *MASK_SCORES, NUMBER)

_CAUSES = {
    kinds.BRIGHT: "the official scorer counts {} with values {{0, 255}} as empty",
    kinds.VALUES: "the official scorer casts {} to uint8, where only 1 is foreground",
    kinds.UNREADABLE: "with imagecodecs, the official scorer reads the fax codes of {}",
    kinds.SHAPE: "the official scorer flattens {} of another shape and compares the pixels as they come",
    kinds.GOLD: "the official scorer takes only 1 for foreground in the gold of {{0, 255}} of {}",
    kinds.MORE: "the official scorer knows only ann0 to ann3, strictly all annotators count, in {}",
    kinds.EMPTY: "the official scorer divides 0 by 0 where nothing is predicted and an annotator drew nothing, in {}",
}


def report_of(gold: Gold, rules: Rules, bench: MaskScores) -> TaskScores:
    """Return the complete report of tasks.seg.score."""
    judged, encounters = bench.images, {image: truth.case_id for image, truth in gold.images.items()}
    ids = tuple(dict.fromkeys(encounters.values()))
    place = {encounter: number for number, encounter in enumerate(ids)}
    rows = [place[encounters[image]] for image in judged]

    def sums(terms: Iterable[Terms]) -> NDArray[np.float64]:
        found = np.zeros((len(ids), len(TERMS)))
        np.add.at(found, rows, np.array(list(terms)))
        return found

    encounter_sums = EncounterSums(
        ids, MASK_SCORES, sums(one.strict for one in judged.values()), partial(scores_from_sums, empty=rules.empty)
    )
    strict = _figures(encounter_sums.sums, rules.empty)
    stops = tuple(_stops(judged)) if bench.any_found else ()
    official: dict[str, float] | None = None
    if not bench.any_found:
        official = dict.fromkeys((*MASK_SCORES, NUMBER), 0.0) | {NUMBER: 0}
    elif not stops:
        official = _figures(sums(one.official or one.strict for one in judged.values()), OFFICIAL)
    differences = _differences(judged, strict, sums) if bench.any_found else _unfound(strict, judged)
    return TaskScores(
        "seg",
        strict,
        _rows(judged),
        tuple(_notes(judged, rules, bench.ignored)),
        official=official,
        official_errors=stops,
        differences=() if official == strict else tuple(differences),
        rejected=tuple(_refused(judged)),
        per_item=tuple(_item(image, encounters[image], one) for image, one in judged.items()),
        baselines=_baselines(judged, sums, rules.empty),
        agreement=_agreement(judged, rules.empty),
        encounter_sums=encounter_sums,
    )


def _figures(sums: NDArray[np.float64], empty: str) -> dict[str, float]:
    total = sums.sum(0)
    values = (float(value) for value in scores_from_sums(total, empty))
    return dict(zip(MASK_SCORES, values, strict=True)) | {NUMBER: int(total[TERMS.index("images")])}


def _stops(judged: Mapping[str, ImageScore]) -> Iterable[str]:
    """Yield a line for each exception that the official scorer stops with, and where."""
    for error, images in _groups((one.official_error, image) for image, one in judged.items()):
        text = "KeyError: the official scorer finds no mask" if error == kinds.NOT_FOUND else error
        yield f"{_count(images)} ({shorten(images)}): {text}"


def _groups(pairs: Iterable[tuple[str, str]]) -> Iterable[tuple[str, list[str]]]:
    """Return what belongs to each name that is not "", in order of appearance."""
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        if name:
            found.setdefault(name, []).append(value)
    return found.items()


def _count(images: Sequence[str], what: str = "image") -> str:
    return f"{len(images)} {what}{'' if len(images) == 1 else 's'}"


def _same(one: Terms, other: Terms) -> bool:
    return all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(one, other, strict=True))


def _differences(
    judged: Mapping[str, ImageScore],
    strict: Mapping[str, float],
    sums: Callable[[Iterable[Terms]], NDArray[np.float64]],
) -> Iterable[str]:
    """Yield a line for each reason why the tracks differ: how many images, and what these alone do to a figure."""
    causes = [
        (cause, image)
        for image, one in judged.items()
        if one.official is not None and not _same(one.official, one.strict)
        for cause in one.causes
    ]
    for cause, images in _groups(causes):
        changed = set(images)
        mixed = sums(
            one.official if one.official is not None and image in changed else one.strict
            for image, one in judged.items()
        )
        text = _CAUSES[cause].format(_count(images)) + f" ({shorten(images)})"
        yield text + _effect(_figures(mixed, OFFICIAL), strict)


def _effect(official: Mapping[str, float], strict: Mapping[str, float]) -> str:
    for name in _SHOWN:
        if official[name] != strict[name]:
            digits = 0 if name == NUMBER else 4
            shown = "NaN" if math.isnan(official[name]) else f"{official[name]:.{digits}f}"
            return f": {name} {shown} instead of {strict[name]:.{digits}f}"
    return ""


def _unfound(strict: Mapping[str, float], judged: Mapping[str, ImageScore]) -> Iterable[str]:
    scored = [image for image, one in judged.items() if one.fault != kinds.MISSING]
    why = "finds none of the masks" if scored else "counts no images where there is no mask at all"
    yield f"the official scorer {why}" + _effect(dict.fromkeys((*MASK_SCORES, NUMBER), 0.0), strict)


def _refused(judged: Mapping[str, ImageScore]) -> Iterable[str]:
    """Yield a line for each kind of fault, with the images that count as zero because of it."""
    named = {image: f"{image}: {one.detail}" if one.detail else image for image, one in judged.items()}
    for fault, images in _groups((one.fault, image) for image, one in judged.items()):
        remedy = "; --accept-255 reads them as {0, 1}" if fault == kinds.BRIGHT else ""
        listed = shorten(named[image] for image in images)
        yield f"{len(images)} of {len(judged)} images count as zero: {fault} ({listed}){remedy}"


def _notes(judged: Mapping[str, ImageScore], rules: Rules, ignored: int) -> Iterable[str]:
    empty_pairs = [image for image, one in judged.items() if one.has_empty_pair]
    if empty_pairs:
        rule = {"one": "counts as 1", "zero": "counts as 0"}.get(rules.empty, "is left out")
        yield (
            f"{len(empty_pairs)} of {len(judged)} images have an empty prediction beside an annotator's empty mask "
            f"({shorten(empty_pairs)}): strictly, such a pair {rule} (--empty); officially it is 0/0."
        )
    out = [image for image, one in judged.items() if not one.strict[TERMS.index("images")]]
    if out:
        yield f"{_count(out)} left out, as all annotators' masks and the prediction are empty: {shorten(out)}."
    bright = [image for image, one in judged.items() if kinds.GOLD in one.causes]
    if bright:
        yield f"The gold of {_count(bright)} holds 0 and 255, strictly read as 0 and 1 ({shorten(bright)})."
    if ignored:
        yield f"{ignored} predicted images have no gold and are left out, as the official scorer does."


def _item(image: str, encounter: str, one: ImageScore) -> dict[str, Any]:
    fault = f"{one.fault}: {one.detail}" if one.detail else one.fault
    counted = one.strict[TERMS.index("images")] > 0
    row: dict[str, Any] = {"image": image, "encounter": encounter, "annotators": len(one.annotators), "fault": fault}
    row |= {"pixels": one.pixels, "lesion": one.lesion}
    for name in ("dice_max", "dice_mean", "jaccard_max", "jaccard_mean"):
        row[name] = one.strict[TERMS.index(name.replace("_", "_meanof"))] if counted else None
    for annotator, jaccard, dice in zip(one.annotators, one.pairs[::2], one.pairs[1::2], strict=True):
        row |= finite({f"dice_{annotator}": dice, f"jaccard_{annotator}": jaccard})
    return row


def _annotators(judged: Mapping[str, ImageScore]) -> list[str]:
    return sorted({name for one in judged.values() for name in one.annotators}, key=lambda name: (len(name), name))


def _rows(judged: Mapping[str, ImageScore]) -> tuple[dict[str, Any], ...]:
    rows = []
    for name in _annotators(judged):
        own = [(one.pairs, 2 * one.annotators.index(name)) for one in judged.values() if name in one.annotators]
        pairs = [(row[at], row[at + 1]) for row, at in own if not math.isnan(row[at])]
        jaccard, dice = np.array(pairs).mean(0).tolist() if pairs else (None, None)
        rows.append({"annotator": name, "images": len(pairs), "dice": dice, "jaccard": jaccard})
    return tuple(rows)


def _baselines(
    judged: Mapping[str, ImageScore], sums: Callable[[Iterable[Terms]], NDArray[np.float64]], empty: str
) -> dict[str, dict[str, float]]:
    names = kinds.TRIVIAL[: len(_each(next(iter(judged.values())).baselines))]
    return {
        name: _figures(sums(_each(one.baselines)[k] for one in judged.values()), empty) for k, name in enumerate(names)
    }


def _each(terms: Terms) -> NDArray[np.float64]:
    """Return terms that stand one after the other as (n, 9)."""
    return np.array(terms).reshape(-1, len(TERMS))


def _agreement(judged: Mapping[str, ImageScore], empty: str) -> dict[str, Any] | None:
    """Return how annotators score against the others, and how the system scores against the same others.

    An image's values are means over its annotators left out, one after the other; then means over images. Pooled
    pixels are those of all pairs of image and annotator left out.
    """
    several = [one for one in judged.values() if one.human]
    if not several:
        return None
    rows = []
    for name in _annotators(judged):
        own = [_each(one.human)[one.annotators.index(name)] for one in several if name in one.annotators]
        if own:
            figures = _figures(np.array(own), empty)
            rows.append({"annotator": name, "images": figures[NUMBER]} | {key: figures[key] for key in MASK_SCORES[:4]})
    return {
        "images": len(several),
        "annotators": rows,
        "human": _mean_of((one.human for one in several), empty),
        "system": _mean_of((one.system for one in several), empty),
    }


def _mean_of(images: Iterable[Terms], empty: str) -> dict[str, float]:
    sums = np.zeros(len(TERMS))
    for image in images:
        counted = _each(image)
        counted = counted[counted[:, 4] != 0]
        if len(counted):
            sums += np.concatenate([counted[:, :5].mean(0), counted[:, 5:].sum(0)])
    return dict(zip(MASK_SCORES, scores_from_sums(sums, empty).tolist(), strict=True))
