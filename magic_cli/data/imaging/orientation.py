"""Whether a photo matches its masks as stored or turned by its EXIF orientation: the masks' sizes decide."""

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from magic_cli.data.imaging.appearance import AS_STORED, Appearance
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
    how they do; `problems` names the masks that were left out, those of one kind in one line.
    """

    size: PhotoSize
    sha256: str
    upright: bool | None
    masks: dict[str, Mask]
    kinds: dict[str, str]
    digests: dict[str, str]
    appearances: dict[str, Appearance]
    problems: tuple[str, ...]


def match_masks(photo: str, masks: Mapping[str, str], name: Callable[[str], str]) -> PhotoWithMasks:
    """Read a photo and its annotators' masks, and keep the masks of the photo's raw or EXIF-upright size.

    If annotators disagree about the orientation, the majority decides; a tie means as stored.

    Raises:
        DataError: the photo cannot be used; one line. Unusable masks are listed in the result instead.
    """
    size, sha256 = check_photo(photo, name(photo))
    read: dict[str, Mask] = {}
    kinds: dict[str, str] = {}
    digests: dict[str, str] = {}
    appearances: dict[str, Appearance] = {}
    refused: list[tuple[str, str]] = []
    for annotator, path in masks.items():
        try:
            data = read_image_file(path, name(path))
            digests[annotator] = hashlib.sha256(data).hexdigest()
            stored = read_stored(io.BytesIO(data), name(path))
            read[annotator], kinds[annotator] = decode_mask(stored.array, name(path))
            if stored.appearance != AS_STORED:
                appearances[annotator] = stored.appearance
        except DataError as error:
            refused.append((name(path), error.problems[0]))
        except MemoryError:
            remedy = "free memory; left out"
            line = problem(name(path), "no memory left to read it", "enough for its pixels", remedy)
            refused.append((name(path), line))
    upright = _decide(size, read)
    wanted = size.upright if upright else size.raw
    for annotator in [annotator for annotator, mask in read.items() if mask.shape != wanted]:
        where = name(masks[annotator])
        refused.append((where, _misfit(where, read.pop(annotator).shape, size)))
    return PhotoWithMasks(size, sha256, upright, read, kinds, digests, appearances, tuple(_together(refused)))


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
