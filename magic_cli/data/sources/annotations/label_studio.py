"""Label Studio: the JSON export, full or minimal; brush strokes, polygons, rectangles and ellipses, per annotator."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from magic_cli.data.imaging.drawn_masks import Brush, DrawnMask, Polygons, ellipse, rectangle
from magic_cli.data.sources.annotations.cases import (
    AnnotatedPhoto,
    AnnotationSource,
    glimpse,
    json_files,
    locate,
    read_table,
)
from magic_cli.data.sources.annotations.shapes import LEFT_OUT, Shape, counts, known_size, number, outline
from magic_cli.data.sources.files import SourceFiles
from magic_cli.errors import DataError, problem, redact

_KEYS = (b'"original_width"', b'"from_name"', b'"annotations"', b'"result"')

_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the name of an uploaded file

_LABELS = re.compile(r"(?:brush|polygon|rectangle|ellipse|keypoint|hypertext|vector|bitmask)?labels")


class LabelStudio(AnnotationSource):
    """Tasks as Label Studio exports them as JSON or JSON-MIN."""

    name = "label-studio"
    title = "Label Studio"
    origin = "https://labelstud.io/guide/export"
    licence = "that of the photos"
    expected = "the JSON (or JSON-MIN) export; the photos under the names that they were uploaded with, or had before"

    def tables(self, files: SourceFiles) -> Iterator[str]:
        """Yield the JSON files that are exports of Label Studio."""
        return (path for path in json_files(files) if _is_export(path))

    def photos_in(self, path: str, files: SourceFiles) -> Iterator[AnnotatedPhoto]:
        """Yield the photos; each annotation of a task is that of an annotator, in the order of the export."""
        return _photos(path, files)


SOURCE = LabelStudio()


def _is_export(path: str) -> bool:
    seen = glimpse(path)
    is_minimal = b'"original_width"' in seen and _LABELS.search(seen.decode("latin-1")) is not None
    return seen.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[") and (
        is_minimal or (b'"result"' in seen and b'"annotations"' in seen)
    )


def _photos(path: str, files: SourceFiles) -> Iterator[AnnotatedPhoto]:
    name, tasks = files.name(path), read_table(path, files)
    for place, task in enumerate(tasks if isinstance(tasks, list) else ()):
        tasks[place] = None
        where = f"{name}:[{place}]"
        url = _image(task)
        if not url:
            expected, remedy = "the photo's address in data", "fix the task"
            files.issues.add_loss(problem(where, redact(task), expected, remedy), "cases")
            continue
        shapes = {f"ann{number}": _shapes(rows, where) for number, rows in enumerate(_annotations(task))}
        yield AnnotatedPhoto(_name(files, path, url), path, where, shapes)


def _image(task: Any) -> str:
    """Return the address of a task's photo: that under "image", or the first that is named as a photo; "" for none."""
    data = task.get("data", task) if isinstance(task, dict) else None
    if not isinstance(data, dict):
        return ""
    texts = [text for text in (data.get("image"), *data.values()) if isinstance(text, str) and text.strip()]
    named = (text for text in texts if re.search(r"\.[a-z0-9]{3,5}(?:$|[?&#])", text, re.I))
    return next(named, texts[0] if isinstance(data.get("image"), str) and texts else "")


def _name(files: SourceFiles, path: str, url: str) -> str:
    """Return the name of the photo at an address, as it lies in the dataset: with or without the mark of an upload."""
    split = urlsplit(url.replace("\\", "/")) if "://" in url or url.startswith("/data/") else None
    written = url
    if split is not None:
        local = parse_qs(split.query).get("d", [""])[0] if "local-files" in split.path else ""
        written = local or unquote(split.path)
    if locate(files, path, written):
        return written
    folder, slash, name = written.rpartition("/")
    plain = _UPLOAD.sub("", name, count=1) if _UPLOAD.match(name) else name
    return f"{folder}{slash}{plain}" if locate(files, path, f"{folder}{slash}{plain}") else written


def _annotations(task: Mapping[str, Any]) -> list[list[Any]]:
    """Return the results of each annotation that was not cancelled."""
    if "annotations" in task or "completions" in task:
        found = task.get("annotations") or task.get("completions")
        rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
        results = [row.get("result") for row in rows if not row.get("was_cancelled")]
        return [result for result in results if isinstance(result, list)]
    found = [value for value in task.values() if isinstance(value, list)]  # the minimal export: lists of values
    return [[{"value": item, **_declared(item)} for value in found for item in value if isinstance(item, dict)]]


def _declared(item: Mapping[str, Any]) -> dict[str, Any]:
    return {key: item.get(key) for key in ("original_width", "original_height", "image_rotation")}


def _shapes(rows: Sequence[Any], where: str) -> Iterator[Shape]:
    for number_, row in enumerate(rows):
        value = row.get("value") if isinstance(row, dict) else None
        if not isinstance(value, dict):
            continue
        kind = next((key for key in value if _LABELS.fullmatch(key)), "")
        kind = kind or ("brushlabels" if "rle" in value else "polygonlabels" if "points" in value else "")
        if not kind:  # a choice, a text: no shape
            continue
        labels = value.get(kind)
        label = str(labels[0]) if isinstance(labels, list) and labels else ""
        yield Shape(label, _mask(value, row, f"{where}, result {number_}"), kind.removesuffix("labels") or "labels")


def _mask(value: Mapping[str, Any], row: Mapping[str, Any], where: str) -> DrawnMask | None:
    if not {"rle", "points", "width", "radiusX"} & value.keys():
        return None
    size = known_size(row.get("original_height"), row.get("original_width"), where)
    if row.get("image_rotation"):
        remedy = "turn the photo and annotate it once more; left out"
        raise DataError(problem(where, "an image_rotation", "a photo as it is", remedy))
    if "rle" in value:
        values = counts(value["rle"], where)
        if values.size and values.max() > 255:
            raise DataError(problem(where, "a brush's code that is no bytes", "numbers from 0 to 255", LEFT_OUT))
        return Brush(values.astype(np.uint8).tobytes(), size)
    percent = np.array([size[1], size[0]]) / 100
    if "points" in value:
        return Polygons((outline(value["points"], where) * percent,), size)
    x, y = (number(value.get(key), where) for key in ("x", "y"))
    across, down = (
        number(value.get(key), where) for key in (("radiusX", "radiusY") if "radiusX" in value else ("width", "height"))
    )
    angle = math.radians(number(value.get("rotation") or 0, where))
    x, across, y, down = x * percent[0], across * percent[0], y * percent[1], down * percent[1]
    if "radiusX" in value:
        return Polygons((ellipse(x, y, across, down, angle),), size)
    turn = np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))])
    return Polygons((rectangle(0, 0, across, down) @ turn + (x, y),), size)  # turned about its upper left corner
