"""Photos: opened by the same rule everywhere, so that a photo and its mask always line up."""

import hashlib
import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps

from magic_cli.data.limits import COMPRESSION, FAX, MAX_PIXELS
from magic_cli.errors import DataError, printable, problem
from magic_cli.io.files import known_sha256

_LARGE = 40_000_000  # pixels; larger photos are decoded one at a time, whatever the number of threads

# decided by content, not by name; not all formats of Pillow: its EPS would start Ghostscript
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

_SUFFIXES = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",)}

_ORIENTATION = 274

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


class _Quiet:
    """Silence Pillow while any thread decodes: `catch_warnings` alone is not safe in threads."""

    def __init__(self) -> None:
        self.lock, self.users = threading.Lock(), 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self.lock:
            if not self.users:
                self.caught, self.limit = warnings.catch_warnings(), Image.MAX_IMAGE_PIXELS
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
                    Image.MAX_IMAGE_PIXELS = self.limit
                    self.caught.__exit__(None, None, None)


quiet = _Quiet()


@contextmanager
def _opened(source: Path | IO[bytes], where: Path | str) -> Iterator[Image.Image]:
    """Open an image lazily; any error inside the block becomes a DataError of one line."""
    try:
        with quiet(), Image.open(source, formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                pixels = f"{image.width * image.height / 1e6:.0f} megapixels"
                raise DataError(problem(where, pixels, "at most 200", "shrink it, or check where it comes from"))
            if getattr(image, "tag_v2", {}).get(COMPRESSION) in FAX:
                remedy = "save it as PNG (damage to a fax-coded photo goes unnoticed)"
                raise DataError(problem(where, "CCITT (fax) compression", "a JPEG or PNG photo", remedy))
            with _one_large if image.width * image.height > _LARGE else nullcontext():
                yield image
    except DataError:
        raise
    except FileNotFoundError:
        remedy = "if the photos moved, run `magic prepare` again with their new location as --data"
        raise DataError(printable(f"{where}: no such photo; {remedy}")) from None
    except Exception as error:  # decoders have no common base class of errors
        reason = "an empty file" if isinstance(source, io.BytesIO) and not source.getbuffer().nbytes else _reason(error)
        raise DataError(problem(where, reason, "a whole JPEG or PNG photo", "copy or download it again")) from None


def _reason(error: Exception) -> str:
    if "truncated" in str(error).lower():
        return "a truncated photo"
    if isinstance(error, OSError) and error.strerror:
        return f"an unreadable file ({error.strerror})"
    return f"a damaged file ({type(error).__name__})"


def _orientation(image: Image.Image) -> int:
    value = image.getexif().get(_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def check_photo(path: str, where: str) -> tuple[PhotoSize, str]:
    """Read a photo once, decode all of it, and return its size and the hex SHA-256 of its bytes.

    A JPEG is decoded at an eighth of its size, which still reads all of its data but is several times faster.

    Raises:
        DataError: one line, for a photo that is missing, truncated, damaged or larger than 200 megapixels.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(printable(f"{where}: cannot be read ({error.strerror}); check the file")) from None
    with _opened(io.BytesIO(data), where) as image:
        raw, odd = (image.height, image.width), _odd(image, Path(path).suffix.casefold())
        image.draft("RGB", (max(1, image.width // 8), max(1, image.height // 8)))
        image.load()
        return PhotoSize(raw, _orientation(image), odd), hashlib.sha256(data).hexdigest()


def _odd(image: Image.Image, suffix: str) -> str:
    kind = "JPEG" if image.format == "MPO" else str(image.format)  # several JPEGs in one file, as some phones write
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        return f"animated {kind}: the first frame is used"
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        return f"{kind} in {image.mode}: converted to 8-bit RGB"
    return "" if suffix in _SUFFIXES.get(kind, ()) else f"{kind}, despite its file name: read as {kind}"


def open_photo(path: str | Path, upright: bool, at_least: int | None = None, sha256: str = "") -> Image.Image:
    """Return a photo, fully decoded, as 8-bit RGB.

    Args:
        path: photo of any mode; transparency is dropped, 16-bit grey is scaled to 8 bits.
        upright: apply the EXIF orientation, as `ImageRecord.upright` says, so that the photo matches its masks.
        at_least: let a JPEG be decoded at 1/2, 1/4 or 1/8 as long as neither side falls below this many
            pixels; faster by a factor of about four, pixel values differ a little. None: exact.
        sha256: hex digest of the photo's bytes when it was prepared, part of cache keys; "" skips the check.

    Raises:
        DataError: one line, for a photo that is missing, truncated, damaged, larger than 200 megapixels, or not the
            one that was prepared.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # a pipe or a device would be read forever
        raise DataError(problem(path, "no regular file", "a JPEG or PNG photo", "copy or download it again"))
    with _opened(path, path) as image:
        if sha256 and known_sha256(path) != sha256:
            raise DataError(problem(path, "another photo", "the one that was prepared", "run `magic prepare` again"))
        if at_least is not None:
            image.draft("RGB", (at_least, at_least))
        image.load()
        turned = ImageOps.exif_transpose(image) if upright else image
        return _rgb(turned)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow clips these instead of scaling them
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "P":  # a palette with transparency is only well defined via RGBA
        image = image.convert("RGBA")
    return image.convert("RGB") if image.mode != "RGB" else image.copy()
