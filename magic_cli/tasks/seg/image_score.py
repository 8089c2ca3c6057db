"""One photo, judged on both tracks: what the official scorer makes of a predicted mask, and what it deserves.

The official side is that of examples/official-scorer.md, cases 30 to 64. It costs nothing extra where the stored mask
is regular; only a mask with other values, or of another shape, becomes a second mask to count.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
from magic_cli.records import Prediction, Rules
from magic_cli.submission.reader import Unread

NOT_FOUND = "not found"

MISSING, UNREADABLE, SHAPE = "no prediction", "unreadable", "another shape"

VALUES, BRIGHT = "other values", "values {0, 255}"

TRIVIAL = ("empty", "full", "training mean mask")

GOLD, MORE, EMPTY = "gold of {0, 255}", "more annotators", "empty"

_MOST = MOST_MASKS - 3

Shape = tuple[int, ...]

Terms = Sequence[float]


@dataclass(frozen=True, slots=True)
class Truth:
    """The gold of one photo in memory: its (H, W), a packed mask an annotator, which ones hold {0, 255}."""

    shape: Shape
    planes: Mapping[str, Bits]
    bright: frozenset[str]


@dataclass(frozen=True, slots=True)
class Found:
    """One predicted mask in memory.

    `strict` is the packed mask, None for one that counts as zero; `fault` and `detail` say why (a kind, and what is
    particular about this one). `official` is what the official scorer sees; None where it stops, and `stop` names
    the exception. `causes` are kinds of reasons why both may differ.
    """

    strict: Bits | None
    official: Bits | None
    fault: str = ""
    detail: str = ""
    stop: str = ""
    causes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """What is kept of a photo: a few numbers. Terms are those of metrics/mask_scores.py.

    `official` is None where the official scorer stops (`stop` names the exception). Of several things of a kind, the
    numbers stand one after the other, as a row of arrays takes three times their memory: `pairs` are the Jaccard and
    Dice of each of the `annotators`; `baselines` the terms of TRIVIAL masks (without a prior, the first two); `human`
    and `system`, for each annotator left out, those of that annotator and of the system against the others.
    `has_empty_pair` tells that the predicted mask and an annotator's are both empty: 0/0.
    """

    fault: str
    detail: str
    stop: str
    causes: tuple[str, ...]
    strict: Terms
    official: Terms | None
    annotators: tuple[str, ...]
    pairs: Terms
    pixels: int
    lesion: float
    has_empty_pair: bool
    baselines: Terms = ()
    human: Terms = ()
    system: Terms = ()


def read_truth(gold: GoldImage) -> Truth:
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
            mask, packed, kind = _gold_mask(map_stored(path, path)[0], path)
        except DataError as error:
            lines += error.problems
            continue
        shape = shape or mask
        if mask != shape:
            lines.append(problem(path, f"shape {mask}", f"{shape} as its siblings", "mend the gold mask"))
        planes[name] = packed
        bright += [name] if kind == "0/255" else []
    if lines:
        raise DataError(lines)
    return Truth(shape, planes, frozenset(bright))


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


def read_found(prediction: Prediction | None, mask: NDArray[Any] | None, shape: Shape, rules: Rules) -> Found:
    """Look at one prediction with both pairs of eyes.

    Args:
        prediction: None for a photo that has none.
        mask: the decided mask, (H, W) integers; None where the file holds none.
        shape: the gold's (H, W).
        rules: whether {0, 255} is accepted.
    """
    if prediction is None:
        return Found(None, None, MISSING, "", NOT_FOUND)
    raw = mask if prediction.raw is None else prediction.raw
    strict, fault, detail, kind = _strict(prediction, mask, shape, rules)
    if raw is None or isinstance(raw, Unread):
        error = raw.error if raw else "an unreadable file"
        return Found(strict, None, fault, detail, error or NOT_FOUND)
    if raw.size != shape[0] * shape[1]:
        return Found(strict, None, fault, detail, "ValueError: operands could not be broadcast")
    if strict is not None and kind in ("0/1", "bool"):
        return Found(strict, strict)
    causes = (BRIGHT,) if strict is not None else (fault,)
    return Found(strict, _packed(_as_official(raw)), fault, detail, "", causes)


def _as_official(raw: NDArray[Any]) -> NDArray[np.bool_]:
    """Return what the official scorer sees: only 1 counts, after a cast to uint8 (cases 36 to 38, 63, 64)."""
    with np.errstate(invalid="ignore"):
        numbers = raw.real if raw.dtype.kind == "c" else raw
        return np.asarray(numbers.astype(np.uint8) == 1)


def _strict(
    prediction: Prediction, mask: NDArray[Any] | None, shape: Shape, rules: Rules
) -> tuple[Bits | None, str, str, str]:
    """Return (packed mask or None, kind of fault, its detail, kind of values)."""
    stored = prediction.raw if isinstance(prediction.raw, np.ndarray) else mask
    form = None if stored is None else stored.shape[:2] if stored.shape[2:] == (1,) else stored.shape
    if form is not None and form != shape:
        turned = "transposed, " if form == shape[::-1] else ""
        return None, SHAPE, f"{turned}{stored.shape if stored is not None else ''} for {shape}", ""
    if mask is None:
        # bool holds no other values: it is refused for how it is stored (fax codes, which imagecodecs reads)
        odd_values = stored is not None and stored.dtype != bool
        return None, VALUES if odd_values else UNREADABLE, prediction.fault, ""
    packed = pack(mask)
    if packed is not None:
        return packed, "", "", "0/1"
    try:
        decided, kind = decode_mask(mask, prediction.id)
    except DataError as error:
        return None, VALUES, str(error), ""
    if kind == "0/255" and not rules.accept_255:
        return None, BRIGHT, "", kind
    return _packed(decided), "", "", kind


def judge(found: Found, truth: Truth, prior: Bits | None, rules: Rules) -> Judged:
    """Score one photo on both tracks, with trivial masks and annotators in place of the system beside it."""
    second = found.official is not None and found.official is not found.strict
    nothing = np.zeros_like(next(iter(truth.planes.values())))
    planes = [nothing if found.strict is None else found.strict]
    planes += [found.official] if second and found.official is not None else []
    planes += [prior] if prior is not None else []
    pixels = truth.shape[0] * truth.shape[1]
    cells = count_cells([*planes, *truth.planes.values()], pixels)
    overlap = overlap_of(cells, len(planes))
    fault = found.strict is None
    pairs = overlap.against_annotators(0)
    strict = array("d", image_terms(pairs, overlap.against_majority(0), rules.empty, fault))
    official = _official(cells, overlap, truth, int(second)) if found.official is not None and not found.stop else None
    known = any(name in OFFICIAL for name in truth.planes)
    stop = found.stop if known else found.stop or "KeyError: none of ann0 to ann3"
    areas = [overlap.area(len(planes) + k) for k in range(overlap.annotators)]
    baselines = [_constant(overlap, 0, rules.empty), _constant(overlap, pixels, rules.empty)]
    if prior is not None:
        baselines.append(column_terms(overlap, len(planes) - 1, rules.empty))
    human, system = _left_out(overlap, rules.empty, fault)
    causes = found.causes
    causes += (GOLD,) if truth.bright else ()
    causes += (MORE,) if not set(truth.planes) <= set(OFFICIAL) else ()
    has_empty_pair = not fault and not all(map(any, pairs))
    causes += (EMPTY,) if has_empty_pair else ()
    scores = [jaccard_and_dice(pair, rules.empty, fault) for pair in pairs]
    lesion = sum(areas) / len(areas) / pixels
    return Judged(
        found.fault,
        found.detail,
        stop,
        causes,
        strict,
        official if known else None,
        tuple(map(intern, truth.planes)),
        _row(scores),
        pixels,
        lesion,
        has_empty_pair,
        _row(baselines),
        human,
        system,
    )


def _row(parts: Iterable[Terms]) -> Terms:
    """Return all terms one after the other, in half of a list's memory: a dozen of each photo are kept."""
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
    human = _row(column_terms(overlap, overlap.systems + k, empty, without=k) for k in numbers)
    return human, _row(column_terms(overlap, 0, empty, fault, without=k) for k in numbers)


def _official(cells: Cells, overlap: Overlap, truth: Truth, system: int) -> Terms:
    """Return the official terms: ann0 to ann3 only, 255 is no foreground but weighs 255 in the majority vote."""
    names = list(truth.planes)
    used = [k for k, name in enumerate(names) if name in OFFICIAL]
    if len(used) == len(names) and not truth.bright:
        return array("d", column_terms(overlap, system, OFFICIAL_RULE))
    if not used:
        return []
    members = memberships(overlap.systems + overlap.annotators)
    votes = sum(members[:, overlap.systems + k] * (255 if names[k] in truth.bright else 1) for k in used)
    agreed = majority(np.asarray(votes), len(used))
    area = overlap.area(system)
    pairs = [
        Counts(0, area, 0) if names[k] in truth.bright else overlap.counts(system, overlap.systems + k) for k in used
    ]
    tp = int(cells[agreed & members[:, system]].sum())
    return array("d", image_terms(pairs, Counts(tp, area - tp, int(cells[agreed].sum()) - tp), OFFICIAL_RULE))


@dataclass(frozen=True, slots=True)
class Bench:
    """All photos of a gold, judged, in the gold's order.

    `found` says whether the official scorer finds any mask at all, `ignored` counts predictions without gold.
    """

    judged: dict[str, Judged]
    found: bool
    ignored: int
