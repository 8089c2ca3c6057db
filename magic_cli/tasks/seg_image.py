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
from magic_cli.metrics import tally
from magic_cli.metrics.overlap import MOST_MASKS, Bits, Cells, Overlap, count_cells, memberships, overlap_of, pack
from magic_cli.records import Prediction, Rules
from magic_cli.submission import Unread

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
    """What is kept of a photo: a few numbers. Terms are those of metrics/tally.py.

    `official` is None where the official scorer stops (`stop` names the exception). Of several things of a kind, the
    numbers stand one after the other, as a row of arrays takes three times their memory: `pairs` are the Jaccard and
    Dice of each of the `annotators`; `baselines` the terms of TRIVIAL masks (without a prior, the first two); `human`
    and `system`, for each annotator left out, those of that annotator and of the system against the others.
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
    hollow: bool
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
    strict = _terms(overlap, 0, rules.empty, found.strict is None)
    official = _official(cells, overlap, truth, int(second)) if found.official is not None and not found.stop else None
    known = any(name in OFFICIAL for name in truth.planes)
    stop = found.stop if known else found.stop or "KeyError: none of ann0 to ann3"
    pairs = _pairs(overlap, 0)
    sizes = [gold for _, _, gold in pairs]
    baselines = [_constant(overlap, 0, rules.empty), _constant(overlap, pixels, rules.empty)]
    if prior is not None:
        baselines.append(_terms(overlap, len(planes) - 1, rules.empty))
    human, system = _left_out(overlap, rules.empty, found.strict is None)
    causes = found.causes
    causes += (GOLD,) if truth.bright else ()
    causes += (MORE,) if not set(truth.planes) <= set(OFFICIAL) else ()
    hollow = found.strict is not None and any(not one + gold for _, one, gold in pairs)
    causes += (EMPTY,) if hollow else ()
    scores = [tally.ratios(pair, rules.empty, found.strict is None) for pair in pairs]
    lesion = sum(sizes) / len(sizes) / pixels
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
        hollow,
        _row(baselines),
        human,
        system,
    )


def _pairs(overlap: Overlap, one: int, without: int | None = None) -> list[tally.Pair]:
    """Return a mask (a column) against every annotator, or all but one."""
    both = overlap.both
    others = (overlap.systems + k for k in range(overlap.annotators) if k != without)
    return [(int(both[one, k]), int(both[one, one]), int(both[k, k])) for k in others]


def _pair(overlap: Overlap, one: int, other: int) -> tally.Pair:
    both = overlap.both
    return int(both[one, other]), int(both[one, one]), int(both[other, other])


def _kept_terms(pairs: Sequence[tally.Pair], pooled: tally.Pair, empty: str, fault: bool = False) -> Terms:
    """Return the terms of metrics/tally.py in half of a list's memory: a dozen of them are kept of each photo."""
    return array("d", tally.terms(pairs, pooled, empty, fault))


def _row(parts: Iterable[Terms]) -> Terms:
    return array("d", chain.from_iterable(parts))


def _terms(overlap: Overlap, one: int, empty: str, fault: bool = False) -> Terms:
    return _kept_terms(_pairs(overlap, one), _pair(overlap, one, overlap.majority), empty, fault)


def _constant(overlap: Overlap, size: int, empty: str) -> Terms:
    """Return the terms of a mask that is empty (size 0) or full (size: all pixels)."""
    sizes = [int(overlap.both[k, k]) for k in range(overlap.systems, overlap.majority + 1)]
    pairs = [(gold if size else 0, size, gold) for gold in sizes]
    return _kept_terms(pairs[:-1], pairs[-1], empty)


def _left_out(overlap: Overlap, empty: str, fault: bool) -> tuple[Terms, Terms]:
    """Return the terms of each annotator, and of the system, against the other annotators; none of one annotator."""
    if overlap.annotators < 2:
        return (), ()
    human: list[Terms] = []
    system: list[Terms] = []
    for k in range(overlap.annotators):
        rest = overlap.majority + 1 + k
        for found, one, wrong in ((human, overlap.systems + k, False), (system, 0, fault)):
            found.append(tally.terms(_pairs(overlap, one, k), _pair(overlap, one, rest), empty, wrong))
    return _row(human), _row(system)


def _official(cells: Cells, overlap: Overlap, truth: Truth, one: int) -> Terms:
    """Return the official terms: ann0 to ann3 only, 255 is no foreground but weighs 255 in the majority vote."""
    names = list(truth.planes)
    used = [k for k, name in enumerate(names) if name in OFFICIAL]
    if len(used) == len(names) and not truth.bright:
        return _terms(overlap, one, tally.OFFICIAL)
    if not used:
        return []
    members = memberships(overlap.systems + overlap.annotators)
    votes = sum(members[:, overlap.systems + k] * (255 if names[k] in truth.bright else 1) for k in used)
    agreed = np.asarray(votes >= -(-len(used) // 2))
    found = int(overlap.both[one, one])
    pairs = [(0, found, 0) if names[k] in truth.bright else _pair(overlap, one, overlap.systems + k) for k in used]
    pooled = (int(cells[agreed & members[:, one]].sum()), found, int(cells[agreed].sum()))
    return _kept_terms(pairs, pooled, tally.OFFICIAL)
