"""Masks: read any binary TIFF that occurs in practice, merge annotators, write what the official scorer reads."""

import io
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.imaging.appearance import AS_STORED, Appearance, tiff_appearance
from magic_cli.data.imaging.fast_tiff import read_simple_tiff
from magic_cli.data.limits import COMPRESSION, FAX, MAX_PIXELS, claims
from magic_cli.errors import ConfigError, DataError, printable, problem, shorten
from magic_cli.io.files import elsewhere
from magic_cli.io.regular_file import open_regular
from magic_cli.records import Mask

# Name of an annotator's mask file, for prepare and score alike; case does not matter.
ANNOTATOR_MASK = re.compile(r"(?P<image>.+)_mask_(?P<annotator>ann\d+)\.(?:tiff?|png|bmp|gif)", re.I)

MERGES = ("or", "majority", "intersection")

_READ_BY_PILLOW = ("TIFF", "PNG", "BMP", "GIF")  # not all that Pillow knows: its EPS would start Ghostscript

_CODEC = "needs imagecodecs"

_LARGEST = MAX_PIXELS + (1 << 20)  # bytes of the largest uncompressed 8-bit mask, with room for its header


class Unreadable(DataError):  # noqa: N818  it describes the file
    """A mask file that is refused.

    `error` names the exception with which tifffile, hence the official scorer, fails. If it reads the file, `error` is
    "" and `stored` the array that it reads.
    """

    def __init__(self, line: str, error: str, stored: NDArray[Any] | None = None) -> None:
        super().__init__(line)
        self.error, self.stored = error, stored


class Stored(NamedTuple):
    """A mask file as the official scorer reads it.

    array: the pixels as stored: any shape, any dtype, no scaling.
    error: why tifffile, hence the official scorer, cannot read the file; "" if it can.
    appearance: how viewers show the file, where that differs from `array`.
    """

    array: NDArray[Any]
    error: str = ""
    appearance: Appearance = AS_STORED


def read_raw(source: str | Path | IO[bytes], where: str = "") -> NDArray[Any]:
    """Return the array of `read_stored`."""
    return read_stored(source, where).array


def read_stored(source: str | Path | IO[bytes], where: str = "") -> Stored:
    """Read a TIFF as stored, as the official scorer does, and say how viewers show it.

    tifffile reads it; Pillow is the fallback for LZW, which tifffile reads only with the 79 MB imagecodecs
    (examples/challenge-data.md, "Compressions"). PNG, BMP and GIF are read too, as people see them.

    A file is read, not mapped into memory: one that is cut meanwhile would end the process (SIGBUS).

    Args:
        source: a path to a regular file (io/regular_file.py), or a seekable stream.
        where: name of the file in messages; "" for the path itself.

    Raises:
        Unreadable: the file is missing, damaged, fax-coded (CCITT) or too large (data/limits.py).
    """
    where = where or str(source)
    if isinstance(source, str | Path):
        with _opened(source, where) as file:
            return _read(file, where)
    return _read(source, where)


@contextmanager
def _opened(path: str | Path, where: str) -> Iterator[IO[bytes]]:
    try:
        file = open_regular(path)
    except OSError as error:
        line = printable(f"{where}: cannot be read ({error.strerror}); check the path")
        raise Unreadable(line, "IsADirectoryError" if Path(path).is_dir() else type(error).__name__) from None
    with file:
        yield file


def _read(source: IO[bytes], where: str) -> Stored:
    plain = read_plain(source)
    if plain is not None:
        return Stored(plain)
    tifffile = import_tifffile()
    try:
        return _read_tifffile(source, where)
    except DataError:
        raise
    except Exception as error:  # decoders have no common base class of errors
        name, official = type(error).__name__, _official(error)
        if official != name or isinstance(error, tifffile.TiffFileError):
            source.seek(0)
            return _read_pillow(source, where, official)
        raise _damaged(where, error, name) from None


def read_plain(source: IO[bytes]) -> NDArray[Any] | None:
    """Return the array of a simple TIFF, ten times faster than tifffile; None for other files. Rewinds the stream."""
    if isinstance(source, io.BytesIO):
        return read_simple_tiff(source.getvalue())
    size = source.seek(0, os.SEEK_END)
    source.seek(0)
    array = read_simple_tiff(source.read()) if size <= _LARGEST else None
    source.seek(0)
    return array


def _official(error: Exception) -> str:
    """Return the error with which the official scorer fails, given tifffile's."""
    name = type(error).__name__
    needs_codec = "imagecodecs" in str(error) or isinstance(error, ImportError)  # zstd comes with Python 3.14
    return f"{name}: {_CODEC}" if needs_codec else name


def _damaged(where: str, error: Exception, official: str) -> Unreadable:
    got = f"an unreadable file ({type(error).__name__})"
    return Unreadable(problem(where, got, "a whole TIFF mask", "copy or download it again"), official)


def import_tifffile() -> Any:
    """Import tifffile, with its log silenced, when it is needed: simple files do not need it."""
    import logging

    import tifffile

    if not logging.getLogger("tifffile").handlers:
        logging.getLogger("tifffile").addHandler(logging.NullHandler())  # we report a damaged file in one line
    return tifffile


def _read_tifffile(source: IO[bytes], where: str) -> Stored:
    with import_tifffile().TiffFile(source) as file:
        too_much = claims(file)
        if too_much:
            line = problem(where, too_much, "at most 200 megapixels and 1 GiB", "check the file")
            raise Unreadable(line, "ValueError: another size")
        page = file.series[0].keyframe
        if int(page.compression) in FAX:
            raise _fax_coded(file, where)
        array = np.asarray(file.series[0].asarray())
        return Stored(array, "", tiff_appearance(page, array))


def _fax_coded(file: Any, where: str) -> Unreadable:
    """Refuse fax-coded pixels, whose damage goes unnoticed; the official scorer with imagecodecs reads them."""
    try:
        return Unreadable(_fax_line(where), "", np.asarray(file.series[0].asarray()))
    except Exception as error:  # decoders have no common base class of errors
        return Unreadable(_fax_line(where), _official(error))


def _fax_line(where: str) -> str:
    remedy = "save it with one of these (damage to a fax-coded mask goes unnoticed)"
    return problem(where, "CCITT (fax) compression", "none, zlib or LZW", remedy)


def _read_pillow(source: IO[bytes], where: str, official: str) -> Stored:
    from PIL import Image, UnidentifiedImageError  # imported here, as scoring is timed

    from magic_cli.data.imaging.images import quiet
    from magic_cli.data.imaging.pillow_masks import picture_as_shown, tiff_as_stored

    try:
        with quiet(), Image.open(source, formats=_READ_BY_PILLOW) as image:
            if image.width * image.height > MAX_PIXELS:
                pixels = f"{image.width * image.height / 1e6:.0f} megapixels"
                line = problem(where, pixels, "at most 200", "check the file")
                raise Unreadable(line, "ValueError: another size")
            if getattr(image, "tag_v2", {}).get(COMPRESSION) in FAX:
                raise Unreadable(_fax_line(where), official)
            read = tiff_as_stored if image.format == "TIFF" else picture_as_shown
            array, appearance = read(image, where)
            return Stored(array, official, appearance)
    except Unreadable:
        raise
    except DataError as error:
        raise Unreadable(error.problems[0], official) from None
    except Exception as error:
        if isinstance(error, UnidentifiedImageError) and _CODEC in official:  # whole, but of a rare kind
            line = problem(where, "a TIFF that needs imagecodecs", "8-bit grey, uncompressed or zlib", "write it so")
            raise Unreadable(line, official) from None
        raise _damaged(where, error, official) from None


def decode_mask(raw: NDArray[Any], where: str) -> tuple[Mask, str]:
    """Turn a stored array into (H, W) uint8 {0, 1} and the kind of its values: "bool", "0/1" or "0/255".

    A mask with a single value is empty or full: 0 or 1 count as "0/1", 255 as "0/255".

    Raises:
        DataError: one line, for a shape other than (H, W) or (H, W, 1), or for other values.
    """
    array = raw[..., 0] if raw.ndim == 3 and raw.shape[2] == 1 else raw
    if array.ndim != 2 or not array.size:
        raise DataError(problem(where, f"shape {raw.shape}", "(H, W)", "store one binary mask per file"))
    if array.dtype == bool:
        return array.astype(np.uint8), "bool"
    if array.dtype.kind not in "uif":
        raise DataError(problem(where, f"dtype {raw.dtype}", "a number type", "store uint8 0/1"))
    high = array.max()
    if array.dtype == np.uint8 and high <= 1:
        return np.ascontiguousarray(array), "0/1"
    is_high = array == high
    if high not in (0, 1, 255) or not (is_high | (array == 0)).all():
        raise DataError(problem(where, f"values {_sample(array)}", "{0, 1} or {0, 255}", "threshold the mask"))
    return (is_high if high else np.zeros_like(is_high)).astype(np.uint8), "0/255" if high == 255 else "0/1"


def _sample(array: NDArray[Any]) -> str:
    shown = shorten((f"{value:g}" for value in np.unique(array)[:5]), most=4)
    return f"{{{shown}}}"


def read_mask(source: str | Path | IO[bytes], where: str = "") -> Mask:
    """Read a mask as (H, W) uint8 in {0, 1}; stored as {0, 1}, {0, 255} or bool, (H, W) or (H, W, 1).

    Args:
        source, where: as for `read_raw`.

    Raises:
        DataError: one line, for a file that cannot be read or is not a binary mask.
    """
    where = where or str(source)
    return decode_mask(read_raw(source, where), where)[0]


def merge_masks(masks: Sequence[Mask], rule: str) -> Mask:
    """Merge the masks of one image, each uint8 {0, 1} of the same (H, W), into one.

    Rules: "or" (foreground if any annotator marked it, as in the paper), "majority" (if at least half did; a tie is
    foreground, as in the official scorer: examples/official-scorer.md, cases 55 and 56), "intersection" (if all did).

    Raises:
        DataError: no mask, or masks of different sizes. ConfigError: an unknown rule.

    >>> merge_masks([np.array([[1, 0, 1]], np.uint8), np.array([[0, 0, 1]], np.uint8)], "majority").tolist()
    [[1, 0, 1]]
    """
    if rule not in MERGES:
        raise ConfigError(problem("--merge", rule, " or ".join(MERGES), "choose one of these"))
    sizes = {mask.shape for mask in masks}
    if len(sizes) != 1:
        raise DataError(problem("masks", f"sizes {sorted(sizes)}", "one size", "leave out the odd one"))
    votes = np.zeros(next(iter(sizes)), np.uint8 if len(masks) < 256 else np.uint32)
    for mask in masks:
        votes += mask
    needed = {"or": 1, "majority": (len(masks) + 1) // 2, "intersection": len(masks)}[rule]
    return (votes >= needed).astype(np.uint8)


def write_mask(path: Path, mask: Mask) -> None:
    """Write an (H, W) mask as uint8 {0, 1}, 2-D, zlib TIFF: the same bytes for the same mask.

    The file is not synced, and a kill may leave half of it: write into a folder of io/staging.py, which syncs it and
    moves it into place as a whole. A sync per mask took 11 of the 27 s of `predict` for 2,474 small photos.

    Raises:
        DataError: the array is not an (H, W) array of 0 and 1, or `path` cannot be written.
    """
    if mask.ndim != 2 or not mask.size or mask.dtype.kind not in "bui" or mask.max() > 1 or mask.min() < 0:
        raise DataError(problem(path, f"{mask.dtype} array of shape {mask.shape}", "(H, W) of 0 and 1", "threshold it"))
    values = np.ascontiguousarray(mask, np.uint8)
    options = {"photometric": "minisblack", "compression": "zlib", "compressionargs": {"level": 6}}
    buffer = io.BytesIO()
    # without metadata: no software name, no description, hence no bytes that change with the version
    import_tifffile().imwrite(buffer, values, metadata=None, software=False, **options)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getbuffer())
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); {elsewhere(error)}") from None
