"""The photos that `--images` names, files and folders, with an id each, and the case that each is of."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from magic_cli.data.imaging.masks import ANNOTATOR_MASK
from magic_cli.data.issues import IssueLog, counted
from magic_cli.data.names import PHOTO_SUFFIXES, is_for_masks, key_of, masked_photo
from magic_cli.data.prepared import MANIFEST
from magic_cli.data.sources.cells import image_id_of
from magic_cli.data.sources.dermavqa.scan import is_challenge_photo
from magic_cli.data.sources.walk import below, walk
from magic_cli.errors import DataError, MagicError, problem
from magic_cli.io.files import StrPath
from magic_cli.io.ownership import read as record_in
from magic_cli.io.run_record import FILE

_ENCOUNTER = re.compile(r"IMG_(?P<case>ENC\w*)_\w+", re.I)

_NO_NAME = re.compile(r'[\\/:*?"<>|]')  # in a file's name, on any system

_LONGEST = 150  # bytes of an id: names of results have a suffix


@dataclass(frozen=True, slots=True)
class OwnPhoto:
    """A photo to predict.

    Attributes:
        path: absolute.
        shown: as it was given, or below the folder that was given: for people, and to match a text with.
        image_id: unique, and fit to be the name of a file on any system.
        case_id: of the case that it is of, unique among cases.
    """

    path: str
    shown: str
    image_id: str
    case_id: str


@dataclass(frozen=True, slots=True)
class _Found:
    """A photo before it has ids: `case` tells cases apart, `folders` are those between the given folder and it."""

    path: str
    shown: str
    case: tuple[str, str]
    folders: tuple[str, ...]


def list_photos(images: Sequence[StrPath], out: Path, issues: IssueLog) -> list[OwnPhoto]:
    """Return the photos in files and folders, at any depth of these, in a fixed order.

    A photo named as the challenge does, IMG_ENC00001_00001.jpg, is of case ENC00001. Others in one folder are of one
    case, which has the folder's name; a file that is given by itself is a case. Ids are names without suffix; where
    several have one name, the folders come before it, and then a number behind it.

    In folders, hidden files, masks of a photo beside them and results of this program are skipped; links are followed.

    Args:
        images: files and folders.
        out: the folder of results, which is not looked into.
        issues: what cannot be read goes there.

    Raises:
        DataError: one of them is not there, is a prepared dataset, or there is no photo at all.
    """
    found: dict[str, _Found] = {}
    for given in images:
        for photo in _photos_in(Path(given), out, issues):
            found.setdefault(photo.path, photo)
    if not found and not issues.problems:
        where = ", ".join(str(image) for image in images[:3])
        expected = "a photo, such as a file ending in .jpg, .png or .tif"
        raise DataError(problem(where, "no photo", expected, "check --images"))
    photos = list(found.values())
    ids = _unique([(PurePath(photo.path).name, photo.folders) for photo in photos])
    cases = list(dict.fromkeys(photo.case for photo in photos))
    named = dict(zip(cases, _unique([(name, ()) for _, name in cases]), strict=True))
    pairs = zip(photos, ids, strict=True)
    return [OwnPhoto(photo.path, photo.shown, image_id, named[photo.case]) for photo, image_id in pairs]


def check_given(given: Path) -> None:
    """Refuse what is not there.

    Raises:
        DataError: as said, or it is a prepared dataset.
    """
    try:
        is_there, is_folder = os.path.lexists(given), given.is_dir()
    except ValueError:  # a null byte
        is_there = is_folder = False
    if not is_there:
        raise DataError(problem(given, "no such file or folder", "a photo, or a folder of photos", "check --images"))
    if is_folder and (given / MANIFEST).is_file():
        raise DataError(problem(given, "a prepared dataset", "photos", "predict it with --data and --split"))


def _photos_in(given: Path, out: Path, issues: IssueLog) -> Iterable[_Found]:
    check_given(given)
    return _in_folder(given, out, issues) if given.is_dir() else [_single(given)]


def _single(given: Path) -> _Found:
    path = os.path.abspath(given)  # noqa: PTH100  a link keeps its name
    return _Found(path, str(given), _case_of(path, path, given.name), ())


def _case_of(path: str, key: str, name: str) -> tuple[str, str]:
    """Return what tells the case of a photo from others, and its name."""
    match = _ENCOUNTER.fullmatch(PurePath(path).stem) if is_challenge_photo(path) else None
    return ("", match["case"]) if match else (key, name)


def _in_folder(given: Path, out: Path, issues: IssueLog) -> Iterator[_Found]:
    root = given.resolve()
    results: dict[str, bool] = {str(root): False}
    paths: list[str] = []
    for path, irregular in walk(root, issues):
        if PurePath(path).suffix.casefold() not in PHOTO_SUFFIXES or _is_result(Path(path).parent, out, results):
            continue
        if irregular:
            line = problem(_shown(given, path, root), irregular, "a photo", "left out")
            issues.add_loss(line, "images")
        else:
            paths.append(path)
    beside = {(PurePath(path).parent, key_of(PurePath(path).stem)) for path in paths}
    masks = 0
    for path in paths:
        relative = PurePath(below(path, root))
        if _is_mask(PurePath(path), relative, beside):
            masks += 1
            continue
        folders = relative.parts[:-1]
        key = str(PurePath(path).parent)
        yield _Found(
            path, _shown(given, path, root), _case_of(path, key, folders[-1] if folders else root.name), folders
        )
    if masks:
        issues.note(f"{given}: {counted(masks, 'file is', 'files are')} masks by their names or folders: not predicted")


def _shown(given: Path, path: str, root: Path) -> str:
    return (given / below(path, root)).as_posix()


def _is_result(folder: Path, out: Path, known: dict[str, bool]) -> bool:
    """Return whether a folder is the results' own, or one that this program wrote, or lies in one."""
    name = str(folder)
    if name not in known:
        known[name] = folder == out or _has_record(folder) or _is_result(folder.parent, out, known)
    return known[name]


def _has_record(folder: Path) -> bool:
    try:
        return record_in(folder / FILE) is not None
    except MagicError:  # a file of that name by somebody else
        return False


def _is_mask(path: PurePath, relative: PurePath, beside: set[tuple[PurePath, str]]) -> bool:
    """Return whether a file is a mask by its name or folder; "lesion_12.jpg" is one only beside "12.jpg"."""
    if ANNOTATOR_MASK.fullmatch(path.name) or is_for_masks(relative.parts[:-1]):
        return True
    photo, _ = masked_photo(path.stem)
    return bool(photo) and (path.parent, key_of(photo)) in beside


def _unique(names: Sequence[tuple[str, tuple[str, ...]]]) -> list[str]:
    """Return an id for each name, all different: with the folders before it where another is alike."""
    short = [_fit(name) for name, _ in names]
    times = Counter(map(key_of, short))
    ids: list[str] = []
    taken: set[str] = set()
    for (name, folders), plain in zip(names, short, strict=True):
        wanted = _fit("_".join((*folders, name))) if folders and times[key_of(plain)] > 1 else plain
        free, number = wanted, 1
        while key_of(free) in taken:
            number += 1
            free = f"{wanted}-{number}"
        taken.add(key_of(free))
        ids.append(free)
    return ids


def _fit(name: str) -> str:
    """Return a name, without the suffix of a photo, as the name of a file of any system.

    >>> _fit("a:b?.jpg"), _fit("..."), _fit("Mole 1.JPG")
    ('a_b_', 'photo', 'Mole 1')
    """
    text = _NO_NAME.sub("_", image_id_of(name))
    return text.encode()[:_LONGEST].decode(errors="ignore").strip(" .") or "photo"
