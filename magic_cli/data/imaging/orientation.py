"""Whether a photo matches its masks as stored or turned by its EXIF orientation: the masks' sizes decide."""

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.imaging.appearance import AS_STORED, Appearance
from magic_cli.data.imaging.cleaned_masks import clean_mask
from magic_cli.data.imaging.drawn_masks import DrawnMask
from magic_cli.data.imaging.fingerprint import NO_FINGERPRINT, Fingerprint
from magic_cli.data.imaging.images import PhotoSize, check_photo, read_image_file
from magic_cli.data.imaging.masks import decode_mask, read_stored
from magic_cli.errors import DataError, problem
from magic_cli.records import Mask


@dataclass(frozen=True, slots=True)
class PhotoWithMasks:
    """A photo and those of its masks that fit it, in memory.

    `upright` is True if only the EXIF-upright photo has the masks' size, False if only the photo as stored has it or
    there is no orientation, None if the masks do not decide. `kinds` and `digests` map annotators to the kind of
    values and the SHA-256 of each mask that was read, `appearances` those that viewers show otherwise than stored to
    how they do; `problems` names the masks that were left out, those of one kind in one line. `names` are those of the
    masks, as messages show them. Masks of the annotators in `remade` were drawn or cleaned: no file has these pixels.
    `fingerprint` is that of the photo.
    """

    size: PhotoSize
    sha256: str
    upright: bool | None
    masks: dict[str, Mask]
    kinds: dict[str, str]
    digests: dict[str, str]
    appearances: dict[str, Appearance]
    problems: tuple[str, ...] = ()
    names: dict[str, str] = field(default_factory=dict)
    remade: frozenset[str] = frozenset()
    fingerprint: Fingerprint = NO_FINGERPRINT


_TURNS: Mapping[int, Callable[[NDArray[Any]], NDArray[Any]]] = {  # by EXIF orientation: how a photo becomes upright
    2: np.fliplr,
    3: lambda array: np.rot90(array, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda array: np.rot90(array, -1),
    7: lambda array: np.rot90(array, 2).T,
    8: np.rot90,
}


def turned_back(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return an (H, W) array that lies on an upright photo as it lies on the pixels that the photo's file stores.

    Args:
        array: of any dtype.
        orientation: the photo's in EXIF, 1 to 8; 1: as it is.

    >>> turned_back(np.array([[1, 2, 3]]), 6).tolist()
    [[3], [2], [1]]
    """
    back = {6: 8, 8: 6}.get(orientation, orientation)  # the other turns undo themselves
    return np.ascontiguousarray(_TURNS[back](array) if back != 1 else array)


def match_masks(
    photo: str, masks: Mapping[str, str | DrawnMask], name: Callable[[str], str], cleans: bool = False
) -> PhotoWithMasks:
    """Read a photo and its annotators' masks, and keep the masks of the photo's raw or EXIF-upright size.

    If annotators disagree about the orientation, the majority decides; a tie means as stored. A drawn mask is drawn for
    the upright photo, which is what annotation tools show, if it fits that size.

    Args:
        photo: path of the photo.
        masks: annotator to the path of a mask, or to one to draw.
        name: returns how messages show a path.
        cleans: read files that the official rules refuse as `clean_mask` does.

    Raises:
        DataError: the photo cannot be used; one line. Unusable masks are listed in the result instead.
    """
    size, sha256, fingerprint = check_photo(photo, name(photo))
    names = {
        annotator: name(mask) if isinstance(mask, str) else f"{name(photo)}, mask {annotator}"
        for annotator, mask in masks.items()
    }
    masks_read = _Masks(size, cleans)
    refused: list[tuple[str, str]] = []
    for annotator, mask in masks.items():
        where = names[annotator]
        try:
            masks_read.add(annotator, mask, where)
        except DataError as error:
            refused.append((where, error.problems[0]))
        except MemoryError:
            remedy = "free memory; left out"
            line = problem(where, "no memory left to read it", "enough for its pixels", remedy)
            refused.append((where, line))
    read = masks_read.masks
    upright = _decide(size, read)
    wanted = size.upright if upright else size.raw
    for annotator in [annotator for annotator, mask in read.items() if mask.shape != wanted]:
        where = names[annotator]
        refused.append((where, _misfit(where, read.pop(annotator).shape, size)))
    return PhotoWithMasks(
        size=size,
        sha256=sha256,
        upright=upright,
        masks=read,
        kinds=masks_read.kinds,
        digests=masks_read.digests,
        appearances=masks_read.appearances,
        problems=tuple(_together(refused)),
        names=names,
        remade=frozenset(masks_read.remade & read.keys()),
        fingerprint=fingerprint,
    )


class _Masks:
    """The masks of a photo of this size, as they are read."""

    def __init__(self, size: PhotoSize, cleans: bool) -> None:
        self.size, self.cleans = size, cleans
        self.masks: dict[str, Mask] = {}
        self.kinds: dict[str, str] = {}
        self.digests: dict[str, str] = {}
        self.appearances: dict[str, Appearance] = {}
        self.remade: set[str] = set()

    def add(self, annotator: str, mask: str | DrawnMask, where: str) -> None:
        """Read or draw a mask; raises DataError, one line, if it is none."""
        if not isinstance(mask, str):
            self.masks[annotator], self.kinds[annotator] = _draw(mask, self.size, where), mask.kind
            self.remade.add(annotator)
            return
        data = read_image_file(mask, where)
        self.digests[annotator] = hashlib.sha256(data).hexdigest()
        try:
            stored = read_stored(io.BytesIO(data), where)
            self.masks[annotator], self.kinds[annotator] = decode_mask(stored.array, where)
        except DataError:
            if not self.cleans:
                raise
            self.masks[annotator], self.kinds[annotator] = clean_mask(data, where)
            self.remade.add(annotator)
            return
        if stored.appearance != AS_STORED:
            self.appearances[annotator] = stored.appearance


def _draw(mask: DrawnMask, size: PhotoSize, where: str) -> Mask:
    try:
        return mask.draw(*size.upright)
    except DataError as error:
        if size.upright != size.raw:
            with suppress(DataError):
                return mask.draw(*size.raw)
        raise DataError(f"{where}: {error.problems[0]}; is it the mask of another photo? left out") from None


def _together(refused: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield one line per reason, with the first mask's name and how many more of the photo it holds for."""
    reasons: dict[str, list[str]] = {}
    for where, line in refused:
        reasons.setdefault(line.removeprefix(where), []).append(where)
    for reason, names in reasons.items():
        more = f" (and {len(names) - 1} more of this photo)" if len(names) > 1 else ""
        yield f"{names[0]}{more}{reason}"


def _decide(size: PhotoSize, masks: Mapping[str, Mask]) -> bool | None:
    if size.orientation == 1:
        return False
    raw = sum(mask.shape == size.raw for mask in masks.values())
    upright = sum(mask.shape == size.upright for mask in masks.values())
    if size.raw == size.upright or not raw + upright:
        return None
    return upright > raw


def _misfit(where: str, shape: tuple[int, ...], size: PhotoSize) -> str:
    got, expected = f"height x width {shape[0]} x {shape[1]}", f"{size.raw[0]} x {size.raw[1]}"
    if size.upright != size.raw:
        expected += f" or {size.upright[0]} x {size.upright[1]}, as its photo"
    if shape == size.raw[::-1]:
        return problem(where, f"a transposed mask, {got}", expected, "rotate it like its photo; left out")
    return problem(where, got, expected, "is it the mask of another photo? left out")
