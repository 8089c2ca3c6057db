"""Photos: one rule for orientation, every mode as RGB, damaged files in one line, no warning escapes."""

import hashlib
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from challenge_folders import draw_photo, save_photo
from PIL import Image

from magic_cli.data.imaging.images import PhotoSize, check_photo, open_photo
from magic_cli.errors import DataError

SIZE = (40, 64)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_sizes_and_orientation(orientation: int, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"photo{suffix}"
    save_photo(path, draw_photo(SIZE), orientation)
    upright = SIZE if orientation < 5 else SIZE[::-1]
    size, digest, _ = check_photo(path, "p")
    assert (size.raw, size.upright, size.orientation) == (SIZE, upright, orientation)
    assert open_photo(path, upright=False).size == SIZE[::-1]
    assert open_photo(path, upright=True).size == upright[::-1]
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_upright_turns_as_the_standard_says(tmp_path: Path) -> None:
    photo = Image.new("RGB", (4, 2))
    photo.putpixel((0, 0), (255, 0, 0))  # orientation 6: the first row is the right-hand side
    save_photo(tmp_path / "p.png", photo, 6)
    turned = open_photo(tmp_path / "p.png", upright=True)
    assert turned.size == (2, 4)
    assert turned.getpixel((1, 0)) == (255, 0, 0)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("p.jpg" if mode == "CMYK" else "p.png")
    if mode == "I;16":
        Image.fromarray(np.full((8, 9), 200 << 8, np.uint16)).save(path)
    else:
        Image.new("RGB", (9, 8), (200, 200, 200)).convert(mode).save(path)
    photo = open_photo(path, upright=False)
    assert (photo.mode, photo.size) == ("RGB", (9, 8))
    if mode in ("I;16", "L", "RGB", "RGBA"):
        assert photo.getpixel((4, 4)) == (200, 200, 200)


def test_palette_with_transparency_does_not_warn(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8))
    image.save(tmp_path / "p.png", transparency=b"\x00\x80")
    assert open_photo(tmp_path / "p.png", upright=False).mode == "RGB"


def test_at_least_keeps_both_sides(tmp_path: Path) -> None:
    save_photo(tmp_path / "p.jpg", draw_photo((400, 640)))
    assert open_photo(tmp_path / "p.jpg", False, at_least=100).size == (160, 100)
    assert open_photo(tmp_path / "p.jpg", False, at_least=101).size == (320, 200)
    assert open_photo(tmp_path / "p.jpg", False).size == (640, 400)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.98])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_truncated_photo(share: float, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"p{suffix}"
    save_photo(path, draw_photo((200, 300)))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match=r"^p: got a (truncated photo|damaged file .*), expected a whole JPEG or PNG"):
        check_photo(path, "p")
    with pytest.raises(DataError) as caught:
        open_photo(path, upright=False)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(("data", "got"), [(b"", "an empty file"), (b"<html>", "a web page")])
def test_no_photo(data: bytes, got: str, tmp_path: Path) -> None:
    (tmp_path / "p.jpg").write_bytes(data)
    with pytest.raises(DataError, match=f"^p: got {got}"):
        check_photo(tmp_path / "p.jpg", "p")


def test_missing_photo_says_to_prepare_again(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone.jpg: no such photo; .*run `magic prepare` again"):
        open_photo(tmp_path / "gone.jpg", False)
    with pytest.raises(DataError, match="gone: cannot be read"):
        check_photo(tmp_path / "gone.jpg", "gone")


def test_decompression_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    Image.new("1", (20_100, 10_000)).save(tmp_path / "bomb.png")
    for use in (lambda path: check_photo(path, "bomb"), lambda path: open_photo(path, True)):
        with pytest.raises(DataError, match="got 201 megapixels, expected at most 200"):
            use(tmp_path / "bomb.png")


def test_large_photo_below_the_limit_does_not_warn(tmp_path: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    Image.new("1", (10_000, 9_000)).save(tmp_path / "large.png")  # Pillow itself warns from 89 megapixels on
    assert check_photo(tmp_path / "large.png", "large")[0] == PhotoSize((9_000, 10_000))
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


def test_warnings_stay_silent_in_threads_and_return_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "p.jpg"
    save_photo(path, draw_photo(SIZE))
    data = path.read_bytes()
    # an EXIF block that Pillow warns about: it says that there is a tag, and then ends
    path.write_bytes(data[:2] + b"\xff\xe1\x00\x14Exif\x00\x00II*\x00\x08\x00\x00\x00\x09\x00\x12\x01" + data[2:])
    with pytest.warns(UserWarning, match="EXIF"), Image.open(path) as image:
        image.getexif()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                check_photo(path, "p")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", UserWarning, stacklevel=1)
