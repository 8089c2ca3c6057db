"""CVAT for images 1.1: one XML file; polygons, boxes, ellipses and masks; entities are refused."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from xml.parsers import expat

import numpy as np

from magic_cli.data.imaging.drawn_masks import DrawnMask, Polygons, Ring, RunLengths, ellipse, rectangle
from magic_cli.data.sources.annotations.cases import AnnotatedPhoto, AnnotationSource, glimpse
from magic_cli.data.sources.annotations.shapes import LEFT_OUT, Shape, counts, flat_outline, known_size, number, size_of
from magic_cli.data.sources.files import SourceFiles, split_of
from magic_cli.errors import DataError, problem, redact
from magic_cli.io.regular_file import open_regular

_SHAPES = frozenset({"polygon", "box", "ellipse", "mask", "polyline", "points", "cuboid", "skeleton", "tag"})

_LONGEST = 1 << 24  # characters of an attribute

_CHUNK = 1 << 16

_REMEDY = "export it as CVAT for images 1.1"

Attributes = Mapping[str, str]


class Cvat(AnnotationSource):
    """Shapes as CVAT exports them in its own format for images."""

    name = "cvat"
    title = "CVAT for images 1.1"
    origin = "https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/"
    licence = "that of the photos"
    expected = "annotations.xml; the photos, in any folder"

    def tables(self, files: SourceFiles) -> Iterator[str]:
        """Yield the XML files that are CVAT's."""
        return (path for path in files.named("*.xml") if _is_cvat(path))

    def photos_in(self, path: str, files: SourceFiles) -> Iterator[AnnotatedPhoto]:
        """Yield the photos; the split is CVAT's subset, where they have one."""
        return _photos(path, files)


SOURCE = Cvat()


def _is_cvat(path: str) -> bool:
    seen = glimpse(path)
    return b"<annotations" in seen and (b"<image" in seen or b"<track" in seen or b"<meta" in seen)


@dataclass
class _Image:
    """An element `image` with the elements in it."""

    attributes: Attributes
    shapes: list[tuple[str, Attributes]] = field(default_factory=list)


class _Reader:
    """Collects the images of a stream of XML; an element DOCTYPE ends it."""

    def __init__(self, name: str) -> None:
        self.name, self.images = name, list[_Image]()
        self._open: _Image | None = None
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = False
        self.parser.StartDoctypeDeclHandler = self._refuse_doctype
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end

    def _refuse_doctype(self, *_: object) -> None:
        remedy = "remove it: entities are not read"
        raise DataError(problem(self.name, "a document type (DOCTYPE)", "plain XML", remedy))

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "track":
            raise DataError(problem(self.name, "tracks of a video", "annotations of images", _REMEDY))
        if tag == "image":
            self._open = _Image(attributes)
        elif tag in _SHAPES and self._open is not None:
            self._open.shapes.append((tag, attributes))

    def _end(self, tag: str) -> None:
        if tag == "image" and self._open is not None:
            self.images.append(self._open)
            self._open = None


def _images(path: str, name: str) -> Iterator[_Image]:
    """Yield the images of a file; raises DataError, one line, where it is no such XML."""
    reader = _Reader(name)
    try:
        with open_regular(path) as file:
            while chunk := file.read(_CHUNK):
                reader.parser.Parse(chunk, False)
                yield from reader.images
                reader.images.clear()
            reader.parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise DataError(f"{name}:{error.lineno}: not valid XML; was it cut off? {_REMEDY}") from None
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror}); check the file") from None


def _photos(path: str, files: SourceFiles) -> Iterator[AnnotatedPhoto]:
    name = files.name(path)
    for place, image in enumerate(_images(path, name)):
        where = f"{name}:image {place}"
        written = image.attributes.get("name", "").strip()
        if written:
            yield _photo(image, written, path, where)
        else:
            files.issues.add_loss(problem(where, "no name", "the photo's file", "fix the element"), "cases")


def _photo(image: _Image, written: str, path: str, where: str) -> AnnotatedPhoto:
    subset = image.attributes.get("subset", "")
    split = split_of(f"{PurePath(subset).name}.")
    return AnnotatedPhoto(written, path, where, {"ann0": _shapes(image, where)}, split)


def _shapes(image: _Image, where: str) -> Iterator[Shape]:
    if not image.shapes:
        return
    height, width = (_whole(image.attributes.get(side), where) for side in ("height", "width"))
    size = size_of(height, width, where)
    for tag, attributes in image.shapes:
        mask = _mask(tag, attributes, size, f"{where}, {tag}")
        if mask is not None or tag != "tag":  # a tag is a label of the photo
            yield Shape(attributes.get("label", ""), mask, tag)


def _mask(tag: str, attributes: Attributes, size: tuple[int, int] | None, where: str) -> DrawnMask | None:
    if tag == "mask":
        lengths = counts([_whole(text, where) for text in _list(attributes.get("rle", ""), ",", where)], where)
        box = tuple(_whole(attributes.get(side), where) or 0 for side in ("left", "top", "width", "height"))
        if min(box) < 0:
            raise DataError(problem(where, "a box below 0", "one within the photo", "fix the shape; left out"))
        height, width = size or (None, None)
        return RunLengths(lengths, known_size(height, width, where), False, (box[0], box[1], box[2], box[3]))
    ring = _ring(tag, attributes, where)
    return None if ring is None else Polygons((ring,), size)


def _ring(tag: str, attributes: Attributes, where: str) -> Ring | None:
    if tag == "polygon":
        pairs = [_list(pair, ",", where) for pair in _list(attributes.get("points", ""), ";", where)]
        return flat_outline([_float(text, where) for pair in pairs for text in pair], where)
    angle = math.radians(_float(attributes.get("rotation", "0"), where))
    if tag == "ellipse":
        x, y, across, down = (_float(attributes.get(key), where) for key in ("cx", "cy", "rx", "ry"))
        return ellipse(x, y, across, down, angle)
    if tag != "box":
        return None
    left, top, right, bottom = (_float(attributes.get(key), where) for key in ("xtl", "ytl", "xbr", "ybr"))
    ring = rectangle(left, top, right, bottom)
    centre = np.array([(left + right) / 2, (top + bottom) / 2])
    turn = np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))])
    turned: Ring = (ring - centre) @ turn + centre
    return turned


def _list(text: str, mark: str, where: str) -> list[str]:
    if len(text) > _LONGEST:
        raise DataError(problem(where, f"{len(text):,} characters", "at most 16 million", "fix the shape; left out"))
    return text.split(mark)


def _float(text: str | None, where: str) -> float:
    try:
        return number(float(text or ""), where)
    except ValueError:
        got = f"{redact(text)} for a coordinate"
        raise DataError(problem(where, got, "a number of pixels", LEFT_OUT)) from None


def _whole(text: str | None, where: str) -> int | None:
    """Return a whole number, None for an attribute that is not there."""
    if text is None:
        return None
    stripped = text.strip()
    if not stripped.isdecimal() or not stripped.isascii() or len(stripped) > 12:
        raise DataError(problem(where, redact(text), "a whole number", LEFT_OUT))
    return int(stripped)
