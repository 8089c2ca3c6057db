"""LabelMe: one JSON file per photo, beside it; polygons, rectangles, circles and masks."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from magic_cli.data.imaging.drawn_masks import DrawnMask, Polygons, ellipse, rectangle
from magic_cli.data.sources.annotations.cases import (
    AnnotatedPhoto,
    AnnotationSource,
    glimpse,
    json_files,
    locate,
    read_table,
)
from magic_cli.data.sources.annotations.shapes import LEFT_OUT, Shape, known_size, numbers, outline, pasted, size_of
from magic_cli.data.sources.files import SourceFiles
from magic_cli.errors import DataError, problem, redact

_OUTLINES = ("polygon", "rotation")


class LabelMe(AnnotationSource):
    """Shapes as LabelMe, AnyLabeling and X-AnyLabeling write them."""

    name = "labelme"
    title = "LabelMe"
    origin = "https://github.com/wkentaro/labelme"
    licence = "that of the photos"
    expected = "one JSON file with shapes and imagePath per photo; the photos themselves (imageData is not read)"

    def tables(self, files: SourceFiles) -> Iterator[str]:
        """Yield the JSON files that have LabelMe's keys."""
        return (path for path in json_files(files) if _is_labelme(path))

    def photos_in(self, path: str, files: SourceFiles) -> Iterator[AnnotatedPhoto]:
        """Yield the photo; the file is read when it is asked for."""
        return _photos(path, files)


SOURCE = LabelMe()


def _is_labelme(path: str) -> bool:
    seen = glimpse(path)
    return b'"shapes"' in seen and any(key in seen for key in (b'"imagePath"', b'"imageData"', b'"imageHeight"'))


def _photos(path: str, files: SourceFiles) -> Iterator[AnnotatedPhoto]:
    name, content = files.name(path), read_table(path, files)
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list):
        raise DataError(problem(name, redact(content), "LabelMe's shapes", "save it with LabelMe once more"))
    yield AnnotatedPhoto(_written(content, path, files), path, name, {"ann0": _shapes(content, shapes, name)})


def _written(content: dict[str, Any], path: str, files: SourceFiles) -> str:
    """Return the name of the photo; where it was renamed together with its JSON file, that of the file."""
    written = content.get("imagePath")
    if isinstance(written, str) and written.strip() and locate(files, path, written):
        return written
    return Path(path).stem if files.photo(Path(path).stem) else str(written or Path(path).stem)


def _shapes(content: dict[str, Any], shapes: Sequence[Any], name: str) -> Iterator[Shape]:
    size = size_of(content.get("imageHeight"), content.get("imageWidth"), name)
    for number, shape in enumerate(shapes):
        where = f"{name}:shapes[{number}]"
        if not isinstance(shape, dict):
            raise DataError(problem(where, redact(shape), "a shape", LEFT_OUT))
        kind = str(shape.get("shape_type") or "polygon")
        label = shape.get("label")
        yield Shape(str(label) if isinstance(label, str | int) else "", _mask(kind, shape, size, where), kind[:40])


def _mask(kind: str, shape: dict[str, Any], size: tuple[int, int] | None, where: str) -> DrawnMask | None:
    """Return the mask of a shape, None for one without area."""
    points = shape.get("points")
    if kind in _OUTLINES or (kind == "rectangle" and isinstance(points, list) and len(points) == 4):
        return Polygons((outline(points, where),), size)
    if kind not in ("rectangle", "circle", "mask"):
        return None
    if not isinstance(points, list) or len(points) != 2 or not all(isinstance(point, list) for point in points):
        raise DataError(problem(where, f"{kind} of {redact(points)}", "two points", LEFT_OUT))
    flat = [value for point in points for value in point]
    if len(flat) != 4:
        raise DataError(problem(where, f"two points of {len(flat)} numbers", "x and y of each", LEFT_OUT))
    left, top, right, bottom = numbers(flat, where).tolist()
    if kind == "circle":  # centre, and a point on it
        radius = math.hypot(right - left, bottom - top)
        return Polygons((ellipse(left, top, radius, radius),), size)
    if kind == "rectangle":
        return Polygons((rectangle(left, top, right, bottom),), size)
    height, width = size or (None, None)
    return pasted(shape.get("mask"), (int(left), int(top)), known_size(height, width, where), where)
