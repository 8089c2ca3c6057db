"""Every photo that people really have, and every one that nobody should open: prepare lists it and goes on."""

import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from challenge_folders import draw_lesion, draw_photo, image_id, save_mask
from harness import CANARY, Magic, accepted, copied, left, refused
from PIL import Image
from tiny_dataset import encoded

from magic_cli.data.imaging import images
from magic_cli.data.imaging.images import open_photo

SIZE = (48, 64)


def jpeg(mode: str = "RGB", **options: Any) -> bytes:
    return encoded(draw_photo(SIZE).convert(mode), "JPEG", **options)


def png(mode: str = "RGB", **options: Any) -> bytes:
    return encoded(draw_photo(SIZE).convert(mode), "PNG", **options)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def made_png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 2) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(chunks) + chunk(b"IEND", b"")


def deep_png() -> bytes:
    """16-bit RGB, which Pillow cannot write."""
    rows = np.asarray(draw_photo(SIZE)).astype(">u2") * 257
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    return made_png(SIZE[1], SIZE[0], chunk(b"IDAT", zlib.compress(lines)), depth=16)


def grey_png() -> bytes:
    grey = np.asarray(draw_photo(SIZE).convert("L"))
    return encoded(Image.fromarray(grey * np.uint16(257)), "PNG")


def resized(data: bytes, width: int, height: int) -> bytes:
    """A JPEG whose header claims another size."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def with_chunk(kind: bytes, data: bytes) -> bytes:
    whole = png()
    return whole[:33] + chunk(kind, data) + whole[33:]


def white_is_zero(factor: np.unsignedinteger[Any]) -> bytes:
    grey = (255 - np.asarray(draw_photo(SIZE).convert("L"))) * factor
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, grey, photometric="miniswhite")
    return buffer.getvalue()


def zeros(megabytes: int) -> bytes:
    return zlib.compress(bytes(1 << 20) * megabytes, 9)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n(canary) (w) file closefile\nshowpage\n%%EOF\n"
PHOTO = jpeg()
# what the photo's file holds, and a word of the line that says why it is left out
BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "an empty file"),
    "one byte": (lambda: b"\xff", "damaged"),
    "null bytes": (lambda: bytes(4096), "a file of zeros"),
    "a web page": (lambda: b"<!doctype html><title>403</title>", "a web page"),
    "a text": (lambda: CANARY.encode(), "a text file"),
    "JPEG cut in its header": (lambda: PHOTO[:20], "got"),
    "JPEG cut in half": (lambda: PHOTO[: len(PHOTO) // 2], "truncated"),
    "JPEG without its end": (lambda: PHOTO[:-200], "truncated"),
    "JPEG claiming 65,500 x 65,500": (lambda: resized(PHOTO, 65500, 65500), "4290 megapixels"),
    "JPEG claiming no height": (lambda: resized(PHOTO, 64, 0), "got"),
    "PNG cut in half": (lambda: png()[:2000], "truncated"),
    "PNG with a wrong checksum": (lambda: png().replace(b"IHDR", b"IHDX"), "damaged"),
    "PNG claiming 100,000 x 100,000": (lambda: made_png(100_000, 100_000), "10000 megapixels"),
    "PNG claiming 2^31 x 1": (lambda: made_png(2**31 - 1, 1), "megapixels"),
    "PNG of half its rows": (
        lambda: made_png(64, 48, chunk(b"IDAT", zlib.compress(bytes(24 * 193)))),
        "a truncated photo",
    ),
    "PNG whose pixels fail their checksum": (lambda: png().replace(b"IDAT", b"IDAT\1", 1), "damaged"),
    "PNG without pixels": (lambda: made_png(64, 48), "got"),
    "PNG with pixels that are no zlib": (lambda: made_png(64, 48, chunk(b"IDAT", bytes(100))), "got"),
    "JPEG 2000": (lambda: encoded(draw_photo(SIZE), "JPEG2000"), "JPEG 2000, expected a JPEG or PNG photo; convert it"),
    "Git LFS pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:4\n", "run `git lfs pull`"),
    "TIFF of floats": (
        lambda: encoded(Image.fromarray(np.ones(SIZE, np.float32)), "TIFF"),
        "a TIFF in F, 32 bits a pixel",
    ),
    "PNG bomb in its text": (lambda: made_png(64, 48, chunk(b"zTXt", b"a\0\0" + zeros(64))), "got"),
    "GIF claiming 65,535 x 65,535": (lambda: b"GIF89a" + b"\xff" * 4 + bytes(3) + b",", "got"),
    "EPS, which Ghostscript would run": (lambda: EPS, "PostScript"),
    "SVG": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "SVG"),
    "PDF": (lambda: encoded(draw_photo(SIZE), "PDF"), "a PDF"),
    "ICO": (lambda: encoded(draw_photo(SIZE), "ICO"), "an icon"),
    "TIFF of fax codes": (
        lambda: encoded(Image.fromarray(draw_lesion(SIZE) * 255).convert("1"), "TIFF", compression="group4"),
        "CCITT (fax) compression, expected a JPEG or PNG photo; save it as PNG",
    ),
    "HEIC": (lambda: b"\0\0\0\x18ftypheic" + bytes(200), "HEIC, expected a JPEG or PNG photo; convert it to JPEG"),
}


@pytest.fixture
def data(raw: Path, tmp_path: Path) -> Path:
    return copied(raw, tmp_path / "raw")


def photo_of(data: Path, number: int) -> Path:
    return next(data.rglob(f"{image_id(number)}.jpg"))


@pytest.mark.parametrize("how", BAD)
def test_left_out_and_named(magic: Magic, data: Path, how: str, memory: None) -> None:
    make, word = BAD[how]
    path = photo_of(data, 1)
    path.write_bytes(make())
    ended = accepted(magic("prepare", "--data", data, "--dry-run"), f"{path.name}: ", "left out: 1 photo")
    [line] = [line for line in ended.out.splitlines() if line.startswith("problem:")]
    assert word in line


def test_all_of_them_at_once_and_nothing_is_written(magic: Magic, data: Path) -> None:
    for number, how in enumerate(list(BAD)[:7], 1):
        photo_of(data, number).write_bytes(BAD[how][0]())
    lines = refused(magic("prepare", "--data", data, "--strict", "--out", "out"), 3)
    assert sum(line.count(".jpg") for line in lines) == 7  # those of one kind share a line
    assert left(Path()) == []


def test_ghostscript_is_never_started(magic: Magic, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow would hand an EPS of any name to an interpreter of a programming language."""
    started: list[object] = []
    monkeypatch.setattr("subprocess.Popen.__init__", lambda *args, **_: started.append(args))
    monkeypatch.setattr("os.system", started.append)
    photo_of(data, 1).write_bytes(EPS)
    accepted(magic("prepare", "--data", data, "--dry-run"), "left out: 1 photo")
    assert started == []


@pytest.mark.parametrize("suffix", [".webp", ".bmp", ".tif", ".TIFF", ".gif", ".jpe", ".png", "", ".bin"])
def test_other_suffixes_than_the_listed_one(magic: Magic, data: Path, suffix: str) -> None:
    """Converted photos are listed as .jpg still; where a name tells nothing, the content does."""
    kinds = {".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF", ".TIFF": "TIFF", ".gif": "GIF", ".png": "PNG"}
    path = photo_of(data, 1)
    path.with_suffix(suffix).write_bytes(encoded(draw_photo(SIZE), kinds.get(suffix, "JPEG")))
    path.unlink()
    ended = accepted(magic("prepare", "--data", data, "--dry-run", "--strict"))
    assert "problem" not in ended.out


def test_a_photo_of_another_kind_under_its_own_suffix(magic: Magic, data: Path) -> None:
    path = photo_of(data, 1)
    path.rename(path.with_suffix(".heic")).write_bytes(b"\0\0\0\x18ftypheic" + bytes(200))
    ended = accepted(magic("prepare", "--data", data, "--dry-run"), "left out: 1 photo")
    assert f"{image_id(1)}.heic: got HEIC, expected a JPEG or PNG photo; convert it to JPEG" in ended.out


@pytest.mark.parametrize("what", ["photo", "mask", "two copies of a photo"])
def test_sparse_files_of_a_terabyte(magic: Magic, data: Path, what: str) -> None:
    path = next(data.rglob("*_mask_ann0.tiff")) if what == "mask" else photo_of(data, 1)
    paths = [path, data / "again" / path.name] if "copies" in what else [path]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.truncate(1 << 40)
    ended = accepted(magic("prepare", "--data", data, "--dry-run"), "got a file of 1 TiB, expected at most 1 GiB")
    assert f"left out: 1 {'mask' if what == 'mask' else 'photo'}" in ended.out


def test_memory_that_ends_costs_one_photo(magic: Magic, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = images.read_regular

    def fail(path: str, most: int) -> bytes:
        if Path(path).stem == image_id(1):
            raise MemoryError
        return whole(path, most)

    monkeypatch.setattr(images, "read_regular", fail)
    accepted(magic("prepare", "--data", data, "--dry-run"), "got no memory left to read it", "left out: 1 photo")


@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a link to nowhere", "a link to itself", "a device"])
def test_no_files(magic: Magic, data: Path, kind: str) -> None:
    path = photo_of(data, 1)
    path.unlink()
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"a link to nowhere": "nowhere", "a link to itself": path.name, "a device": "/dev/zero"}[kind])
    word = {"a folder": "", "a pipe": "but a named pipe", "a device": "but a device"}.get(kind, "but a broken link")
    accepted(magic("prepare", "--data", data, "--dry-run"), f"no photo for ENC00001, {word}", "left out: 1 photo")


def animated(kind: str) -> bytes:
    frames = [draw_photo(SIZE, seed) for seed in (1, 2)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return jpeg(exif=exif)


# what works, and the note that says so where it matters
GOOD: dict[str, tuple[Callable[[], bytes], str]] = {
    "CMYK JPEG": (lambda: jpeg("CMYK"), "1 photo is JPEG in CMYK: converted to 8-bit RGB"),
    "grey JPEG": (lambda: jpeg("L"), ""),
    "progressive JPEG": (lambda: jpeg(progressive=True), ""),
    "JPEG with more behind its end": (lambda: PHOTO + b"\0" * 5000, ""),
    "several JPEGs in one": (lambda: animated("MPO"), ""),
    "PNG in a JPEG's name": (png, "1 photo is PNG, despite its file name"),
    "WebP in a JPEG's name": (lambda: encoded(draw_photo(SIZE), "WEBP"), "1 photo is WEBP, despite its file name"),
    "TIFF in a JPEG's name": (lambda: encoded(draw_photo(SIZE), "TIFF"), "1 photo is TIFF, despite its file name"),
    "BMP in a JPEG's name": (lambda: encoded(draw_photo(SIZE), "BMP"), "1 photo is BMP, despite its file name"),
    "16-bit RGB PNG": (deep_png, "PNG"),
    "16-bit grey PNG": (grey_png, "1 photo is PNG in I;16: converted to 8-bit RGB"),
    "palette PNG": (lambda: png("P"), "PNG"),
    "palette PNG with transparency": (lambda: png("P", transparency=3), "PNG"),
    "PNG with alpha": (lambda: png("RGBA"), "PNG"),
    "1-bit PNG": (lambda: png("1"), "PNG"),
    "animated GIF": (lambda: animated("GIF"), "1 photo is animated GIF: the first frame is used"),
    "animated PNG": (lambda: animated("PNG"), "1 photo is animated PNG: the first frame is used"),
    "JPEG without its end": (lambda: PHOTO[:-2], "1 photo is JPEG without its end marker: all of its pixels are there"),
    "PNG without its end": (lambda: png()[:-12], "1 photo is PNG without its end marker"),
    "PNG with 2 MB of packed text": (
        lambda: with_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zeros(2)),
        "1 photo is PNG, despite its file name",
    ),
    "PNG with a bomb as its profile": (lambda: with_chunk(b"iCCP", b"a\0\0" + zeros(64)), "1 photo is PNG, despite"),
    "PNG with a wrong checksum of its text": (
        lambda: with_chunk(b"tEXt", b"a\0b").replace(b"a\0b", b"a\0c"),
        "1 photo is PNG, despite",
    ),
    "TIFF whose white is zero, 16 bits": (
        lambda: white_is_zero(np.uint16(257)),
        "1 photo is TIFF in I;16: converted to 8-bit RGB",
    ),
    "TIFF whose white is zero": (lambda: white_is_zero(np.uint8(1)), "1 photo is TIFF, despite"),
    "CMYK TIFF": (lambda: encoded(draw_photo(SIZE).convert("CMYK"), "TIFF"), "1 photo is TIFF in CMYK"),
    "EXIF orientation 3": (lambda: turned(3), "1 photos have an EXIF orientation"),
    "EXIF that is damaged": (lambda: jpeg(exif=b"Exif\0\0II*\0" + b"\xff" * 40), ""),
    "EXIF orientation 99": (lambda: turned(99), ""),
}


@pytest.mark.parametrize("how", GOOD)
def test_works_and_is_said(magic: Magic, data: Path, how: str) -> None:
    make, note = GOOD[how]
    path = photo_of(data, 1)
    path.write_bytes(make())
    ended = accepted(magic("prepare", "--data", data, "--dry-run", "--strict"), note)
    assert ("note:" in ended.out) == bool(note)
    found = open_photo(path, upright=False)
    assert found.mode == "RGB"
    assert found.size == SIZE[::-1]
    if "1-bit" not in how:  # the lesion is the dark part
        grey = np.asarray(found.convert("L"), int)
        assert grey[draw_lesion(SIZE) == 1].mean() < grey[draw_lesion(SIZE) == 0].mean() - 40


def test_odd_sizes_from_raw_folder_to_submission(magic: Magic, data: Path) -> None:
    """One pixel, one row, one column, 20,000 pixels wide: photos to learn from, to be judged by, and to predict."""
    sizes = {1: (1, 1), 2: (1, 64), 3: (3, 20_000), 4: (48, 1), 5: (2, 2), 6: (1, 1), 7: (3, 20_000)}
    for number, size in sizes.items():
        photo_of(data, number).write_bytes(encoded(draw_photo(size, seed=number), "JPEG"))
        for path in data.rglob(f"{image_id(number)}_mask_ann*.tiff"):
            save_mask(path, np.ones(size, np.uint8))
    accepted(magic("prepare", "--data", data))
    rows = [json.loads(line) for line in Path("prepared/images.jsonl").read_text().splitlines()]
    found = {row["image_id"]: (row["height"], row["width"]) for row in rows}
    assert {number: found[image_id(number)] for number in sizes} == sizes
    accepted(magic("train", "seg", "--preset", "tiny", "--set", "epochs=1", "--no-cache"))
    accepted(magic("predict", "seg", "--ckpt", "best.pt", "--no-cache"))
    accepted(magic("package", "--seg", "predictions/seg"))
