"""A photo as a file that others get: its pixels as they are coded, without what its file tells beside them."""

import hashlib
import io
from typing import NamedTuple

from magic_cli.data.imaging import exif, jpeg_stream, png_stream
from magic_cli.data.imaging.images import open_record, read_image_file
from magic_cli.errors import DataError, problem
from magic_cli.records import ImageRecord

_TURNED = bytes.fromhex(  # an APP1 segment with an EXIF block that has one entry, the orientation, whose value follows
    "ffe1 0022 457869660000 4d4d002a00000008 0001 0112 0003 00000001"
)


class PhotoFile(NamedTuple):
    """A photo's file: its suffix, "jpg" or "png", and its bytes."""

    suffix: str
    data: bytes


def photo_file(image: ImageRecord) -> PhotoFile:
    """Return a photo as JPEG or PNG without metadata: no place, no device, no date, no colour profile, no preview.

    JPEG and PNG keep their coded pixels; other formats become PNG. Read upright (as photos in shards are), it shows
    what `open_record` returns: of a JPEG that has to be turned the orientation is kept, and only that.

    Args:
        image: of a prepared dataset, with a file.

    Raises:
        DataError: one line, for a photo that cannot be read, or is not the one that was prepared.
    """
    path = image.path or ""
    data = read_image_file(path, path)
    if image.sha256 and hashlib.sha256(data).hexdigest() != image.sha256:
        raise DataError(problem(path, "another photo", "the one that was prepared", "run `magic prepare` again"))
    if data.startswith(jpeg_stream.START):
        jpeg = jpeg_stream.without_metadata(data)
        turn = exif.orientation(jpeg.exif, jpeg.xmp) if image.upright else 1
        head = b"" if turn == 1 else _TURNED + turn.to_bytes(2, "big") + bytes(6)
        start = len(jpeg_stream.START)
        return PhotoFile("jpg", jpeg.data[:start] + head + jpeg.data[start:])
    if data.startswith(png_stream.SIGNATURE):
        png = png_stream.without_metadata(data)
        if not image.upright or exif.orientation(png.exif, png.xmp) == 1:
            return PhotoFile("png", png.data)
    encoded = io.BytesIO()
    open_record(image).save(encoded, "PNG")
    return PhotoFile("png", encoded.getvalue())
