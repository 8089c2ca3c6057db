"""Errors of libtiff: heard, not printed, and never taken for a whole image."""

import io
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from makers import draw_lesion
from PIL import Image

from magic_cli.data.images import check_photo, open_photo
from magic_cli.data.masks import read_mask
from magic_cli.errors import DataError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="libtiff is a part of Pillow's own library there")


def fax(damaged: bool) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(draw_lesion() * 255).convert("1").save(buffer, format="TIFF", compression="group4")
    data = bytearray(buffer.getvalue())
    if damaged:
        data[10:14] = b"\0\0\0\0"  # no code of group 4
    return bytes(data)


READERS: dict[str, Callable[[Path], object]] = {
    "mask": lambda path: read_mask(path, str(path)),
    "photo": lambda path: open_photo(path, upright=True),
    "photo of prepare": lambda path: check_photo(path, str(path)),
}


@pytest.mark.parametrize("how", READERS)
def test_damaged_codes_are_no_image(tmp_path: Path, how: str, capfd: pytest.CaptureFixture[str]) -> None:
    """libtiff prints `Fax4Decode: Bad code word` and goes on; Pillow gives what came out."""
    read, path = READERS[how], tmp_path / "x.tiff"
    for damaged in (False, True, False):
        path.write_bytes(fax(damaged))
        if damaged:
            with pytest.raises(DataError, match="LibtiffError"):
                read(path)
        else:
            read(path)
    assert capfd.readouterr() == ("", "")


def test_each_thread_hears_its_own() -> None:
    files = [fax(damaged=number % 2 == 1) for number in range(40)]

    def whole(data: bytes) -> bool:
        try:
            return bool(np.array_equal(read_mask(io.BytesIO(data), "x"), draw_lesion()))
        except DataError:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(whole, files)) == [True, False] * 20
