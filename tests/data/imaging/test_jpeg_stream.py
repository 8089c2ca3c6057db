"""JPEGs that lack their end: read where every pixel is there, refused where rows are missing, however they were cut."""

import io
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from challenge_folders import draw_photo
from PIL import Image

from magic_cli.data.imaging import jpeg_stream
from magic_cli.data.imaging.images import check_photo, open_photo
from magic_cli.errors import DataError

END = b"\xff\xd9"


def jpeg(photo: Image.Image | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (photo or draw_photo((120, 160))).save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


CODINGS = {
    "baseline": jpeg(),
    "progressive": jpeg(progressive=True),
    "restarts": jpeg(restart_marker_blocks=3),
    "CMYK": jpeg(draw_photo((120, 160)).convert("CMYK")),
    "grey": jpeg(draw_photo((120, 160)).convert("L")),
    "mid-grey, which ends with a zero": jpeg(Image.new("RGB", (160, 120), (128, 128, 128))),
}
WHOLE = {
    "end missing": lambda data: data[:-2],
    "end cut in two": lambda data: data[:-1],
    "zeros instead of the end": lambda data: data[:-2] + bytes(5000),
    "zeros behind": lambda data: data + bytes(5000),
    "another file behind": lambda data: data + b"PK\3\4" + b"\xff\xda\xff\xc0" * 100,
}


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("how", WHOLE)
def test_all_pixels_are_there(how: str, coding: str, tmp_path: Path) -> None:
    (tmp_path / "whole.jpg").write_bytes(CODINGS[coding])
    (tmp_path / "p.jpg").write_bytes(WHOLE[how](CODINGS[coding]))
    odd = check_photo(str(tmp_path / "p.jpg"), "p")[0].odd
    if coding != "CMYK":
        assert odd == ("" if "behind" in how else "JPEG without its end marker: all of its pixels are there")
    found = open_photo(tmp_path / "p.jpg", upright=True)
    assert np.array_equal(np.asarray(found), np.asarray(open_photo(tmp_path / "whole.jpg", upright=True)))


@pytest.mark.parametrize("coding", list(CODINGS)[:5])
@pytest.mark.parametrize(
    ("kept", "then"),
    [
        *((kept, then) for kept in (0.3, 0.5) for then in ("nothing", "an end", "zeros", "many zeros")),
        *((kept, "nothing") for kept in (0.8, 0.95, -8, -5)),
    ],
)
def test_cut(kept: float, then: str, coding: str, tmp_path: Path) -> None:
    data = CODINGS[coding]
    cut = data[: int(kept * len(data)) if isinstance(kept, float) else kept]
    cut += {"nothing": b"", "an end": END, "zeros": bytes(len(data) - len(cut)), "many zeros": bytes(9000)}[then]
    (tmp_path / "p.jpg").write_bytes(cut)
    for use in (lambda path: check_photo(str(path), "p"), lambda path: open_photo(path, upright=True)):
        with pytest.raises(DataError, match="got a truncated photo, expected a whole JPEG or PNG photo"):
            use(tmp_path / "p.jpg")


def test_cut_between_scans_or_at_a_restart(tmp_path: Path) -> None:
    progressive, restarts = CODINGS["progressive"], CODINGS["restarts"]
    cuts = [progressive[: found.start()] for found in list(re.finditer(rb"\xff\xda", progressive))[1:]]
    cuts += [restarts[: found.start()] for found in list(re.finditer(rb"\xff[\xd0-\xd7]", restarts))[3::5]]
    assert len(cuts) > 10
    for cut in cuts:
        (tmp_path / "p.jpg").write_bytes(cut)
        with pytest.raises(DataError, match="truncated"):
            check_photo(str(tmp_path / "p.jpg"), "p")


@pytest.mark.parametrize(("size", "times"), [((64, 48), 600), ((9000, 9000), 60)])
def test_scans_are_counted_before_they_are_decoded(size: tuple[int, int], times: int, tmp_path: Path) -> None:
    data = jpeg(Image.new("L", size, 128), progressive=True)
    last = data.rindex(b"\xff\xda")
    (tmp_path / "p.jpg").write_bytes(data[:-2] + data[last:-2] * times + END)
    started = time.monotonic()
    with pytest.raises(DataError, match=r"got a JPEG of \d+ scans.*, expected at most 500"):
        check_photo(str(tmp_path / "p.jpg"), "p")
    assert time.monotonic() - started < 10


def test_a_height_behind_the_pixels(tmp_path: Path) -> None:
    data = CODINGS["baseline"]
    at = data.index(b"\xff\xc0") + 5
    changed = data[:at] + bytes(2) + data[at + 2 : -2] + b"\xff\xdc\0\4" + data[at : at + 2] + END
    (tmp_path / "p.jpg").write_bytes(changed)
    assert check_photo(str(tmp_path / "p.jpg"), "p")[0].raw == (120, 160)


def test_metadata_are_left_out_and_pixels_are_not() -> None:
    data = CODINGS["baseline"]
    segments = b"".join(b"\xff\xe2\xff\xff" + bytes(65533) for _ in range(40)) + b"\xff\xe1\0\x0cExif\0\0IIxx"
    stream = jpeg_stream.without_metadata(data[:2] + segments + data[2:])
    assert stream.data == data
    assert stream.exif == b"IIxx"
    assert (stream.is_ended, stream.is_complete, stream.scans, stream.size) == (True, True, 1, (120, 160))
    with pytest.raises(ValueError, match="segments"):
        jpeg_stream.without_metadata(data[:2] + b"\xff\xfe\0\2" * 100_001 + data[2:])


@pytest.mark.parametrize(("code", "name"), [(0xC3, "a lossless JPEG"), (0xC5, "a hierarchical JPEG")])
def test_rare_codings_are_not_called_damaged(code: int, name: str, tmp_path: Path) -> None:
    (tmp_path / "p.jpg").write_bytes(CODINGS["baseline"].replace(b"\xff\xc0", bytes((0xFF, code))))
    with pytest.raises(DataError, match=f"got {name}, expected a JPEG or PNG photo; save it anew"):
        check_photo(str(tmp_path / "p.jpg"), "p")
