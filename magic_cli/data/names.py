"""Names of files and ids: how two are compared, which files a system added, and which other tools name as masks."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import PurePath
from urllib.parse import unquote

from magic_cli.errors import problem
from magic_cli.io.file_kinds import is_system_file

USUAL_SUFFIXES = (".jpg", ".jpeg", ".png")  # of photos

SUFFIXES_OF = {  # photos that are read, by their format
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif", ".avifs"),
}

# of photos as people convert or take them; those that are not read here are named with what to do about them
PHOTO_SUFFIXES = (
    *(suffix for suffixes in SUFFIXES_OF.values() for suffix in suffixes),
    *(".heic", ".heif", ".hif", ".jp2", ".j2k", ".jpx", ".jpf", ".jxl", ".psd"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"),
)

TABLE_SUFFIXES = (".json", ".jsonl", ".ndjson")

PAIR_TABLES = (".csv", ".tsv")  # of photos with labels, captions, concepts, or scores of these

IMAGE_COLUMNS = (  # of such a table, that name the photo
    *("image_id", "image_path", "filename", "file_name", "image", "imageid", "image_name", "img_path", "img", "path"),
    *("file", "skincap_file_path", "isic_id"),
)

MASK_SUFFIXES = (".tif", ".tiff", ".png", ".bmp", ".gif")  # a lossy format has other values at every edge

_COPY = re.compile(r"(?:[ _]?\(\d+\)| - copy(?: \(\d+\))?| copy(?: \d+)?)$", re.I)

_MASK_WORD = r"(?:masks?|segmentations?|segs?|lesions?|gt|ground[ _-]?truth|labels?|annotations?)"

_MASK_AFTER = re.compile(rf"(?P<image>.+?)[ _.-]{_MASK_WORD}(?P<number>[ _-]?(?:ann(?:otator)?)?[ _-]?\d+)?", re.I)

_MASK_BEFORE = re.compile(rf"{_MASK_WORD}[ _.-](?P<image>.+)", re.I)

_MASK_FOLDER = re.compile(
    r"(?:.*[ _-])?(?:masks?|segmentations?|gt|ground[ _-]?truth|labels?|annotations?)(?:[ _-].*|\d*)", re.I
)

_PHOTO_FOLDER = re.compile(r"(?:.*[ _-])?(?:images?|imgs?|photos?|pictures?|pics?|originals?)(?:[ _-].*|\d*)", re.I)


def without_copy_mark(stem: str) -> str:
    """Return a name, without suffix, as it was before a system copied the file: IMG for "IMG (1)" or "IMG - Copy"."""
    return _COPY.sub("", stem)


def composed(name: str) -> str:
    """Return a name in Unicode's composed form (NFC), without blanks at its ends: macOS decomposes names (NFD)."""
    return unicodedata.normalize("NFC", name).strip()


def key_of(name: str) -> str:
    """Return a name as it is compared: composed and in lower case, as copies of a dataset differ in both."""
    return unicodedata.normalize("NFC", composed(name).casefold())


def loose_key_of(stem: str) -> str:
    """Return a name, without suffix, as it is compared where nothing has its `key_of`.

    Percent codes of a URL are decoded, and the mark of a copy and a second suffix are dropped.

    >>> loose_key_of("IMG%20A (1)"), loose_key_of("IMG A.jpg")
    ('img a', 'img a')
    """
    name = key_of(unquote(stem))
    suffix = PurePath(name).suffix
    if suffix in PHOTO_SUFFIXES:
        name = name[: -len(suffix)]
    return " ".join(without_copy_mark(name).split())


def is_added_by_system(name: str) -> bool:
    """Return whether a file or folder is hidden, or added by a system: ._IMG.jpg, .DS_Store, Thumbs.db, __MACOSX."""
    return name.startswith(".") or is_system_file(name)


def masked_photo(stem: str) -> tuple[str, bool]:
    """Return the photo that a file is a mask of by its name, without suffix, and whether the mask has a number.

    These are names that other tools give; an annotator's mask has `masks.ANNOTATOR_MASK`. The photo is "" for any other
    name.

    >>> masked_photo("IMG_7_segmentation"), masked_photo("IMG_7-mask2"), masked_photo("IMG_7")
    (('IMG_7', False), ('IMG_7', True), ('', False))
    """
    name = without_copy_mark(stem)
    match = _MASK_AFTER.fullmatch(name)
    if match:
        return match["image"], match["number"] is not None
    match = _MASK_BEFORE.fullmatch(name)
    return (match["image"], False) if match else ("", False)


def is_for_masks(folders: Sequence[str]) -> bool:
    """Return whether a file is among masks by its folders, of which the last that tells decides.

    >>> is_for_masks(["masks", "train"]), is_for_masks(["dermavqa-segmentations"]), is_for_masks(["masks", "images"])
    (True, True, False)
    """
    for name in reversed(folders):
        if _MASK_FOLDER.fullmatch(name):
            return True
        if _PHOTO_FOLDER.fullmatch(name):
            return False
    return False


def id_fault(eid: object, where: str) -> str:
    """Return why a value is no encounter id, "" if it is one."""
    if isinstance(eid, bool | int | float):
        kind = "true or false" if isinstance(eid, bool) else f"a number ({eid!r:.40})"
        expected = "expected text such as ENC00001; write it in quotes, in every table"
        return f"{where}: encounter_id is {kind}, {expected}"
    if not isinstance(eid, str) or not composed(eid):
        return problem(where, "no encounter_id", "a text such as ENC00001", "complete the row")
    if not eid.strip().isprintable():
        return problem(where, "an encounter_id with control characters", "a plain id", "fix the row")
    return ""
