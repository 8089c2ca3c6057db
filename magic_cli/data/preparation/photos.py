"""Read the photos and masks of raw cases, several at a time, and write what the prepared dataset needs of them."""

import hashlib
import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from magic_cli.data.imaging.appearance import Appearance
from magic_cli.data.imaging.fingerprint import NO_FINGERPRINT, Fingerprint, fingerprint, sampled
from magic_cli.data.imaging.images import PhotoSize
from magic_cli.data.imaging.lesion_share import LesionShare, lesion_share
from magic_cli.data.imaging.masks import merge_masks, write_mask
from magic_cli.data.imaging.mean_mask import shrunk
from magic_cli.data.imaging.orientation import PhotoWithMasks, match_masks
from magic_cli.data.sources.source import RawCase, RawPhoto
from magic_cli.errors import DataError
from magic_cli.io.files import write_atomic
from magic_cli.metrics.mask_scores import dice
from magic_cli.metrics.overlap import overlap_counts
from magic_cli.records import Mask

_AHEAD, _TOGETHER = 16, 4  # groups that are read or wait to be stored, as keep the threads busy; photos of a group


@dataclass(frozen=True, slots=True)
class PhotoFacts:
    """Facts about a photo and its masks, without their pixels.

    `path` is absolute, of a photo that was drawn in the folder that the dataset will have. `digests` are lines for
    `manifest.digest`; `shares` and `appearances` map names of masks to how much they mark, and to how viewers show them
    if otherwise than stored. `small` is the photo's part of the mean mask, 64 x 64 bytes, None without masks.
    """

    image_id: str
    path: str
    size: PhotoSize
    sha256: str
    upright: bool | None
    annotators: Mapping[str, str]
    kinds: tuple[str, ...]
    digests: tuple[str, ...]
    dice: float | None
    shares: Mapping[str, LesionShare]
    appearances: Mapping[str, Appearance]
    small: bytes | None
    problems: tuple[str, ...]
    lost_masks: int = 0
    fingerprint: Fingerprint = NO_FINGERPRINT

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to tell but its size: no mask, no EXIF orientation, no odd format."""
        return not (self.annotators or self.digests or self.size.odd) and self.size.orientation == 1

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        """Pickle the values alone: five times as fast as the method of dataclasses."""
        return type(self), tuple(getattr(self, name) for name in self.__slots__)


class CaseRead(NamedTuple):
    """A case, and for each of its photos the facts, or why it cannot be used."""

    raw: RawCase
    photos: tuple[PhotoFacts | DataError, ...]


@dataclass(frozen=True)
class Reader:
    """How photos are read and where files are written.

    Attributes:
        name: returns how messages show a path.
        folder: where files are written; None for a dry run.
        root: the folder that `folder` becomes.
        merge: how annotators' masks are merged.
        cleans: whether masks that the official rules refuse are cleaned (imaging/cleaned_masks.py).
    """

    name: Callable[[str], str]
    folder: Path | None
    root: Path
    merge: str
    cleans: bool = False

    def read(self, cases: Iterable[RawCase]) -> Iterator[CaseRead]:
        """Yield the cases in their order, with their photos read by several threads, a window of them at a time."""
        workers = min(8, os.cpu_count() or 1)  # decoders release the interpreter lock; eight photos fit into memory
        pool = ThreadPoolExecutor(workers)
        waiting: deque[Future[list[CaseRead]]] = deque()
        try:
            for group in _groups(cases):
                waiting.append(pool.submit(self._read_cases, group))
                if len(waiting) > _AHEAD:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _read_cases(self, cases: Sequence[RawCase]) -> list[CaseRead]:
        return [CaseRead(raw, tuple(self._read(photo) for photo in raw.photos)) for raw in cases]

    def _read(self, photo: RawPhoto) -> PhotoFacts | DataError:
        try:
            if photo.pixels is not None:
                return self._drawn(photo, photo.pixels)
            return self._facts(photo, match_masks(photo.path, photo.masks, self.name, self.cleans), photo.path)
        except DataError as error:
            return error

    def _drawn(self, photo: RawPhoto, pixels: Callable[[], NDArray[np.uint8]]) -> PhotoFacts:
        """Write a photo that is no file as PNG, at compression level 1: several times faster, little larger."""
        array, encoded, name = pixels(), io.BytesIO(), _drawn_name(photo.image_id)
        Image.fromarray(array).save(encoded, "PNG", compress_level=1)
        data = encoded.getvalue()
        if self.folder is not None:
            write_atomic(self.folder / name, lambda file: file.write(data))
        size, sha256 = PhotoSize((array.shape[0], array.shape[1])), hashlib.sha256(data).hexdigest()
        found = fingerprint(sampled(Image.fromarray(array)))
        read = PhotoWithMasks(size, sha256, False, {}, {}, {}, {}, fingerprint=found)
        return self._facts(photo, read, str(self.root / name))

    def _facts(self, photo: RawPhoto, read: PhotoWithMasks, path: str) -> PhotoFacts:
        masks = list(read.masks.values())
        if self.folder is not None and masks and self.merge != "each":
            write_mask(self.folder / mask_name(photo.image_id), merge_masks(masks, self.merge))
        return PhotoFacts(
            image_id=photo.image_id,
            path=path,
            size=read.size,
            sha256=read.sha256,
            upright=read.upright,
            annotators={name: self._mask_path(photo, name, read) for name in photo.masks if name in read.masks},
            kinds=tuple(read.kinds[annotator] for annotator in read.masks),
            digests=tuple(f"{read.names[name]} {sha256}" for name, sha256 in read.digests.items()),
            dice=_pairwise_dice(masks),
            shares={read.names[name]: lesion_share(mask) for name, mask in read.masks.items()},
            appearances={read.names[name]: seen for name, seen in read.appearances.items()},
            small=shrunk(masks if self.merge == "each" else [merge_masks(masks, self.merge)]) if masks else None,
            problems=read.problems,
            lost_masks=len(photo.masks) - len(read.masks),
            fingerprint=read.fingerprint,
        )

    def _mask_path(self, photo: RawPhoto, annotator: str, read: PhotoWithMasks) -> str:
        """Return the path of a mask's file; one that was drawn or cleaned is written, as the official scorer has it."""
        mask = photo.masks[annotator]
        if isinstance(mask, str) and annotator not in read.remade:
            return mask
        name = _annotator_name(photo.image_id, annotator)
        if self.folder is not None:
            write_mask(self.folder / name, read.masks[annotator])
        return str(self.root / name)


def _groups(cases: Iterable[RawCase]) -> Iterator[list[RawCase]]:
    """Yield cases in groups of a few photos: to hand over each of them takes as long as to read a small photo."""
    group: list[RawCase] = []
    size = 0
    for raw in cases:
        group.append(raw)
        size += max(1, len(raw.photos))
        if size >= _TOGETHER:
            yield group
            group, size = [], 0
    if group:
        yield group


def written_names(facts: PhotoFacts) -> list[str]:
    """Return the names of all files that may have been written of a photo, below the prepared folder."""
    drawn = [_annotator_name(facts.image_id, annotator) for annotator in facts.annotators]
    return [mask_name(facts.image_id), _drawn_name(facts.image_id), *drawn]


def _annotator_name(image_id: str, annotator: str) -> str:
    return f"masks/annotators/{image_id}_mask_{annotator}.tiff"


def _drawn_name(image_id: str) -> str:
    return f"photos/{image_id}.png"


def mask_name(image_id: str) -> str:
    """Return the name of a photo's merged mask below the prepared folder."""
    return f"masks/{image_id}.tiff"


def _pairwise_dice(masks: Sequence[Mask]) -> float | None:
    """Return the mean Dice over all pairs of annotators, 1.0 for two empty masks; None for fewer than two."""
    values = [dice(*overlap_counts(first, second), if_undefined=1.0) for first, second in combinations(masks, 2)]
    return float(np.mean(values)) if values else None
