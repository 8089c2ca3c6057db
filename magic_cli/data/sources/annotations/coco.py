"""COCO instance annotations: one JSON file of all photos, or one per split; outlines, run lengths and crowds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from magic_cli.data.imaging.drawn_masks import Polygons, RunLengths, coco_counts
from magic_cli.data.issues import IssueLog
from magic_cli.data.sources.annotations.cases import (
    AnnotatedPhoto,
    AnnotationSource,
    glimpse,
    json_files,
    read_table,
)
from magic_cli.data.sources.annotations.shapes import LEFT_OUT, Shape, counts, flat_outline, known_size, size_of
from magic_cli.data.sources.files import SourceFiles, innermost_split
from magic_cli.data.sources.walk import below
from magic_cli.errors import DataError, problem, redact, redact_key

_KEYS = (
    *(b'"images"', b'"annotations"', b'"categories"', b'"segmentation"'),
    *(b'"file_name"', b'"category_id"', b'"image_id"', b'"iscrowd"'),
)

_EXPECTED, _REMEDY = "COCO instances: images, annotations and categories", "export it once more"


class Coco(AnnotationSource):
    """Instances in COCO's JSON, as CVAT, Label Studio, Roboflow, makesense.ai and others export them."""

    name = "coco"
    title = "COCO instance annotations"
    origin = "https://cocodataset.org/#format-data"
    licence = "that of each photo, where the file names one"
    expected = "a JSON file with images, annotations and categories; the photos, in any folder"

    def tables(self, files: SourceFiles) -> Iterator[str]:
        """Yield the JSON files that have COCO's keys."""
        return (path for path in json_files(files) if _is_coco(path))

    def photos_in(self, path: str, files: SourceFiles) -> Iterator[AnnotatedPhoto]:
        """Yield the photos, without a split."""
        return _Table(path, files).photos()

    def photos(self, files: SourceFiles, tables: Sequence[str]) -> Iterator[AnnotatedPhoto]:
        """Yield the photos; their split is that in the name or folder of each file, if all have one."""
        splits = {path: innermost_split(below(path, files.root)) for path in tables}
        photos = super().photos(files, tables)
        return (replace(photo, split=splits[photo.table]) for photo in photos) if all(splits.values()) else photos


SOURCE = Coco()


def _is_coco(path: str) -> bool:
    seen = glimpse(path)
    return sum(key in seen for key in _KEYS) >= 4 and (b'"segmentation"' in seen or b'"bbox"' in seen)


class _Table:
    """One file, with its annotations sorted by photo."""

    def __init__(self, path: str, files: SourceFiles) -> None:
        """Read the file; raises DataError if it is not COCO's."""
        self.path, self.name, self.issues = path, files.name(path), files.issues
        content = read_table(path, files)
        lists = [content.get(key) for key in ("images", "annotations")] if isinstance(content, dict) else []
        if not lists or not all(isinstance(rows, list) for rows in lists):
            raise DataError(problem(self.name, redact(content), _EXPECTED, _REMEDY))
        self.images: list[Any] = content["images"]
        self.categories = _names(content.get("categories"), "name", "name")
        self.licences = _names(content.get("licenses"), "name", "url")
        self.by_image = _by_image(content.pop("annotations"), self.name, self.issues)

    def photos(self) -> Iterator[AnnotatedPhoto]:
        """Yield the photos, and forget each."""
        for number, image in enumerate(self.images):
            self.images[number] = None
            where = f"{self.name}:images[{number}]"
            written = image.get("file_name") if isinstance(image, dict) else None
            if not isinstance(written, str) or not written.strip():
                self.issues.add_loss(problem(where, "no file_name", "the photo's name", "fix its row"), "cases")
                continue
            yield AnnotatedPhoto(
                written=written,
                table=self.path,
                where=where,
                shapes={"ann0": self._shapes(image, self.by_image.pop(_key(image.get("id")), []), where)},
                licence=self.licences.get(_key(image.get("license")), ""),
            )
        lost = sum(map(len, self.by_image.values()))
        if lost:
            got = f"{lost:,} annotations of photos that images lacks"
            self.issues.add_loss(problem(self.name, got, "a row per photo", _REMEDY), "masks", len(self.by_image))

    def _shapes(self, image: Mapping[str, Any], rows: list[Any], where: str) -> Iterator[Shape]:
        size = size_of(image.get("height"), image.get("width"), where) if rows else None
        for row in rows:
            label = self.categories.get(_key(row.get("category_id")), "")
            yield _shape(row.get("segmentation"), label, size, f"{where}, annotation {redact_key(row.get('id'))}")


def _shape(segmentation: Any, label: str, size: tuple[int, int] | None, where: str) -> Shape:
    if not segmentation:
        return Shape(label, None, "box without a segmentation")
    if isinstance(segmentation, dict):
        sides = segmentation.get("size")
        height, width = sides if isinstance(sides, list) and len(sides) == 2 else (None, None)
        written = segmentation.get("counts")
        lengths = coco_counts_of(written, where) if isinstance(written, str) else counts(written, where)
        return Shape(label, RunLengths(lengths, known_size(height, width, where)))
    if isinstance(segmentation, list) and not isinstance(segmentation[0], list):
        segmentation = [segmentation]
    if not isinstance(segmentation, list):
        raise DataError(problem(where, f"segmentation {redact(segmentation)}", "outlines or run lengths", _REMEDY))
    return Shape(label, Polygons(tuple(flat_outline(ring, where) for ring in segmentation), size))


def coco_counts_of(text: str, where: str) -> Any:
    """Return `coco_counts` of a text; its error names the place."""
    try:
        return coco_counts(text)
    except DataError as error:
        raise DataError(f"{where}: {error.problems[0]}; {LEFT_OUT}") from None


def _by_image(rows: list[Any], name: str, issues: IssueLog) -> dict[object, list[Any]]:
    found: dict[object, list[Any]] = {}
    for number, row in enumerate(rows):
        if isinstance(row, dict) and _key(row.get("image_id")) is not None:
            found.setdefault(_key(row["image_id"]), []).append(row)
        else:
            where = f"{name}:annotations[{number}]"
            issues.add_loss(problem(where, "no image_id", "that of its photo", "fix the row"), "masks")
    return found


def _key(value: object) -> object:
    """Return an id of any type as it is compared: 7, 7.0 and "7" are one; None for a list or an object."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int | str) and not isinstance(value, bool) else None


def _names(rows: Any, *keys: str) -> dict[object, str]:
    """Return id to name of categories or licences, as far as they are well formed."""
    found: dict[object, str] = {}
    for row in rows if isinstance(rows, list) else ():
        texts = [row.get(key) for key in keys] if isinstance(row, dict) else []
        name = next((text for text in texts if isinstance(text, str) and text.strip()), "")
        if name:
            found[_key(row.get("id"))] = " ".join(name.split())[:200]
    return found
