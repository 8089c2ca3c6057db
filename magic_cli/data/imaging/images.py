"""Photos: opened by the same rule everywhere, so that a photo and its mask always line up."""

import ctypes
import errno
import hashlib
import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError, _imaging

from magic_cli.data.imaging import exif, jpeg_stream, png_stream
from magic_cli.data.imaging.fingerprint import Fingerprint, fingerprint, sampled
from magic_cli.data.imaging.photo_kinds import HEAD, kind_of, remedy_for
from magic_cli.data.limits import COMPRESSION, FAX, MAX_BYTES, MAX_PIXELS
from magic_cli.data.names import SUFFIXES_OF
from magic_cli.errors import DataError, printable, problem
from magic_cli.io.files import known_sha256
from magic_cli.io.regular_file import read_regular
from magic_cli.records import ImageRecord

Box = tuple[float, float, float, float]
"""A part of a photo: left, top, right and bottom, as fractions of its width and height."""

_LARGE = 40_000_000  # pixels; larger photos are decoded one at a time, whatever the number of threads

# decided by content, not by name; not all formats of Pillow: its EPS would start Ghostscript
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", *(("AVIF",) if find_spec("PIL._avif") else ()))

_TURNS = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_EXPECTED = "a JPEG or PNG photo"

_PHOTOMETRIC, _REDUCED, _DNG_VERSION, _BITS, _PLANAR = 262, 254, 50706, 258, 284  # TIFF tags

_SIDE = 48  # pixels a side that a fingerprint needs

_one_large = threading.Lock()


@dataclass(frozen=True, slots=True)
class PhotoSize:
    """(height, width) of a photo as stored (`raw`) and after its EXIF orientation, 1..8 (`upright`).

    `odd` describes an unusual format for people, "" for a plain JPEG or PNG.
    """

    raw: tuple[int, int]
    orientation: int = 1
    odd: str = ""

    @property
    def upright(self) -> tuple[int, int]:
        """(height, width) after the EXIF orientation is applied: 5 to 8 swap the sides."""
        return self.raw[::-1] if self.orientation >= 5 else self.raw

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        """Pickle the values alone, which is fast."""
        return type(self), (self.raw, self.orientation, self.odd)


class _Quiet:
    """Silence Pillow while any thread decodes, and let it refuse truncated files, whatever the program around wants.

    `catch_warnings` alone is not safe in threads.
    """

    def __init__(self) -> None:
        self.lock, self.users = threading.Lock(), 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        _silence_libtiff()
        with self.lock:
            if not self.users:
                self.caught, self.limit = warnings.catch_warnings(), Image.MAX_IMAGE_PIXELS
                self.truncated, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
                self.caught.__enter__()
                warnings.filterwarnings("ignore", module="PIL")
                Image.MAX_IMAGE_PIXELS = None  # our own limit is checked right after opening
            self.users += 1
        try:
            yield
        finally:
            with self.lock:
                self.users -= 1
                if not self.users:
                    Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = self.limit, self.truncated
                    self.caught.__exit__(None, None, None)


quiet = _Quiet()


@cache
def _silence_libtiff() -> None:
    """Keep what libtiff says about a damaged file off stderr; Pillow raises its own error.

    Where Pillow's copy of libtiff cannot be reached (Windows, some builds), it stays on stderr.
    """
    with suppress(AttributeError, OSError):
        library = ctypes.CDLL(_imaging.__file__)
        for setter in (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler):
            setter.restype = ctypes.c_void_p
            setter(None)


@dataclass(frozen=True, slots=True)
class _Stream:
    """A photo's bytes as they are given to Pillow: of JPEG, PNG and TIFF, without what could turn or stop it.

    `exif`, `xmp`: metadata that hold its orientation. `frames`, `is_whole`: as for png_stream.PngStream.
    """

    data: bytes
    exif: bytes = b""
    xmp: bytes = b""
    frames: int = 1
    is_whole: bool = True
    jpeg: jpeg_stream.JpegStream | None = None


def _stream(data: bytes, where: Path | str) -> _Stream:
    if data.startswith(jpeg_stream.START):
        jpeg = jpeg_stream.without_metadata(data)
        if jpeg.excess:
            expected = "at most 500, and 2,400 megapixels in all"
            raise DataError(problem(where, jpeg.excess, expected, "save it anew"))
        return _Stream(jpeg.data, jpeg.exif, jpeg.xmp, is_whole=jpeg.is_ended, jpeg=jpeg)
    if data.startswith(png_stream.SIGNATURE):
        png = png_stream.without_metadata(data)
        return _Stream(png.data, png.exif, png.xmp, png.frames, png.is_whole)
    tiff = data if data[:2] in (b"II", b"MM") else b""
    return _Stream(exif.as_stored(data), exif=tiff, xmp=tiff)


@contextmanager
def _opened(data: bytes, where: Path | str) -> Iterator[tuple[Image.Image, _Stream]]:
    """Open an image lazily; any error inside the block becomes a DataError of one line."""
    stream = _Stream(data)
    try:
        stream = _stream(data, where)
        with quiet(), Image.open(io.BytesIO(stream.data), formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                pixels = f"{image.width * image.height / 1e6:.0f} megapixels"
                raise DataError(problem(where, pixels, "at most 200", "shrink it, or check where it comes from"))
            _check_tags(image, where)
            with _one_large if image.width * image.height > _LARGE else nullcontext():
                yield image, stream
    except DataError:
        raise
    except MemoryError:
        remedy = "free memory, or shrink the photo"
        raise DataError(problem(where, "no memory left to read it", "enough for its pixels", remedy)) from None
    except Exception as error:  # decoders have no common base class of errors
        raise DataError(_refusal(where, data[:HEAD], stream, error)) from None


def _check_tags(image: Image.Image, where: Path | str) -> None:
    """Refuse what a TIFF can be beside a photo."""
    tags = getattr(image, "tag_v2", {})
    if tags.get(COMPRESSION) in FAX:
        remedy = "save it as PNG (damage to a fax-coded photo goes unnoticed)"
        raise DataError(problem(where, "CCITT (fax) compression", _EXPECTED, remedy))
    if _DNG_VERSION in tags or tags.get(_REDUCED) == 1:
        raise DataError(problem(where, "a camera's raw file, or the preview in one", _EXPECTED, "save it as JPEG"))
    if tags.get(_PLANAR) == 2 and max(tags.get(_BITS, (1,))) > 8 and tags.get(COMPRESSION, 1) == 1:
        got = "a TIFF of 16-bit planes"  # which Pillow mixes up
        raise DataError(problem(where, got, _EXPECTED, "save it as PNG"))
    if image.mode in ("F", "I") and image.format == "TIFF":
        raise DataError(problem(where, f"a TIFF in {image.mode}, 32 bits a pixel", _EXPECTED, "save it in 8 bits"))


def _refusal(where: Path | str, head: bytes, stream: _Stream, error: Exception) -> str:
    kind = kind_of(head) if isinstance(error, UnidentifiedImageError) else ""
    if kind and kind not in _FORMATS:
        return problem(where, kind, _EXPECTED, remedy_for(kind))
    if stream.jpeg and stream.jpeg.kind:
        return problem(where, stream.jpeg.kind, _EXPECTED, "save it anew: its coding is not read here")
    if isinstance(error, UnidentifiedImageError) and head[:2] in (b"II", b"MM"):
        return problem(where, "a TIFF that is damaged or of a rare kind", _EXPECTED, "save it as PNG")
    truncated = "truncated" in str(error).lower() or (stream.jpeg and not stream.is_whole)
    reason = "a truncated photo" if truncated else f"a damaged file ({type(error).__name__})"
    return problem(where, reason, "a whole JPEG or PNG photo", "copy or download it again")


def read_image_file(path: str | Path, where: Path | str) -> bytes:
    """Return the bytes of a photo's or mask's file; never waits, and reads no more than 1 GiB.

    Raises:
        DataError: one line, for a file that is missing, unreadable, larger, no regular file, or one for which memory
            does not suffice.
    """
    try:
        return read_regular(path, MAX_BYTES)
    except MemoryError:
        raise DataError(problem(where, "no memory left to read it", "enough for its bytes", "free memory")) from None
    except OSError as error:
        if error.errno == errno.EFBIG:
            got = f"a file of {str(error.strerror).partition(',')[0]}"
            raise DataError(problem(where, got, "at most 1 GiB", "shrink it, or check where it comes from")) from None
        raise DataError(printable(f"{where}: cannot be read ({error.strerror}); check the file")) from None


def _orientation(image: Image.Image, stream: _Stream) -> int:
    found, packet = image.info.get("exif", b""), image.info.get("xmp", b"")  # of formats that are read as they are
    return exif.orientation(
        stream.exif or (found if isinstance(found, bytes) else b""),
        stream.xmp or (packet if isinstance(packet, bytes) else b""),
    )


class CheckedPhoto(NamedTuple):
    """A photo that can be decoded: its size, the hex SHA-256 of its bytes, and its fingerprint."""

    size: PhotoSize
    sha256: str
    fingerprint: Fingerprint


def check_photo(path: str, where: str) -> CheckedPhoto:
    """Read a photo once, decode all of it, and return its size, SHA-256 and fingerprint.

    A JPEG is decoded at an eighth of its size, which still reads all of its data but is several times faster; one of
    less than 384 pixels a side once more for its fingerprint.

    Raises:
        DataError: one line, for a photo that is missing, truncated, damaged, of a format that is not read, or larger
            than 200 megapixels or 1 GiB.
    """
    data = read_image_file(path, where)
    with _opened(data, where) as (image, stream):
        raw, odd = (image.height, image.width), _odd(image, stream, Path(path).suffix.casefold())
        image.draft("RGB", (max(1, image.width // 8), max(1, image.height // 8)))
        image.load()
        pixels = _rgb(sampled(image)) if min(image.size) >= min(_SIDE, *raw) else _small_jpeg(stream)
        _check_end(image, stream)
        size = PhotoSize(raw, _orientation(image, stream), odd)
        turn = _TURNS.get(size.orientation)
        found = fingerprint(pixels if turn is None else pixels.transpose(turn))
        return CheckedPhoto(size, hashlib.sha256(data).hexdigest(), found)


def _small_jpeg(stream: _Stream) -> Image.Image:
    with Image.open(io.BytesIO(stream.data), formats=("JPEG",)) as image:
        image.draft("RGB", (_SIDE, _SIDE))
        return _rgb(image)


def _check_end(image: Image.Image, stream: _Stream) -> None:
    """Raise OSError if a photo is cut: a JPEG, before an end marker or without one, if noise instead changes pixels.

    `image`, at any scale: where there is an end marker, only photos are checked whose last pixel is what decoders put
    where nothing is coded. PNGs whose last rows are black may have none.
    """
    jpeg = stream.jpeg
    if image.format == "PNG" and _ends_black(image) and png_stream.lacks_rows(stream.data):
        raise OSError("truncated")
    if jpeg is None or (jpeg.is_ended and not _ends_grey(image)):
        return
    if not jpeg.is_ended and not jpeg.is_complete:
        raise OSError("truncated")
    expected = _pixels_digest(jpeg.data)
    if any(_pixels_digest(data) != expected for data in jpeg.continued()):
        raise OSError("truncated")


def _ends_grey(image: Image.Image) -> bool:
    last = image.getpixel((image.width - 1, image.height - 1))
    return set(last if isinstance(last, tuple) else (last,)) <= {127, 128}


def _ends_black(image: Image.Image) -> bool:
    """Return whether one of the last two rows is; of an interlaced photo, one may be coded long before the other."""
    rows = [(0, top, image.width, top + 1) for top in range(max(0, image.height - 2), image.height)]
    return any(image.crop(row).getbbox(alpha_only=False) is None for row in rows)


def _pixels_digest(data: bytes) -> bytes:
    digest = hashlib.sha256()
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        for top in range(0, image.height, 256):
            digest.update(image.crop((0, top, image.width, min(top + 256, image.height))).tobytes())
    return digest.digest()


def _odd(image: Image.Image, stream: _Stream, suffix: str) -> str:
    kind = str(image.format)
    if stream.frames > 1 or (image.format != "PNG" and getattr(image, "n_frames", 1) > 1):
        return (
            "TIFF of several pages: the first is used"
            if kind == "TIFF"
            else f"animated {kind}: the first frame is used"
        )
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        return f"{kind} in {image.mode}: converted to 8-bit RGB"
    if not stream.is_whole:
        return f"{kind} without its end marker: all of its pixels are there"
    return "" if suffix in SUFFIXES_OF.get(kind, ()) else f"{kind}, despite its file name: read as {kind}"


def open_photo(path: str | Path, upright: bool, at_least: int | None = None, sha256: str = "") -> Image.Image:
    """Return a photo, fully decoded, as 8-bit RGB.

    Args:
        path: photo of any mode; transparency and colour profiles are dropped, 16-bit grey is scaled to 8 bits.
        upright: apply the EXIF orientation, as `ImageRecord.upright` says, so that the photo matches its masks.
        at_least: let a JPEG be decoded at 1/2, 1/4 or 1/8 as long as neither side falls below this many
            pixels; faster by a factor of about four, pixel values differ a little. None: exact.
        sha256: hex digest of the photo's bytes when it was prepared, part of cache keys; "" skips the check.

    Raises:
        DataError: one line, for what `check_photo` refuses, and for a photo that is not the one that was prepared.
    """
    path = Path(path)
    if not path.exists():
        remedy = "if the photos moved, run `magic prepare` again with their new location as --data"
        raise DataError(printable(f"{path}: no such photo; {remedy}"))
    data = read_image_file(path, path)
    if sha256 and known_sha256(path) != sha256:
        raise DataError(problem(path, "another photo", "the one that was prepared", "run `magic prepare` again"))
    return _decoded(data, path, upright, at_least, is_checked=bool(sha256))


def open_record(record: ImageRecord, at_least: int | None = None) -> Image.Image:
    """Return a photo of a dataset as `open_photo`, also one inside a shard; of one with a `box`, that part.

    Raises:
        DataError: as `open_photo`, and for a record without a photo.
    """
    if record.path is None:
        raise DataError(f"{record.image_id}: no photo; run `magic prepare` on the folder that has it")
    at_least = at_least if record.box is None else None
    if record.packed is None:
        photo = open_photo(record.path, record.upright, at_least, record.sha256)
    else:
        photo = _decoded(record.packed.read(), record.packed.place, record.upright, at_least, is_checked=False)
    return photo if record.box is None else photo.crop(_in_pixels(record.box, photo.size))


def _in_pixels(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return a box of fractions in whole pixels of a photo of (width, height), at least one wide and high."""
    left, top, right, bottom = (round(part * side) for part, side in zip(box, size * 2, strict=True))
    left, top = min(left, size[0] - 1), min(top, size[1] - 1)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def photo_of(data: bytes, where: str, at_least: int | None = None) -> Image.Image:
    """Return the photo in the bytes of a file, upright, as `open_photo` does; nothing is written.

    Raises:
        DataError: one line that begins with `where`, as `open_photo`; also for more than 1 GiB.
    """
    if len(data) > MAX_BYTES:
        raise DataError(problem(where, "a file of more than 1 GiB", "at most 1 GiB", "shrink it"))
    return _decoded(data, where, True, at_least, is_checked=False)


def _decoded(data: bytes, where: Path | str, upright: bool, at_least: int | None, is_checked: bool) -> Image.Image:
    with _opened(data, where) as (image, stream):
        if at_least is not None:
            image.draft("RGB", (at_least, at_least))
        image.load()
        if not is_checked:  # else it was checked when it was prepared
            _check_end(image, stream)
        turn = _TURNS.get(_orientation(image, stream)) if upright else None
        photo = _rgb(image)
        return photo if turn is None else photo.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow clips these instead of scaling them
        values = np.asarray(image) >> 8
        if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:  # white is zero: Pillow inverts up to 8 bits
            values = 255 - values
        return Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "P":  # a palette with transparency is only well defined via RGBA
        image = image.convert("RGBA")
    return image.convert("RGB") if image.mode != "RGB" else image.copy()
