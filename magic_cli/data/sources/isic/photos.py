"""The photos and lesion masks of an ISIC challenge, by image id: found in one pass, whatever folders they lie in."""

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePath

from magic_cli.data.names import key_of
from magic_cli.data.sources.files import SourceFiles, innermost_split
from magic_cli.data.sources.isic.parts import year_of
from magic_cli.data.sources.walk import below

_FILE = re.compile(r"(?P<image>ISIC_\d+(?:_downsampled)?)(?:_(?P<kind>.+))?", re.I)

_FEATURES = re.compile(r"ISIC_\d+(?:_features)?\.json", re.I)

_JPEG = ("jpg", "jpeg")


@dataclass(slots=True)
class PhotoFiles:
    """The files of one image: its photo, "" if there is none, its mask, and what their folders say."""

    photo: str = ""
    mask: str = ""
    year: int = 0
    splits: set[str] = field(default_factory=set)


@dataclass
class PhotoIndex:
    """All photos and masks by `key_of` the image id.

    `copies` counts photos that another one of the same id stands for; `features` counts Part 2 files by kind;
    `superpixels` those that belong to them.
    """

    images: dict[str, PhotoFiles] = field(default_factory=dict)
    copies: int = 0
    features: Counter[str] = field(default_factory=Counter)
    superpixels: int = 0


def index_photos(files: SourceFiles) -> PhotoIndex:
    """Find the photos and masks below a root.

    A photo or mask may be in several folders, as the parts of a challenge repeat them: a JPEG comes before other
    formats, the newest challenge before older ones.
    """
    index = PhotoIndex()
    rank: dict[str, tuple[bool, int]] = {}
    mask_year: dict[str, int] = {}
    folders: dict[str, tuple[int, str]] = {}
    for path in files.photos():
        folder, _, name = path.rpartition(os.sep)
        stem, _, suffix = name.rpartition(".")
        match = _FILE.fullmatch(stem)
        if not match:
            continue
        kind = (match["kind"] or "").casefold()
        if kind not in ("", "segmentation"):
            _count_feature(index, kind)
            continue
        if folder not in folders:
            named = _relative(folder, files)
            folders[folder] = year_of(named), innermost_split(named)
        key, (year, part) = key_of(match["image"]), folders[folder]
        found = index.images.setdefault(key, PhotoFiles())
        if kind:
            if not found.mask or year > mask_year[key]:
                found.mask, mask_year[key] = path, year
            continue
        found.splits |= {part} - {""}
        index.copies += bool(found.photo)
        new = (suffix.casefold() in _JPEG, year)
        if not found.photo or new > rank[key]:
            found.photo, found.year, rank[key] = path, year, new
    features = sum(bool(_FEATURES.fullmatch(PurePath(path).name)) for path in files.tables)
    if features:
        index.features["features"] += features
    return index


def first_photo(files: SourceFiles) -> str:
    """Return the first photo of ISIC in a folder that names a challenge, "" if there is none."""
    if not any(map(year_of, (files.root.name, *files.folders()))):
        return ""
    names = ((path, _relative(path, files)) for path in files.photos())
    return next((path for path, name in names if _FILE.fullmatch(PurePath(path).stem) and year_of(name)), "")


def is_isic_id(image_id: str) -> bool:
    """Return whether an id is one of ISIC's, such as ISIC_0000013."""
    match = _FILE.fullmatch(image_id)
    return match is not None and not match["kind"]


def _relative(path: str, files: SourceFiles) -> str:
    """Return a path below the root, with the root's own name before it if that names a challenge."""
    name = below(path, files.root)
    return f"{files.root.name}/{name}" if year_of(files.root.name) else name


def _count_feature(index: PhotoIndex, kind: str) -> None:
    if kind.startswith("superpixel"):
        index.superpixels += 1
    else:
        index.features[kind.removeprefix("attribute_")] += 1
