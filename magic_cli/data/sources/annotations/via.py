"""VGG Image Annotator (VIA) 1 and 2: the project, its annotations as JSON, or as CSV."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from magic_cli.data.imaging.drawn_masks import DrawnMask, Polygons, ellipse, rectangle
from magic_cli.data.sources.annotations.cases import (
    AnnotatedPhoto,
    AnnotationSource,
    glimpse,
    json_files,
    read_table,
)
from magic_cli.data.sources.annotations.shapes import LEFT_OUT, Shape, flat_outline, number, numbers
from magic_cli.data.sources.csv_rows import open_csv, tables_with
from magic_cli.data.sources.files import SourceFiles
from magic_cli.errors import DataError, problem, redact
from magic_cli.io.json_files import parse_json

_LONGEST = 1 << 22  # characters of a cell

_LABELS = ("label", "class", "name", "type", "diagnosis", "lesion")  # attributes of a region that say what it is


class Via(AnnotationSource):
    """Regions as the VGG Image Annotator saves them."""

    name = "via"
    title = "VGG Image Annotator (VIA)"
    origin = "https://www.robots.ox.ac.uk/~vgg/software/via/"
    licence = "that of the photos"
    expected = "the project or its annotations, as JSON or CSV; the photos, in any folder"

    def tables(self, files: SourceFiles) -> Iterable[str]:
        """Yield the JSON files of VIA, else its CSV tables, which would say the same once more."""
        found = [path for path in json_files(files) if _is_via(path)]
        return found or tables_with(files, "region_shape_attributes", "region_attributes")

    def photos_in(self, path: str, files: SourceFiles) -> Iterator[AnnotatedPhoto]:
        """Yield the photos."""
        is_json = PurePath(path).suffix.casefold() == ".json"
        return _of_json(path, files) if is_json else _of_csv(path, files)


SOURCE = Via()


def _is_via(path: str) -> bool:
    seen = glimpse(path)
    return b'"regions"' in seen and b'"filename"' in seen and (b'"shape_attributes"' in seen or b"_via_" in seen)


def _of_json(path: str, files: SourceFiles) -> Iterator[AnnotatedPhoto]:
    content, name = read_table(path, files), files.name(path)
    rows = content.get("_via_img_metadata", content) if isinstance(content, dict) else None
    if not isinstance(rows, dict):
        raise DataError(problem(name, redact(content), "VIA's photos", "export the annotations once more"))
    for place, row in enumerate(rows.values()):
        where = f"{name}:photo {place}"
        written = row.get("filename") if isinstance(row, dict) else None
        if not isinstance(written, str) or not written.strip():
            files.issues.add_loss(problem(where, "no filename", "the photo's name", "fix its row"), "cases")
            continue
        yield AnnotatedPhoto(written, path, where, {"ann0": _shapes(row.get("regions"), where)})


def _shapes(regions: Any, where: str) -> Iterator[Shape]:
    """Yield the shapes of a photo: a list in VIA 2, an object by number in VIA 1."""
    rows = list(regions.values()) if isinstance(regions, dict) else regions
    for place, row in enumerate(rows if isinstance(rows, list) else ()):
        if not isinstance(row, dict):
            raise DataError(problem(f"{where}, region {place}", redact(row), "a region", LEFT_OUT))
        yield _shape(row.get("shape_attributes"), row.get("region_attributes"), f"{where}, region {place}")


def _of_csv(path: str, files: SourceFiles) -> Iterator[AnnotatedPhoto]:
    """Yield the photos of a table, whose rows are regions; those of a photo need not stand together."""
    table = open_csv(path, files)
    column = next((name for name in table.columns if name.lstrip("#").strip() == "filename"), table.columns[0])
    regions: dict[str, list[tuple[str, str, str]]] = {}
    places: dict[str, str] = {}
    for row in table.rows(files.issues):
        written = row.get(column)
        if written is None:
            files.issues.add_loss(problem(row.where, "no filename", "the photo's name", "fix the row"), "cases")
            continue
        places.setdefault(written, row.where)
        cells = row.cells["region_shape_attributes"], row.cells["region_attributes"], row.where
        regions.setdefault(written, []).append(cells)
    for written, rows in regions.items():
        yield AnnotatedPhoto(written, path, places[written], {"ann0": _shapes_of_cells(rows)})


def _shapes_of_cells(rows: list[tuple[str, str, str]]) -> Iterator[Shape]:
    for shape, attributes, where in rows:
        parsed = _object(shape, where)
        if parsed:
            yield _shape(parsed, _object(attributes, where), where)


def _object(cell: str, where: str) -> Any:
    try:
        if len(cell) > _LONGEST:
            raise ValueError
        return parse_json(cell.encode()) if cell.strip() else {}
    except (ValueError, RecursionError):
        raise DataError(problem(where, "damaged JSON in a cell", "VIA's attributes", LEFT_OUT)) from None


def _shape(shape: Any, attributes: Any, where: str) -> Shape:
    if not isinstance(shape, dict):
        raise DataError(problem(where, redact(shape), "shape_attributes", LEFT_OUT))
    kind = str(shape.get("name"))[:40]
    return Shape(_label(attributes), _mask(kind, shape, where), kind)


def _label(attributes: Any) -> str:
    """Return what a region is: the attribute of a usual name, else the only one; a menu's chosen options too."""
    if not isinstance(attributes, dict):
        return ""
    by_name = {str(key).casefold(): value for key, value in attributes.items()}
    value = next((by_name[name] for name in _LABELS if by_name.get(name)), None)
    if value is None and len(by_name) == 1:
        value = next(iter(by_name.values()))
    if isinstance(value, dict):
        value = "; ".join(str(key) for key, chosen in value.items() if chosen is True)
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _mask(kind: str, shape: Mapping[str, Any], where: str) -> DrawnMask | None:
    """Return the mask of a shape, None for one without area."""
    if kind == "polygon":
        across, down = (numbers(shape.get(key), where).tolist() for key in ("all_points_x", "all_points_y"))
        if len(across) != len(down):
            got = f"{len(across)} values of x and {len(down)} of y"
            raise DataError(problem(where, got, "as many of each", LEFT_OUT))
        return Polygons((flat_outline([value for pair in zip(across, down, strict=True) for value in pair], where),))
    if kind == "rect":
        left, top, width, height = (number(shape.get(key), where) for key in ("x", "y", "width", "height"))
        return Polygons((rectangle(left, top, left + width, top + height),))
    if kind not in ("circle", "ellipse"):
        return None
    x, y = (number(shape.get(key), where) for key in ("cx", "cy"))
    radii = ("r", "r") if kind == "circle" else ("rx", "ry")
    across_, down_ = (number(shape.get(key), where) for key in radii)
    return Polygons((ellipse(x, y, across_, down_, number(shape.get("theta") or 0, where)),))
