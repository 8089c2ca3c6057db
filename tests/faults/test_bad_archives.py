"""Zips and folders of predictions that are damaged or hostile: refused by name, and nothing is ever extracted."""

import io
import random
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import CANARY, Magic, accepted, clean, left, refused
from tiny_dataset import ANSWERS, files_of, make_prepared, write_folder, write_zip

from magic_cli.submission import zip_limits

MASK = "masks_preds/IMG_ENC00011_00001_mask_sys.tiff"
FILES = files_of("valid")


def zipped(extra: dict[str, bytes] | None = None, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in (FILES | (extra or {})).items():
            file.writestr(name, data)
    return buffer.getvalue()


def special(name: str, mode: int, data: bytes = b"/etc/passwd") -> bytes:
    """A zip with a member of another kind than a file."""
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (mode | 0o777) << 16
    buffer = io.BytesIO(zipped())
    with zipfile.ZipFile(buffer, "a") as file:
        file.writestr(info, data)
    return buffer.getvalue()


def patched(data: bytes, name: str, at: int, change: bytes) -> bytes:
    """The zip with bytes of a member's entry in the list of members changed, `at` bytes after its start."""
    found = data.rindex(name.encode()) - 46
    assert data[found : found + 4] == b"PK\x01\x02"
    return data[: found + at] + change + data[found + at + len(change) :]


def repeated(count: int) -> bytes:
    """A list of members that names one member again and again."""
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<H", 1) + bytes(16) + b"x"
    end = b"PK\x05\x06" + bytes(4) + struct.pack("<HHIIH", 0xFFFF, 0xFFFF, len(entry) * count, 0, 0)
    return entry * count + end


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        file.addfile(tarfile.TarInfo(ANSWERS), io.BytesIO())
    return buffer.getvalue()


# a zip's bytes, and a word of the line that refuses it
BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "no zip"),
    "a text": (lambda: CANARY.encode(), "no zip"),
    "a tar": (tarred, "no zip"),
    "cut in half": (lambda: zipped()[: len(zipped()) // 2], "no zip"),
    "cut at its end": (lambda: zipped()[:-10], "no zip"),
    "cut at its start": (lambda: zipped()[400:], "got"),
    "a member above": (lambda: zipped({"../evil": b"x"}), "an unsafe path"),
    "a member far above": (lambda: zipped({"masks_preds/../../../evil": b"x"}), "an unsafe path"),
    "an absolute member": (lambda: zipped({"/etc/evil": b"x"}), "an unsafe path"),
    "a member of a drive": (lambda: zipped({"C:evil": b"x"}), "an unsafe path"),
    "a member of a share": (lambda: zipped({"//host/evil": b"x"}), "an unsafe path"),
    "a member with backslashes": (lambda: zipped({"..\\evil": b"x"}), "an unsafe path"),
    "a link": (lambda: special("evil", stat.S_IFLNK), "a symbolic link"),
    "a link that is a mask": (lambda: special("masks_preds/IMG_X_1_mask_sys.tiff", stat.S_IFLNK), "a symbolic link"),
    "a device": (lambda: special("evil", stat.S_IFCHR), "an unknown file"),
    "an encrypted member": (lambda: patched(zipped(), ANSWERS, 8, b"\1\0"), "an encrypted member"),
    "a member of 2 GiB": (lambda: patched(zipped(), MASK, 24, struct.pack("<I", 2**31)), "at most 256 MiB"),
    "a wrong checksum": (lambda: patched(zipped(), MASK, 16, b"\1\2\3\4"), "an unreadable file"),
    "a wrong checksum of the answers": (lambda: patched(zipped(), ANSWERS, 16, b"\1\2\3\4"), "unreadable"),
    "an unknown compression": (lambda: patched(zipped(), ANSWERS, 10, b"\x63\0"), "packed with compression"),
    "a member that begins elsewhere": (lambda: patched(zipped(), ANSWERS, 42, b"\xff\xff\0\0"), "unreadable"),
    "answers of 300 MB in 300 kB": (lambda: zipped({ANSWERS: bytes(300 << 20)}), "got"),
    "answers of four million empty lists": (
        lambda: zipped({ANSWERS: b"[" + b"[]," * 4_000_000 + b"0]"}),
        "more than 3 million values",
    ),
    "answers of more rows than are read": (lambda: zipped({ANSWERS: b"[" + b"[]," * 250_000 + b"0]"}), "250001 rows"),
    "answers of spaces": (lambda: zipped({ANSWERS: b" " * (30 << 20)}), "invalid JSON"),
    "two million names": (lambda: repeated(2_000_000), "a list of members of"),
    "control characters": (lambda: zipped({"\x1b]0;owned\x07\x9b2J": b"x"}), "an unknown file"),
    "a turned name": (lambda: zipped({"masks_preds/\u202effit.sys_ksam_1_X_GMI": b"x"}), "extension"),
    "no UTF-8": (
        lambda: zipped({"masks_preds/caf\udce9".encode("utf-8", "surrogateescape").decode("cp437"): b"x"}),
        "got",
    ),
    "packed bytes that are damaged": (lambda: damaged(), "unreadable"),
    "a member without a name": (lambda: zipped().replace(MASK.encode(), b"\0" + MASK.encode()[1:]), "no name"),
    "a zip in a zip": (lambda: zipped({"inner.zip": zipped()}), "an unknown file"),
    "nothing in it": (lambda: write_empty(), "got nothing"),
}


def damaged() -> bytes:
    data = zipped()
    at = data.index(ANSWERS.encode()) + len(ANSWERS) + 2
    return data[:at] + bytes(b ^ 0xFF for b in data[at : at + 40]) + data[at + 40 :]


def write_empty() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w"):
        pass
    return buffer.getvalue()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_prepared(tmp_path_factory.mktemp("archives") / "prepared")


@pytest.mark.parametrize("how", BAD)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_refused_and_nothing_is_extracted(
    magic: Magic, data: Path, tmp_path: Path, how: str, request: pytest.FixtureRequest
) -> None:
    make, word = BAD[how]
    path = tmp_path / "s.zip"
    path.write_bytes(make())
    request.getfixturevalue("memory")
    before = left(tmp_path)
    words = ("--data", data, "--split", "valid")
    refused(magic("package", "--check-only", path, *words), 4, "s.zip", word)
    for line in (("package", "--seg", path, "--cvqa", path, *words), ("score", path, data, "--resamples", 100)):
        ended = clean(magic(*line))
        if line[0] == "package" and "unknown file" not in word:
            refused(ended, 4, "s.zip")
        assert ended.code in (0, 4)
        for written in ("submission.zip", "submission.zip.run.json"):
            Path(written).unlink(missing_ok=True)
    assert left(tmp_path) == before


def test_any_changed_byte_is_refused_or_changes_nothing(magic: Magic, data: Path, tmp_path: Path) -> None:
    whole, path, rng = zipped(method=zipfile.ZIP_STORED), tmp_path / "s.zip", random.Random(3)  # noqa: S311
    for _ in range(60):
        at = rng.randrange(len(whole))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1 :])
        ended = clean(magic("package", "--check-only", path, "--data", data, "--split", "valid"))
        assert ended.code in (0, 4)


def test_all_together_is_limited(monkeypatch: pytest.MonkeyPatch, magic: Magic, data: Path, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "s.zip", FILES)
    monkeypatch.setattr(zip_limits, "MAX_TOTAL", 1000)
    refused(magic("package", "--check-only", path, "--data", data), 4, "at most 1000 bytes")


def test_folders_with_links(magic: Magic, data: Path, tmp_path: Path) -> None:
    """A link in a folder of one's own is followed; a loop, a pipe and a link to nowhere are no masks."""
    folder = write_folder(tmp_path / "sub", FILES)
    (folder / MASK).rename(tmp_path / "elsewhere.tiff")
    (folder / MASK).symlink_to(tmp_path / "elsewhere.tiff")
    accepted(magic("package", "--check-only", folder, "--data", data, "--split", "valid"))
    for target in (folder / MASK, tmp_path / "nowhere", Path("/dev/zero")):
        (folder / MASK).unlink()
        (folder / MASK).symlink_to(target)
        refused(magic("package", "--check-only", folder, "--data", data, "--split", "valid"), 4, MASK)
        refused(magic("score", folder, folder, "--resamples", 100), 3)


def test_good_zips(magic: Magic, data: Path, tmp_path: Path) -> None:
    """Compressions of other programs, a comment, bytes before the zip, zip64."""
    zip64 = io.BytesIO()
    with zipfile.ZipFile(zip64, "w") as file:
        for name, content in FILES.items():
            with file.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
                member.write(content)
        file.comment = b"made by hand"
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    for found in (*(zipped(method=method) for method in methods), zip64.getvalue(), b"#!/bin/sh\n" + zipped()):
        (tmp_path / "s.zip").write_bytes(found)
        accepted(magic("package", "--check-only", tmp_path / "s.zip", "--data", data, "--split", "valid"))


def test_a_challenge_that_is_still_packed_is_said_to_be(magic: Magic, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "images_final.zip").write_bytes(zlib.compress(b""))
    refused(magic("prepare", "--data", tmp_path / "raw"), 3, "unpack images_final.zip first")
