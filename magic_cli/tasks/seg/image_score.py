"""One photo: its gold and predicted masks, decoded for both tracks, and the record of its scores.

The official track follows examples/official-scorer.md, cases 30 to 64. A regular mask is shared by both tracks; only a
mask with other values is decoded twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.gold import GoldImage
from magic_cli.data.imaging.appearance import AS_STORED, Appearance
from magic_cli.data.imaging.lesion_share import LesionShare, edge_share
from magic_cli.data.imaging.masks import decode_mask, read_stored
from magic_cli.errors import DataError, problem
from magic_cli.metrics.overlap import MOST_MASKS, Bits, pack
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
    appearances: how viewers show the annotators' masks, of those that they show otherwise than stored.
    """

    shape: Shape
    planes: Mapping[str, Bits]
    bright: frozenset[str]
    appearances: Mapping[str, Appearance] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PredictedMask:
    """One predicted mask in memory, decoded for both tracks.

    strict: the packed mask; None if it counts as zero.
    official: the mask that the official scorer sees; None if it crashes.
    fault, detail: why the mask counts as zero: the kind of fault, and its details; both "" if it does not.
    official_error: the exception that the official scorer crashes with, "" for none.
    causes: kinds of reasons why the tracks may differ.
    edge: the share of the outermost pixels that the strict mask marks.
    appearance: how viewers show the file, where that differs from what is stored.
    """

    strict: Bits | None = None
    official: Bits | None = None
    fault: str = ""
    detail: str = ""
    official_error: str = ""
    causes: tuple[str, ...] = ()
    edge: float = 0.0
    appearance: Appearance = AS_STORED


@dataclass(frozen=True, slots=True)
class ImageScore:
    """The record of one scored photo; terms are those of metrics/mask_scores.py.

    Several values of a kind are stored in one flat sequence, as nested arrays would take three times the memory.

    fault, detail, official_error, causes: as in PredictedMask.
    strict: the strict terms.
    official: the official terms; None if the official scorer crashes.
    annotators: their names.
    pairs: Jaccard and Dice against each annotator.
    pixels: number of pixels of the photo.
    lesion: mean foreground fraction of the annotators' masks, in [0, 1].
    has_empty_pair: whether the predicted mask and an annotator's are both empty: 0/0.
    baselines: terms of the TRIVIAL masks (without a training mean mask, of the first two).
    human, system: for each annotator left out, the terms of that annotator, and of the system, against the others.
    predicted_lesion: how much of the photo the predicted mask marks; None if it counts as zero.
    appearance: how viewers show the predicted mask's file, where that differs from what is stored.
    gold_appearances: the same of annotators' masks, of those that viewers show otherwise.
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
    predicted_lesion: LesionShare | None = None
    appearance: Appearance = AS_STORED
    gold_appearances: Mapping[str, Appearance] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MaskScores:
    """All scored photos of a gold, in its order.

    images: image id to its score.
    any_found: whether the official scorer finds any mask at all.
    ignored: image ids of the predictions without gold.
    """

    images: Mapping[str, ImageScore]
    any_found: bool
    ignored: tuple[str, ...]


def read_gold(gold: GoldImage) -> GoldMasks:
    """Read the annotators' masks of one photo.

    Raises:
        DataError: invalid masks, or masks of different sizes; one line per file.
    """
    shape: Shape = ()
    planes: dict[str, Bits] = {}
    bright: list[str] = []
    appearances: dict[str, Appearance] = {}
    lines: list[str] = []
    if len(gold.annotators) > _MOST:
        where = next(iter(gold.annotators.values()))
        raise DataError(problem(where, f"{len(gold.annotators)} annotators", f"at most {_MOST}", "leave some out"))
    for name, path in gold.annotators.items():
        try:
            stored = read_stored(path)
            size, packed, kind = _gold_mask(stored.array, path)
        except DataError as error:
            lines += error.problems
            continue
        shape = shape or size
        if size != shape:
            lines.append(problem(path, f"shape {size}", f"{shape} as in the photo's other masks", "fix the gold mask"))
        planes[name] = packed
        bright += [name] if kind == "0/255" else []
        if stored.appearance is not AS_STORED:
            appearances[name] = stored.appearance
    if lines:
        raise DataError(lines)
    return GoldMasks(shape, planes, frozenset(bright), appearances)


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
    predicted = replace(_strict(submitted, shape, rules), appearance=submitted.appearance)
    if predicted.strict is not None and submitted.mask is not None:
        predicted = replace(predicted, edge=edge_share(submitted.mask))
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
    """Return the mask that the official scorer sees: only 1 counts, after a cast to uint8 (cases 36 to 38, 63, 64)."""
    with np.errstate(invalid="ignore"):
        numbers = stored.real if stored.dtype.kind == "c" else stored
        return np.asarray(numbers.astype(np.uint8) == 1)


def _strict(submitted: SubmittedMask, shape: Shape, rules: Rules) -> PredictedMask:
    """Return the strict mask or its fault; with `official` set if the official scorer sees the same mask."""
    mask = submitted.mask
    stored = mask if submitted.stored is None else submitted.stored
    size = None if stored is None else stored.shape[:2] if stored.shape[2:] == (1,) else stored.shape
    if stored is not None and size != shape:
        transposed = "transposed, " if size == shape[::-1] else ""
        return PredictedMask(fault=SHAPE, detail=f"{transposed}{stored.shape} for {shape}")
    if mask is None:
        # bool has no other values: its encoding is rejected (fax codes, which imagecodecs can read)
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
