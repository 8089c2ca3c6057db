"""From scored photos to TaskScores: both tracks, why they differ, rejected masks, agreement of annotators."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.gold import MaskGold
from magic_cli.data.imaging.appearance import appearance_lines
from magic_cli.data.imaging.lesion_share import implausible
from magic_cli.data.issues import by_kind
from magic_cli.errors import shorten
from magic_cli.io.json_files import finite
from magic_cli.metrics.mask_scores import MASK_SCORES, OFFICIAL, TERMS, scores_from_sums
from magic_cli.records import EncounterSums, Rules, TaskScores
from magic_cli.submission.expected import respelled_note
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


Scores = Mapping[str, float]

Images = Mapping[str, ImageScore]


@dataclass(frozen=True)
class _ByEncounter:
    """Sums the terms of photos per encounter: `encounters` are the ids, `rows` the index of each photo's encounter."""

    encounters: tuple[str, ...]
    rows: Sequence[int]

    def sums(self, terms: Iterable[Terms]) -> NDArray[np.float64]:
        """Return (encounters, terms) sums over the photos, whose terms come in order."""
        sums = np.zeros((len(self.encounters), len(TERMS)))
        np.add.at(sums, self.rows, np.array(list(terms)))
        return sums

    def scores(self, terms: Iterable[Terms], empty: str) -> dict[str, float]:
        """Return the scores of all photos together."""
        return _scores(self.sums(terms), empty)


def report_of(gold: MaskGold, rules: Rules, scored: MaskScores) -> TaskScores:
    """Return the scores of all photos on both tracks, and their explanation; see `tasks.seg.score`."""
    images = scored.images
    cases = {image: masks.case_id for image, masks in gold.images.items()}
    encounters = tuple(dict.fromkeys(cases.values()))
    number = {encounter: row for row, encounter in enumerate(encounters)}
    photos = _ByEncounter(encounters, [number[cases[image]] for image in images])
    sums = photos.sums(score.strict for score in images.values())
    strict = _scores(sums, rules.empty)
    official: Scores | None = None
    official_errors: tuple[str, ...] = ()
    if not scored.any_found:
        official = dict.fromkeys((*MASK_SCORES, NUMBER), 0.0) | {NUMBER: 0}
        differences = [_nothing_found(strict, images)]
    else:
        official_errors = tuple(_official_errors(images))
        if not official_errors:
            official = photos.scores((score.official or score.strict for score in images.values()), OFFICIAL)
        differences = list(_differences(images, strict, photos))
    return TaskScores(
        "seg",
        strict,
        summary_rows=_annotator_rows(images),
        notes=(*gold.notes, *_notes(images, rules, scored.ignored)),
        official=official,
        official_errors=official_errors,
        differences=() if official == strict else tuple(differences),
        rejected=tuple(_rejected(images)),
        per_item=tuple(_item(image, cases[image], score) for image, score in images.items()),
        baselines=_baselines(images, photos, rules.empty),
        agreement=_agreement(images, rules.empty),
        agreement_sums=_agreement_sums(images, photos, rules.empty),
        encounter_sums=EncounterSums(encounters, MASK_SCORES, sums, partial(scores_from_sums, empty=rules.empty)),
    )


def _scores(sums: NDArray[np.float64], empty: str) -> dict[str, float]:
    total = sums.sum(0)
    values = (float(value) for value in scores_from_sums(total, empty))
    return dict(zip(MASK_SCORES, values, strict=True)) | {NUMBER: int(total[TERMS.index("images")])}


def _official_errors(images: Images) -> Iterable[str]:
    """Yield one line per exception that the official scorer crashes with, with the images."""
    for error, names in _groups((score.official_error, image) for image, score in images.items()):
        text = "KeyError: the official scorer finds no mask" if error == kinds.NOT_FOUND else error
        yield f"{_count(names)} ({shorten(names)}): {text}"


def _groups(pairs: Iterable[tuple[str, str]]) -> Iterable[tuple[str, list[str]]]:
    """Return the values of each key except "", in order of appearance."""
    groups: dict[str, list[str]] = {}
    for key, value in pairs:
        if key:
            groups.setdefault(key, []).append(value)
    return groups.items()


def _count(images: Sequence[str]) -> str:
    return f"{len(images)} image{'' if len(images) == 1 else 's'}"


def _same(left: Terms, right: Terms) -> bool:
    return all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(left, right, strict=True))


def _differences(images: Images, strict: Scores, photos: _ByEncounter) -> Iterable[str]:
    """Yield one line per reason why the tracks differ: the number of images, and the effect on a score."""
    causes = [
        (cause, image)
        for image, score in images.items()
        if score.official is not None and not _same(score.official, score.strict)
        for cause in score.causes
    ]
    for cause, names in _groups(causes):
        changed = set(names)
        mixed = (
            score.official if score.official is not None and image in changed else score.strict
            for image, score in images.items()
        )
        text = _CAUSES[cause].format(_count(names)) + f" ({shorten(names)})"
        yield text + _effect(photos.scores(mixed, OFFICIAL), strict)


def _effect(official: Scores, strict: Scores) -> str:
    """Return the first score that differs, with both values; "" if none does."""
    for name in _SHOWN:
        if official[name] != strict[name]:
            digits = 0 if name == NUMBER else 4
            shown = "NaN" if math.isnan(official[name]) else f"{official[name]:.{digits}f}"
            return f": {name} {shown} instead of {strict[name]:.{digits}f}"
    return ""


def _nothing_found(strict: Scores, images: Images) -> str:
    any_submitted = any(score.fault != kinds.MISSING for score in images.values())
    why = "finds none of the masks" if any_submitted else "counts no images where there is no mask at all"
    return f"the official scorer {why}" + _effect(dict.fromkeys((*MASK_SCORES, NUMBER), 0.0), strict)


def _rejected(images: Images) -> Iterable[str]:
    """Yield one line per kind of fault, with the images that count as zero because of it."""
    for fault, names in _groups((score.fault, image) for image, score in images.items()):
        remedy = "; --accept-255 reads them as {0, 1}" if fault == kinds.BRIGHT else ""
        named = (_named(image, images[image].detail, len(names) == 1) for image in names)
        listed = shorten(by_kind(named))
        yield f"{len(names)} of {len(images)} images count as zero: {fault} ({listed}){remedy}"


def _named(image: str, detail: str, is_alone: bool) -> str:
    """Return an image and what is wrong with it; the path of the file is left out where others are listed too."""
    message = detail if is_alone else re.sub(r"^.*?: (?=got )", "", detail)
    return f"{image}: {message}" if message else image


def _notes(images: Images, rules: Rules, ignored: Sequence[str]) -> Iterable[str]:
    empty_pairs = [image for image, score in images.items() if score.has_empty_pair]
    if empty_pairs:
        rule = {"one": "counts as 1", "zero": "counts as 0"}.get(rules.empty, "is left out")
        yield (
            f"{len(empty_pairs)} of {len(images)} images have an empty prediction beside an annotator's empty mask "
            f"({shorten(empty_pairs)}): strictly, such a pair {rule} (--empty); officially it is 0/0."
        )
    skipped = [image for image, score in images.items() if not _is_counted(score)]
    if skipped:
        yield f"{_count(skipped)} left out, as all annotators' masks and the prediction are empty: {shorten(skipped)}."
    bright = [image for image, score in images.items() if kinds.GOLD in score.causes]
    if bright:
        yield f"The gold of {_count(bright)} holds 0 and 255, strictly read as 0 and 1 ({shorten(bright)})."
    yield from _looks(images)
    if ignored:
        yield f"{len(ignored)} predicted images have no gold and are left out, as the official scorer does."
        hint = respelled_note(ignored, images, "images")
        yield from [f"{hint}."] if hint else []


def _looks(images: Images) -> Iterable[str]:
    """Yield what is odd about the masks as people see them: tags, and how much of the photos is lesion."""
    predicted = ((image, score.appearance) for image, score in images.items())
    yield from (f"{line}." for line in appearance_lines(predicted, "predicted"))
    gold = (
        (f"{image}_mask_{annotator}", appearance)
        for image, score in images.items()
        for annotator, appearance in score.gold_appearances.items()
    )
    yield from (f"{line}." for line in appearance_lines(gold, "gold"))
    shares = {image: score.predicted_lesion for image, score in images.items() if score.predicted_lesion is not None}
    found = implausible(shares)
    if found:
        yield f"The predicted masks have {found}; are they inverted (write 1 - mask), or of other photos?"


def _is_counted(score: ImageScore) -> bool:
    return score.strict[TERMS.index("images")] > 0


def _item(image: str, encounter: str, score: ImageScore) -> dict[str, Any]:
    fault = f"{score.fault}: {score.detail}" if score.detail else score.fault
    row: dict[str, Any] = {"image": image, "encounter": encounter, "annotators": len(score.annotators), "fault": fault}
    predicted = None if score.predicted_lesion is None else score.predicted_lesion.share
    row |= {"pixels": score.pixels, "lesion": score.lesion, "predicted": predicted}
    for name in ("dice_max", "dice_mean", "jaccard_max", "jaccard_mean"):
        row[name] = score.strict[TERMS.index(name.replace("_", "_meanof"))] if _is_counted(score) else None
    for annotator, jaccard, dice in zip(score.annotators, score.pairs[::2], score.pairs[1::2], strict=True):
        row |= finite({f"dice_{annotator}": dice, f"jaccard_{annotator}": jaccard})
    return row


def _annotators(images: Images) -> list[str]:
    names = {name for score in images.values() for name in score.annotators}
    return sorted(names, key=lambda name: (len(name), name))


def _annotator_rows(images: Images) -> tuple[dict[str, Any], ...]:
    """Return a row per annotator: number of images scored against them, and the system's mean scores."""
    rows = []
    for name in _annotators(images):
        own = [(score.pairs, 2 * score.annotators.index(name)) for score in images.values() if name in score.annotators]
        pairs = [(row[first], row[first + 1]) for row, first in own if not math.isnan(row[first])]
        jaccard, dice = np.array(pairs).mean(0).tolist() if pairs else (None, None)
        rows.append({"annotator": name, "images": len(pairs), "dice": dice, "jaccard": jaccard})
    return tuple(rows)


def _baselines(images: Images, photos: _ByEncounter, empty: str) -> dict[str, dict[str, float]]:
    names = kinds.TRIVIAL[: len(_unflatten(next(iter(images.values())).baselines))]
    return {
        name: photos.scores((_unflatten(score.baselines)[k] for score in images.values()), empty)
        for k, name in enumerate(names)
    }


def _unflatten(terms: Terms) -> NDArray[np.float64]:
    """Return flat terms as (n, 9)."""
    return np.array(terms).reshape(-1, len(TERMS))


def _agreement(images: Images, empty: str) -> dict[str, Any] | None:
    """Return how annotators score against the others, and how the system scores against the same others.

    Each annotator of an image is left out in turn; values are means over these, then over images. Pooled scores sum
    the pixels of all pairs of an image and an annotator left out.
    """
    several = [score for score in images.values() if score.human]
    if not several:
        return None
    rows = []
    for name in _annotators(images):
        own = [_unflatten(score.human)[score.annotators.index(name)] for score in several if name in score.annotators]
        if own:
            scores = _scores(np.array(own), empty)
            rows.append({"annotator": name, "images": scores[NUMBER]} | {key: scores[key] for key in MASK_SCORES[:4]})
    return {
        "images": len(several),
        "annotators": rows,
        "human": _mean_of((score.human for score in several), empty),
        "system": _mean_of((score.system for score in several), empty),
    }


def _agreement_sums(images: Images, photos: _ByEncounter, empty: str) -> tuple[EncounterSums, EncounterSums] | None:
    """Return what `_agreement` sums, by encounter: of the system, and of the annotators, to resample."""
    rows = [row for row, score in zip(photos.rows, images.values(), strict=True) if score.human]
    if not rows:
        return None
    several = sorted(set(rows))
    ids = tuple(photos.encounters[row] for row in several)
    scores = partial(scores_from_sums, empty=empty)
    system, human = (
        photos.sums(_mean_terms(terms) for terms in each)[several]
        for each in ((score.system for score in images.values()), (score.human for score in images.values()))
    )
    return EncounterSums(ids, MASK_SCORES, system, scores), EncounterSums(ids, MASK_SCORES, human, scores)


def _mean_of(images: Iterable[Terms], empty: str) -> dict[str, float]:
    sums = np.sum([_mean_terms(image) for image in images], 0)
    return dict(zip(MASK_SCORES, scores_from_sums(sums, empty).tolist(), strict=True))


def _mean_terms(image: Terms) -> Terms:
    """Return the terms of a photo, means over the annotators left out, and sums of pixels; zeros if none counts."""
    counted = _unflatten(image)
    counted = counted[counted[:, 4] != 0]
    if not len(counted):
        return [0.0] * len(TERMS)
    return [*counted[:, :5].mean(0).tolist(), *counted[:, 5:].sum(0).tolist()]
