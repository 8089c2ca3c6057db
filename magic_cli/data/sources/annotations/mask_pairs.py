"""Photos with masks as pictures: images/ and masks/ with the same names, or IMG.jpg with IMG_mask.png, at any depth.

It is what a folder is taken for that no other adapter recognizes. Masks of several annotators have a number behind
their name, or a folder each (annotator1/); these numbers become ann0, ann1, ... in their order.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from magic_cli.data.imaging.masks import ANNOTATOR_MASK
from magic_cli.data.issues import counted
from magic_cli.data.names import is_for_masks, key_of, masked_photo, without_copy_mark
from magic_cli.data.sources.annotations.cases import Ids, folders_are_splits, group_of
from magic_cli.data.sources.dermavqa.scan import is_challenge_photo
from magic_cli.data.sources.files import SourceFiles, innermost_split
from magic_cli.data.sources.source import PATIENT, RawCase, RawDataset, RawPhoto, ReadOptions, Source
from magic_cli.data.sources.walk import below, same_bytes
from magic_cli.errors import problem, shorten
from magic_cli.records import Case

_NUMBER = re.compile(r"(\d+)$")

_ANNOTATOR = re.compile(r"(?:.*[ _-])?(?:ann(?:otator)?|rater|reader|expert|observer)[ _-]?(\d+)", re.I)

_ROLE = re.compile(r"images?|imgs?|photos?|pictures?|masks?|segmentations?|gt|ground[ _-]?truth|labels?|annotations?")

_UNNUMBERED = -1


class MaskPairs(Source):
    """Photos and masks in pictures, without any table."""

    name = "mask-pairs"
    title = "a folder of photos and masks"
    origin = "your own"
    licence = "that of the photos"
    expected = (
        "images/ and masks/ with the same names, or IMG.jpg with IMG_mask.png, IMG_segmentation.png, IMG_lesion.bmp"
    )
    is_fallback = True

    def find(self, files: SourceFiles) -> str:
        """Return the first mask beside a photo; photos of the challenge without its tables are left to its adapter."""
        pairs = _Pairs(files)
        if any(is_challenge_photo(path) for path in pairs.masks):
            return ""
        return next((path for masks in pairs.masks.values() for paths in masks.values() for path in paths), "")

    def read(self, files: SourceFiles, options: ReadOptions) -> RawDataset:  # noqa: ARG002  nothing to choose
        """Return the dataset: a case per photo, with or without masks; the split is in the folders, if all name one."""
        pairs = _Pairs(files)
        pairs.report()
        photos = len(pairs.photos)
        return RawDataset(self.name, files.root, _cases(files, pairs), files.issues, {}, total=photos)


SOURCE = MaskPairs()


@dataclass(slots=True)
class _Mask:
    """A file that is a mask by its name or folder.

    photos: the names that its photo can have, the likelier first.
    number: that of its annotator.
    is_sure: whether it is a mask even if there is no such photo.
    folder: where its photo is, as `_place` returns it.
    """

    path: str
    photos: tuple[str, ...]
    number: int
    is_sure: bool
    folder: tuple[str, ...]


class _Pairs:
    """The photos and masks of a folder, matched by name.

    photos: absolute paths, in order.
    masks: path of a photo to annotator's number to paths of masks, one unless some are too many.
    strays: masks without their photo.
    """

    def __init__(self, files: SourceFiles) -> None:
        self.files = files
        self.photos: list[str] = []
        self.masks: dict[str, dict[int, list[str]]] = {}
        self.strays: list[str] = []
        masks: list[_Mask] = []
        for path in files.photos():
            mask = _as_mask(path, PurePath(below(path, files.root)))
            masks.append(mask) if mask else self.photos.append(path)
        by_name = self._by_name()
        for mask in masks:
            if not mask.is_sure and not any(key_of(name) in by_name for name in mask.photos):
                self.photos.append(mask.path)  # "lesion_12.jpg": a photo after all
        by_name = self._by_name()
        for mask in masks:
            photo = self._photo_of(mask, by_name)
            if photo:
                self.masks.setdefault(photo, {}).setdefault(mask.number, []).append(mask.path)
            elif mask.is_sure:
                self.strays.append(mask.path)
        self.photos.sort()

    def _by_name(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in self.photos:
            found.setdefault(key_of(PurePath(path).stem), []).append(path)
        return found

    def _photo_of(self, mask: _Mask, by_name: Mapping[str, list[str]]) -> str:
        """Return the only photo of a mask's name, or the only one whose folders are the same but for their role."""
        candidates = next((paths for name in mask.photos if (paths := by_name.get(key_of(name)))), [])
        if len(candidates) > 1:
            candidates = [path for path in candidates if _place(self._folders(path)) == mask.folder]
        return candidates[0] if len(candidates) == 1 else ""

    def _folders(self, path: str) -> tuple[str, ...]:
        return PurePath(below(path, self.files.root)).parts[:-1]

    def annotators(self) -> dict[int, str]:
        """Return the number in the name of a mask to its annotator: "ann0" for the lowest one."""
        numbers = sorted({number for masks in self.masks.values() for number in masks})
        return {number: f"ann{place}" for place, number in enumerate(numbers)}

    def report(self) -> None:
        """List masks that cannot be used, and note how annotators are numbered."""
        issues, name = self.files.issues, self.files.name
        for path in self.strays:
            got = "a mask without its photo, or of several photos of this name"
            issues.add_loss(problem(name(path), got, "one photo of its name", "rename or remove it"), "masks")
        for masks in self.masks.values():
            for number, paths in list(masks.items()):
                if len(paths) > 1 and not same_bytes(paths):
                    got = f"{len(paths)} masks of a photo, such as {name(paths[1])}"
                    line = problem(name(paths[0]), got, "one per annotator", "remove the others; none is used")
                    issues.add_loss(line, "masks", len(paths))
                    del masks[number]
        named = self.annotators()
        if len(named) > 1:
            told = ("without a number" if number < 0 else str(number) for number in named)
            issues.note(f"masks have numbers: annotators ann0 to ann{len(named) - 1} are those {shorten(told)}")


def _as_mask(path: str, relative: PurePath) -> _Mask | None:
    """Return what a file is a mask of, None for a photo."""
    folders = relative.parts[:-1]
    by_folder = next((match for part in reversed(folders) if (match := _ANNOTATOR.fullmatch(part))), None)
    number = int(by_folder[1][-9:]) if by_folder else _UNNUMBERED
    place, stem = _place(folders), without_copy_mark(relative.stem)
    official = ANNOTATOR_MASK.fullmatch(relative.name)
    if official:
        digits = official["annotator"].casefold().removeprefix("ann")
        return _Mask(path, (official["image"],), int(digits[-9:]), True, place)
    is_among_masks, is_among_photos = is_for_masks(folders), not is_for_masks(("masks", *folders))
    photo, has_number = masked_photo(stem)
    found = _NUMBER.search(stem) if has_number else None
    number = int(found[1][-9:]) if found else number
    if is_among_masks:
        return _Mask(path, (stem, photo) if photo else (stem,), number, True, place)
    if not photo:
        return None
    is_sure = not is_among_photos and not stem.casefold().endswith(photo.casefold())  # not "lesion_12"
    return _Mask(path, (photo,), number, is_sure, place)


def _place(folders: Sequence[str]) -> tuple[str, ...]:
    """Return folders without those that only say whether photos or masks are in them, or whose masks."""
    return tuple(
        part.casefold() for part in folders if not _ROLE.fullmatch(part.casefold()) and not _ANNOTATOR.fullmatch(part)
    )


def _cases(files: SourceFiles, pairs: _Pairs) -> Iterator[RawCase]:
    by_folder, ids, annotators = folders_are_splits(files), Ids(files.root), pairs.annotators()
    bare = 0
    for path in pairs.photos:
        relative = PurePath(below(path, files.root))
        masks = {annotators[number]: paths[0] for number, paths in sorted(pairs.masks.get(path, {}).items())}
        bare += not masks
        image_id, group = ids.of(path, relative.name), group_of(relative.parts[:-1])
        attributes: Mapping[str, str] = {PATIENT: group} if group else {}
        split = innermost_split(relative.parent) if by_folder else ""
        case = Case(image_id, split, (image_id,), attributes=attributes, group_id=group)
        yield RawCase(case, (RawPhoto(image_id, path, masks),), files.name(path))
    if bare:
        verb = counted(bare, "photo has", "photos have")
        files.issues.note(f"{verb} no mask")
