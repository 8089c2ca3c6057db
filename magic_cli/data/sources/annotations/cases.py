"""Cases of annotated photos: where the photo lies, its id, split, label and masks; the same for every format."""

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from magic_cli.data.imaging.drawn_masks import DrawnMask, united
from magic_cli.data.issues import counted
from magic_cli.data.names import PHOTO_SUFFIXES, key_of
from magic_cli.data.sources.annotations.shapes import Shape
from magic_cli.data.sources.cells import image_id_of
from magic_cli.data.sources.files import SourceFiles, innermost_split
from magic_cli.data.sources.source import LONGEST_ATTRIBUTE, PATIENT, RawCase, RawDataset, RawPhoto, ReadOptions, Source
from magic_cli.data.sources.walk import below
from magic_cli.errors import DataError, problem, redact_key, shorten
from magic_cli.io.json_files import read_json
from magic_cli.io.regular_file import open_regular
from magic_cli.records import Case

ANNOTATIONS = "annotations"  # the attribute with the labels of all shapes of a photo

_GLIMPSE = 1 << 16  # bytes at either end of a file in which its keys are looked for

_VALUES = 10_000_000  # of a file: nearly all are coordinates, which take little memory

_ARTEFACT = re.compile(
    r"rulers?|scale[ _-]?bars?|arti?efacts?|artifacts?|background|hairs?|(?:pen[ _-]?)?markers?|(?:air[ _-]?)?bubbles?|"
    r"ink|vignette|dark[ _-]corners?|sticker|band[ _-]?aid|ignore|void|(?:normal|healthy)[ _-]?skin|skin",
    re.I,
)

_NO_CLASS = re.compile(
    r"(?:skin[ _-]?)?lesions?(?:[ _-]?(?:area|mask|region))?|masks?|objects?|foreground|segmentations?|regions?|rois?|"
    r"polygons?|brush|unlabell?ed|unknown|\d*",
    re.I,
)

_PATIENT = re.compile(r"(?:patients?|subjects?)[ _-]?(?=\w*\d)\w+", re.I)


@dataclass(frozen=True, slots=True)
class AnnotatedPhoto:
    """One photo as a file of annotations describes it.

    Attributes:
        written: its name or path there.
        table: absolute path of that file.
        where: the place of its description in messages.
        shapes: annotator ("ann0", ...) to its shapes; iterating them raises DataError where one is damaged.
        split: that of the file of annotations, "" where it has none.
        licence: of the photo, "" if none is named.
        attributes: what else is said about it.
    """

    written: str
    table: str
    where: str
    shapes: Mapping[str, Iterable[Shape]]
    split: str = ""
    licence: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


def glimpse(path: str) -> bytes:
    """Return the first and the last 64 KiB of a file, b"" if it cannot be read; for `Source.find`."""
    try:
        with open_regular(path) as file:
            head = file.read(_GLIMPSE) or b""
            start = max(len(head), file.seek(0, 2) - _GLIMPSE)
            file.seek(start)
            return head + (file.read(_GLIMPSE) or b"")
    except OSError:
        return b""


def json_files(files: SourceFiles) -> list[str]:
    """Return the JSON files of a dataset."""
    return files.named("*.json")


def read_table(path: str, files: SourceFiles) -> Any:
    """Return the value of a JSON file; raises DataError with its path below the root."""
    try:
        return read_json(Path(path), values=_VALUES)
    except DataError as error:
        raise DataError(error.problems[0].replace(path, files.name(path))) from None


def folders_are_splits(files: SourceFiles) -> bool:
    """Return whether each folder with photos or masks names a split, and they name several; note it if only some do."""
    splits = [innermost_split(folder) for folder in files.folders()]
    named = {split for split in splits if split}
    if len(named) > 1 and "" in splits:
        files.issues.note("folders name the split of some photos only: the split of none is taken from them")
    return len(named) > 1 and "" not in splits


def group_of(parts: Iterable[str]) -> str:
    """Return the patient that a folder names, such as "patient_012"; "" where none does."""
    return next((part for part in reversed(list(parts)) if _PATIENT.fullmatch(part)), "")


class Ids:
    """Ids of photos: their names, or their paths where two have one name."""

    def __init__(self, root: Path) -> None:
        self._root, self._taken = root, set[str]()

    def of(self, path: str, written: str) -> str:
        """Return a new id of the photo at a path, "" for one that is not there."""
        image_id = image_id_of(written)
        if key_of(image_id) in self._taken and path:
            image_id = image_id_of(below(path, self._root).replace("/", "_"))
        self._taken.add(key_of(image_id))
        return image_id


class Annotations:
    """Makes cases of the photos that a format describes, and counts what is not used."""

    def __init__(self, files: SourceFiles) -> None:
        self._files, self._issues = files, files.issues
        self._ids = Ids(files.root)
        self._seen: dict[str, str] = {}
        self._by_folder = folders_are_splits(files)
        self._skipped: Counter[str] = Counter()
        self._artefacts: Counter[str] = Counter()
        self._bare = 0

    def cases(self, photos: Iterable[AnnotatedPhoto]) -> Iterator[RawCase]:
        """Yield a case per photo; at the end, note what was not used."""
        for photo in photos:
            path = locate(self._files, photo.table, photo.written)
            key = path or key_of(photo.written)
            if key in self._seen:
                got = f"a photo that {self._seen[key]} describes already"
                self._issues.add_loss(problem(photo.where, got, "each photo once", "join them"), "cases")
                continue
            self._seen[key] = photo.where
            yield self._case(photo, path)
        self._note()

    def _case(self, photo: AnnotatedPhoto, path: str) -> RawCase:
        image_id = self._ids.of(path, photo.written) or redact_key(photo.where)
        labels: dict[str, None] = {}
        masks = {annotator: self._mask(shapes, labels) for annotator, shapes in photo.shapes.items()}
        drawn: dict[str, str | DrawnMask] = {annotator: mask for annotator, mask in masks.items() if mask is not None}
        self._bare += not drawn
        folders = PurePath(below(path, self._files.root)).parts[:-1] if path else ()
        classes = [label for label in labels if not _NO_CLASS.fullmatch(label)]
        attributes = {name: text[:LONGEST_ATTRIBUTE] for name, text in photo.attributes.items() if text}
        if labels:
            attributes[ANNOTATIONS] = "; ".join(labels)[:LONGEST_ATTRIBUTE]
        group = group_of(folders)
        if group:
            attributes[PATIENT] = group
        case = Case(
            case_id=image_id,
            split=photo.split or (innermost_split(PurePath(*folders)) if self._by_folder else ""),
            image_ids=(image_id,),
            label=classes[0] if len(classes) == 1 else None,
            attributes=attributes,
            group_id=group,
            licence=photo.licence,
        )
        return RawCase(case, (RawPhoto(image_id, path, drawn),) if path else (), photo.where)

    def _mask(self, shapes: Iterable[Shape], labels: dict[str, None]) -> DrawnMask | None:
        """Return what all shapes mark together; a damaged one leaves out all, as a part of a mask is none."""
        parts: list[DrawnMask] = []
        try:
            for shape in shapes:
                label = " ".join(shape.label.split())
                if shape.mask is None:
                    self._skipped[shape.kind] += 1
                elif any(_ARTEFACT.fullmatch(part.strip()) for part in re.split(r"[/>:]", label)):
                    self._artefacts[label] += 1
                else:
                    labels.setdefault(label[:200]) if label else None
                    parts.append(shape.mask)
        except DataError as error:
            self._issues.add_loss(error.problems[0], "masks")
            return None
        return united(parts) if parts else None

    def _note(self) -> None:
        if self._artefacts:
            self._issues.note(f"shapes that mark no lesion are not used: {_listed(self._artefacts)}")
        if self._skipped:
            self._issues.note(f"shapes without an area are not used: {_listed(self._skipped)}")
        if self._bare:
            verb = counted(self._bare, "photo has", "photos have")
            self._issues.note(f"{verb} annotations without a mask, or none")
        rest = self._files.photo_count - sum(1 for key in self._seen if PurePath(key).is_absolute())
        if rest > 0:
            verb = counted(rest, "picture is", "pictures are")
            self._issues.note(f"{verb} in no annotation: not used")


def _listed(counted: Counter[str]) -> str:
    return shorten((f"{name or '(unnamed)'} {number:,}" for name, number in counted.most_common()), 12)


def locate(files: SourceFiles, table: str, written: str) -> str:
    """Return the absolute path of the photo that a file of annotations names, "" if it is not there.

    It is looked for beside that file first, as photos of several splits may have one name, then as `SourceFiles.photo`
    does; of a path that leads out of the dataset, only the name counts.
    """
    name = written.replace("\\", "/").strip()
    if any(part in ("", "..") or ":" in part for part in PurePath(name).parts) or name.startswith("/"):
        name = name.rpartition("/")[2]
    folder = Path(table).parent
    is_photo = PurePath(name).suffix.casefold() in PHOTO_SUFFIXES and name not in ("", ".", "..") and "\0" not in name
    for place in (folder, folder / "images", folder.parent, folder.parent / "images") if is_photo else ():
        candidate = place / name
        try:
            if place.is_relative_to(files.root) and candidate.is_file():
                return str(candidate)
        except (OSError, ValueError):  # a name too long
            return ""
    return files.photo(name) if len(name) <= 1000 and "\0" not in name else ""


class AnnotationSource(Source):
    """An adapter for a format in which files of annotations describe photos."""

    @abstractmethod
    def tables(self, files: SourceFiles) -> Iterable[str]:
        """Yield the files of annotations, in a fixed order."""

    @abstractmethod
    def photos_in(self, path: str, files: SourceFiles) -> Iterator[AnnotatedPhoto]:
        """Yield the photos that one file describes; raises DataError if it cannot be read."""

    def photos(self, files: SourceFiles, tables: Sequence[str]) -> Iterator[AnnotatedPhoto]:
        """Yield the photos that these files describe; one that cannot be read goes to `files.issues`."""
        for path in tables:
            try:
                yield from self.photos_in(path, files)
            except DataError as error:
                files.issues.add_loss(error.problems[0], "cases")

    def find(self, files: SourceFiles) -> str:
        """Return the first file of annotations."""
        return next(iter(self.tables(files)), "")

    def read(self, files: SourceFiles, options: ReadOptions) -> RawDataset:  # noqa: ARG002  nothing to choose
        """Return the dataset.

        Raises:
            DataError: there is no file of annotations of this format.
        """
        tables = list(self.tables(files))
        if not tables:
            raise DataError(problem(files.root, f"no file of {self.title}", self.expected, "check --data and --source"))
        cases = Annotations(files).cases(self.photos(files, tables))
        return RawDataset(self.name, files.root, cases, files.issues, files.digests(*tables))
