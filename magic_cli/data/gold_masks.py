"""Gold masks in a folder, whatever tool named them: each file that may be one is used, or refused by name."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from magic_cli.data.imaging.masks import ANNOTATOR_MASK
from magic_cli.data.issues import by_kind, counted
from magic_cli.data.names import (
    MASK_SUFFIXES,
    PHOTO_SUFFIXES,
    USUAL_SUFFIXES,
    composed,
    is_added_by_system,
    is_for_masks,
    loose_key_of,
    masked_photo,
    without_copy_mark,
)
from magic_cli.errors import DataError, first_lines, problem
from magic_cli.io.regular_file import open_regular
from magic_cli.records import SPLITS

_IMAGE = re.compile(r"IMG_(?P<case>.+)_[^_]+", re.I)

_NAME = "IMG_..._mask_ann0.tiff"


@dataclass
class _Found:
    """`by_annotator` and `others` map photos to masks of annotators, and to files that are masks by another name."""

    by_annotator: dict[str, dict[str, Path]] = field(default_factory=dict)
    others: dict[str, list[Path]] = field(default_factory=dict)
    bare: dict[str, Path] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


def list_gold_masks(folder: Path, split: str) -> dict[str, Mapping[str, str]]:
    """Return image id to annotator to the mask's path, for all masks below a folder.

    Folders named after other splits are skipped. A file that is a mask by another name (IMG_mask.png, masks/IMG.png)
    counts as that of ann0, if it is the only one of its photo.

    Raises:
        DataError: an annotator has two masks of a photo, or a file that may be a mask cannot be used: a line per kind.
    """
    found = _Found()
    for path in _pictures(folder, split):
        _sort_in(found, path, folder)
    for image, paths in found.others.items():
        if image not in found.by_annotator and len(paths) == 1:
            found.by_annotator[image] = {"ann0": paths[0]}
        else:
            got = "a second mask of its photo" if len(paths) > 1 else "a mask beside those of annotators"
            found.lines += [problem(path, got, "one", f"remove it, or name it {_NAME}") for path in paths[:1]]
    for image, path in found.bare.items():
        if image not in found.by_annotator:
            remedy = "name it so if it is a mask, or remove it"
            found.lines.append(problem(path, "a picture of a photo without a mask", _NAME, remedy))
    if found.lines:
        raise DataError(first_lines(by_kind(found.lines), folder))
    return {image: {name: str(path) for name, path in masks.items()} for image, masks in found.by_annotator.items()}


def masks_of(lines: Iterable[str], images: Iterable[str]) -> list[str]:
    """Return the problems "FILE: ..." that are about masks of some photos, given by their ids.

    >>> masks_of(["masks/IMG_1_mask_ann0.tif: got a pipe", "masks/IMG_2_mask.png: got a pipe"], ["IMG_1"])
    ['masks/IMG_1_mask_ann0.tif: got a pipe']
    """
    keys = {loose_key_of(image) for image in images}
    return [line for line in lines if loose_key_of(_photo_of(line.partition(": ")[0])) in keys]


def _photo_of(place: str) -> str:
    path = PurePosixPath(place)
    match = ANNOTATOR_MASK.fullmatch(path.name)
    return match["image"] if match else masked_photo(path.stem)[0] or path.stem


def unnumbered_note(names: Sequence[str]) -> str:
    """Return the note about masks that are named without an annotator's number; "" without any."""
    if not names:
        return ""
    count = counted(len(names), "mask is", "masks are")
    return f"{count} not named {_NAME} (such as {names[0]}): taken as ann0, by name or folder"


def case_of_image(image_id: str) -> str:
    """Return the case in an image id, IMG_<case>_<number>; an id of another form is a case of its own."""
    match = _IMAGE.fullmatch(image_id)
    return match["case"] if match else image_id


def _pictures(folder: Path, split: str) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        folders = set(parts[:-1]) & set(SPLITS)
        if path.suffix.casefold() not in PHOTO_SUFFIXES or any(map(is_added_by_system, parts)) or path.is_dir():
            continue
        if not folders or split in folders:
            yield path


def _sort_in(files: _Found, path: Path, folder: Path) -> None:
    suffix = path.suffix.casefold()
    match = ANNOTATOR_MASK.fullmatch(path.name)
    if match:
        of_photo, annotator = files.by_annotator.setdefault(composed(match["image"]), {}), match["annotator"].casefold()
        if annotator in of_photo:
            got = "a second mask of this annotator and photo"
            files.lines.append(problem(path, got, "one", f"remove it or {of_photo[annotator]}"))
        of_photo.setdefault(annotator, path)
        return
    original = path.with_name(f"{without_copy_mark(path.stem)}{path.suffix}")
    if original != path and original.exists():
        return
    photo, has_number = masked_photo(path.stem)
    if not photo and is_for_masks((folder.name, *path.relative_to(folder).parts[:-1])):
        photo = path.stem if "_mask_" not in path.stem.casefold() else ""
    if photo and suffix not in MASK_SUFFIXES:
        remedy = "export it without loss (such a file blurs its edges)"
        files.lines.append(problem(path, f"a mask as {suffix} file", "TIFF or PNG", remedy))
    elif photo and has_number:
        remedy = "rename it, numbers from 0"
        files.lines.append(problem(path, "a mask with a number in another form", _NAME, remedy))
    elif photo:
        files.others.setdefault(composed(photo), []).append(path)
    elif _IMAGE.fullmatch(path.stem) and "_mask_" not in path.stem.casefold() and _is_rather_a_mask(path):
        files.bare[composed(path.stem)] = path


def _is_rather_a_mask(path: Path) -> bool:
    suffix = path.suffix.casefold()
    return suffix in MASK_SUFFIXES and (suffix not in USUAL_SUFFIXES or _is_grey_png(path))


def _is_grey_png(path: Path) -> bool:
    """Return whether a PNG is grey or has a palette by its header, as masks are and photos are not."""
    try:
        with open_regular(path) as file:
            return file.read(26)[25:] in (b"\0", b"\3")
    except OSError:
        return False
