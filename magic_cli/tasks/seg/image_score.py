"""One photo scored on both tracks: as the official scorer would score the file, and strictly.

The official track follows examples/official-scorer.md, cases 30 to 64. It costs nothing extra for a regular mask; only
a mask with other values, or of another shape, is counted a second time.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from sys import intern
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.gold import OFFICIAL, GoldImage
from magic_cli.data.masks import decode_mask, map_stored
from magic_cli.errors import DataError, problem
from magic_cli.metrics.mask_scores import OFFICIAL as OFFICIAL_RULE
from magic_cli.metrics.mask_scores import column_terms, image_terms, jaccard_and_dice
from magic_cli.metrics.overlap import (
    MOST_MASKS,
    Bits,
    Cells,
    Counts,
    Overlap,
    count_cells,
    majority,
    memberships,
    overlap_of,
    pack,
)
from magic_cli.records import Rules
from magic_cli.submission.reader import SubmittedMask

NOT_FOUND = "not found"

MISSING, UNREADABLE, SHAPE = "no prediction", "unreadable", "another shape"

VALUES, BRIGHT = "other values", "values {0, 255}"

TRIVIAL = ("empty", "full", "training mean mask")

GOLD, MORE, EMPTY = "gold of {0, 255}", "more annotators", "empty"

_MOST = MOST_MASKS - 3

Shape = tuple[int, ...]

Terms = Sequence[float]


@dataclass(frozen=True, slots=True)
class GoldMasks:
    """The gold of one photo in memory.

    shape: (H, W).
    planes: annotator to packed mask.
    bright: the annotators whose masks hold {0, 255}.
    """

    shape: Shape
    planes: Mapping[str, Bits]
    bright: frozenset[str]


@dataclass(frozen=True, slots=True)
class PredictedMask:
    """One predicted mask in memory, decoded for both tracks.

    strict: the packed mask; None for one that counts as zero.
    official: what the official scorer sees; None where it stops.
    fault, detail: why the mask counts as zero: the kind of fault, and the particulars of this one; "" and "" if it
        does not.
    official_error: the exception that the official scorer stops with, "" for none.
    causes: kinds of reasons why the tracks may differ.
    """

    strict: Bits | None = None
    official: Bits | None = None
    fault: str = ""
    detail: str = ""
    official_error: str = ""
    causes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageScore:
    """What is kept of one photo: a few numbers. Terms are those of metrics/mask_scores.py.

    Where there are several of a kind, the numbers are stored one after the other in one flat sequence, as a row of
    arrays takes three times the memory.

    fault, detail, official_error, causes: as in PredictedMask.
    strict: the strict terms.
    official: the official terms; None where the official scorer stops.
    annotators: their names.
    pairs: Jaccard and Dice against each annotator.
    pixels: of the photo.
    lesion: mean share of the photo that annotators have as foreground, in [0, 1].
    has_empty_pair: whether the predicted mask and an annotator's are both empty: 0/0.
    baselines: terms of the TRIVIAL masks (without a training mean mask, of the first two).
    human, system: for each annotator left out, the terms of that annotator, and of the system, against the others.
    """

    fault: str
    detail: str
    official_error: str
    causes: tuple[str, ...]
    strict: Terms
    official: Terms | None
    annotators: tuple[str, ...]
    pairs: Terms
    pixels: int
    lesion: float
    has_empty_pair: bool
    baselines: Terms
    human: Terms
    system: Terms


@dataclass(frozen=True, slots=True)
class MaskScores:
    """All photos of a gold, scored, in the gold's order.

    images: image id to its score.
    any_found: whether the official scorer finds any mask at all.
    ignored: number of predictions without gold.
    """

    images: Mapping[str, ImageScore]
    any_found: bool
    ignored: int


def read_gold(gold: GoldImage) -> GoldMasks:
    """Read the annotators' masks of one photo.

    Raises:
        DataError: files that are no masks, or of different sizes; all of this photo's at once.
    """
    shape: Shape = ()
    planes: dict[str, Bits] = {}
    bright: list[str] = []
    lines: list[str] = []
    if len(gold.annotators) > _MOST:
        where = next(iter(gold.annotators.values()))
        raise DataError(problem(where, f"{len(gold.annotators)} annotators", f"at most {_MOST}", "leave some out"))
    for name, path in gold.annotators.items():
        try:
            size, packed, kind = _gold_mask(map_stored(path, path)[0], path)
        except DataError as error:
            lines += error.problems
            continue
        shape = shape or size
        if size != shape:
            lines.append(problem(path, f"shape {size}", f"{shape} as its siblings", "fix the gold mask"))
        planes[name] = packed
        bright += [name] if kind == "0/255" else []
    if lines:
        raise DataError(lines)
    return GoldMasks(shape, planes, frozenset(bright))


def _gold_mask(raw: NDArray[Any], where: str) -> tuple[Shape, Bits, str]:
    packed = pack(raw) if raw.ndim == 2 and raw.size else None
    if packed is not None:
        return raw.shape, packed, "0/1"
    mask, kind = decode_mask(raw, where)
    return mask.shape, _packed(mask), kind


def _packed(mask: NDArray[Any]) -> Bits:
    packed = pack(mask)
    assert packed is not None  # noqa: S101  decode_mask gives uint8 {0, 1}
    return packed


def read_predicted(submitted: SubmittedMask | None, shape: Shape, rules: Rules) -> PredictedMask:
    """Decode one predicted mask twice: strictly, and as the official scorer would.

    Args:
        submitted: None for a photo that has no prediction.
        shape: the gold's (H, W).
        rules: whether {0, 255} is accepted.
    """
    if submitted is None:
        return PredictedMask(fault=MISSING, official_error=NOT_FOUND)
    predicted = _strict(submitted, shape, rules)
    stored = submitted.stored
    if stored is None:
        return replace(predicted, official=None, official_error=submitted.official_error or NOT_FOUND)
    if stored.size != shape[0] * shape[1]:
        return replace(predicted, official=None, official_error="ValueError: operands could not be broadcast")
    if predicted.official is not None:
        return predicted
    causes = (BRIGHT,) if predicted.strict is not None else (predicted.fault,)
    return replace(predicted, official=_packed(_as_official(stored)), causes=causes)


def _as_official(stored: NDArray[Any]) -> NDArray[np.bool_]:
    """Return what the official scorer sees: only 1 counts, after a cast to uint8 (cases 36 to 38, 63, 64)."""
    with np.errstate(invalid="ignore"):
        numbers = stored.real if stored.dtype.kind == "c" else stored
        return np.asarray(numbers.astype(np.uint8) == 1)


def _strict(submitted: SubmittedMask, shape: Shape, rules: Rules) -> PredictedMask:
    """Return the strict mask or its fault; with `official` where the official scorer would see the same mask."""
    mask = submitted.mask
    stored = mask if submitted.stored is None else submitted.stored
    form = None if stored is None else stored.shape[:2] if stored.shape[2:] == (1,) else stored.shape
    if stored is not None and form != shape:
        transposed = "transposed, " if form == shape[::-1] else ""
        return PredictedMask(fault=SHAPE, detail=f"{transposed}{stored.shape} for {shape}")
    if mask is None:
        # bool holds no other values: it is refused for how it is stored (fax codes, which imagecodecs reads)
        has_other_values = stored is not None and stored.dtype != bool
        return PredictedMask(fault=VALUES if has_other_values else UNREADABLE, detail=submitted.problem)
    packed = pack(mask)
    if packed is not None:
        return PredictedMask(packed, packed)
    try:
        decoded, kind = decode_mask(mask, submitted.id)
    except DataError as error:
        return PredictedMask(fault=VALUES, detail=str(error))
    if kind == "0/255" and not rules.accept_255:
        return PredictedMask(fault=BRIGHT)
    packed = _packed(decoded)
    return PredictedMask(packed, packed if kind in ("0/1", "bool") else None)


def score_image(predicted: PredictedMask, gold: GoldMasks, prior: Bits | None, rules: Rules) -> ImageScore:
    """Score one photo on both tracks, with trivial masks and annotators in place of the system beside it.

    Args:
        prior: the training mean mask, decided at the photo's size and packed; None without one.
        rules: how strict scores count empty masks.
    """
    differs = predicted.official is not None and predicted.official is not predicted.strict
    empty_mask = np.zeros_like(next(iter(gold.planes.values())))
    planes = [empty_mask if predicted.strict is None else predicted.strict]
    planes += [predicted.official] if differs and predicted.official is not None else []
    planes += [prior] if prior is not None else []
    pixels = gold.shape[0] * gold.shape[1]
    cells = count_cells([*planes, *gold.planes.values()], pixels)
    overlap = overlap_of(cells, len(planes))
    fault = predicted.strict is None
    pairs = overlap.against_annotators(0)
    has_empty_pair = not fault and not all(map(any, pairs))
    known = any(name in OFFICIAL for name in gold.planes)
    official: Terms | None = None
    if known and predicted.official is not None and not predicted.official_error:
        official = _official(cells, overlap, gold, int(differs))
    baselines = [_constant(overlap, 0, rules.empty), _constant(overlap, pixels, rules.empty)]
    if prior is not None:
        baselines.append(column_terms(overlap, len(planes) - 1, rules.empty))
    human, system = _left_out(overlap, rules.empty, fault)
    return ImageScore(
        fault=predicted.fault,
        detail=predicted.detail,
        official_error=predicted.official_error or ("" if known else "KeyError: none of ann0 to ann3"),
        causes=predicted.causes + _gold_causes(gold) + ((EMPTY,) if has_empty_pair else ()),
        strict=array("d", image_terms(pairs, overlap.against_majority(0), rules.empty, fault)),
        official=official,
        annotators=tuple(map(intern, gold.planes)),
        pairs=_flat(jaccard_and_dice(pair, rules.empty, fault) for pair in pairs),
        pixels=pixels,
        lesion=sum(overlap.area(len(planes) + k) for k in range(overlap.annotators)) / overlap.annotators / pixels,
        has_empty_pair=has_empty_pair,
        baselines=_flat(baselines),
        human=human,
        system=system,
    )


def _gold_causes(gold: GoldMasks) -> tuple[str, ...]:
    """Return the kinds of reasons in the gold why the tracks may differ."""
    bright = (GOLD,) if gold.bright else ()
    return bright if set(gold.planes) <= set(OFFICIAL) else (*bright, MORE)


def _flat(parts: Iterable[Terms]) -> Terms:
    """Return all terms one after the other, in half the memory of a list: a dozen are kept per photo."""
    return array("d", chain.from_iterable(parts))


def _constant(overlap: Overlap, size: int, empty: str) -> Terms:
    """Return the terms of a mask that is empty (size 0) or full (size: all pixels)."""
    areas = [overlap.area(column) for column in range(overlap.systems, overlap.majority + 1)]
    pairs = [Counts(area, size - area, 0) if size else Counts(0, 0, area) for area in areas]
    return image_terms(pairs[:-1], pairs[-1], empty)


def _left_out(overlap: Overlap, empty: str, fault: bool) -> tuple[Terms, Terms]:
    """Return the terms of each annotator, and of the system, against the other annotators; none of one annotator."""
    if overlap.annotators < 2:
        return (), ()
    numbers = range(overlap.annotators)
    human = _flat(column_terms(overlap, overlap.systems + k, empty, without=k) for k in numbers)
    return human, _flat(column_terms(overlap, 0, empty, fault, without=k) for k in numbers)


def _official(cells: Cells, overlap: Overlap, gold: GoldMasks, system: int) -> Terms:
    """Return the official terms: only ann0 to ann3; 255 is no foreground but weighs 255 in the majority vote."""
    names = list(gold.planes)
    used = [k for k, name in enumerate(names) if name in OFFICIAL]
    if len(used) == len(names) and not gold.bright:
        return array("d", column_terms(overlap, system, OFFICIAL_RULE))
    members = memberships(overlap.systems + overlap.annotators)
    votes = sum(members[:, overlap.systems + k] * (255 if names[k] in gold.bright else 1) for k in used)
    agreed = majority(np.asarray(votes), len(used))
    area = overlap.area(system)
    pairs = [
        Counts(0, area, 0) if names[k] in gold.bright else overlap.counts(system, overlap.systems + k) for k in used
    ]
    tp = int(cells[agreed & members[:, system]].sum())
    return array("d", image_terms(pairs, Counts(tp, area - tp, int(cells[agreed].sum()) - tp), OFFICIAL_RULE))
