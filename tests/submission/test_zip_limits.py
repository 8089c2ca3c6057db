"""submission/zip_limits.py: zips that ask for more than they hold are refused before anything is unpacked."""

import io
import struct
import zipfile
import zlib
from collections.abc import Sequence

import pytest

from magic_cli.errors import SubmissionError
from magic_cli.submission import zip_limits
from magic_cli.submission.zip_limits import NoZip, check_directory, check_members, member_fault

END, END64, LOCATOR = "<IHHHHIIH", "<IQHHIIQQQQ", "<IIQI"


def ended(directory: int, comment: bytes = b"", before: bytes = b"") -> bytes:
    return before + struct.pack(END, 0x06054B50, 0, 0, 1, 1, directory, 0, len(comment)) + comment


def zip64(directory: int, at: int, gap: int = 0) -> bytes:
    """The records of zip64, with `gap` bytes between the record and its locator."""
    record = struct.pack(END64, 0x06064B50, 44, 45, 45, 0, 0, 1, 1, directory, 0)
    return record + bytes(gap) + struct.pack(LOCATOR, 0x07064B50, 0, at, 1)


LARGE = 94 << 20
DECOY = struct.pack(END64, 0x06064B50, 44, 45, 45, 0, 0, 1, 1, 10, 0)

LISTS = {
    "plain": ended(LARGE),
    "behind a comment": ended(LARGE, b"c" * 65_535),
    "behind a comment with a mark of zip64": ended(LARGE, DECOY),
    "zip64": ended(0xFFFFFFFF, before=zip64(LARGE, 0)),
    "zip64 behind a comment with its mark": ended(0xFFFFFFFF, DECOY, before=zip64(LARGE, 0)),
    "zip64 where only the locator says": ended(0xFFFFFFFF, before=zip64(LARGE, 0, gap=100)),
    "zip64 beside a small list": ended(46, before=zip64(LARGE, 0)),
}


@pytest.mark.parametrize("how", LISTS)
def test_the_list_of_members_is_measured_at_its_true_end(how: str) -> None:
    with pytest.raises(SubmissionError, match="a list of members of 94 MiB, expected at most 8 MiB"):
        check_directory(io.BytesIO(LISTS[how]), "s.zip")


@pytest.mark.parametrize("data", [b"", b"text", b"PK\x05\x06", b"PK\x03\x04" + bytes(70_000)])
def test_no_list_at_all(data: bytes) -> None:
    with pytest.raises(NoZip):
        check_directory(io.BytesIO(data), "s.zip")


def test_lists_of_sound_zips_pass() -> None:
    for comment in (b"", b"made by hand", DECOY):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            file.writestr("a", b"x")
            file.comment = comment
        check_directory(buffer, "s.zip")


def overlapping(count: int, size: int) -> bytes:
    """Members that each hold the headers of the next ones and one kernel of zeros (D. Fifield, 2019)."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    kernel = packer.compress(bytes(size)) + packer.flush()
    names = [b"m%05d" % number for number in range(count)]
    headers, offsets = b"", []
    for number, name in enumerate(names):
        offsets.append(len(headers))
        extra = (count - 1 - number) * (30 + len(name))
        fields = (0x04034B50, 20, 0, 8, 0, 33, zlib.crc32(bytes(size)), len(kernel), size, len(name), extra)
        headers += struct.pack("<IHHHHHIIIHH", *fields) + name
    entries = b"".join(
        struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, 0, 8, 0, 33, zlib.crc32(bytes(size)), len(kernel), size,
                    len(name), 0, 0, 0, 0, 0, offset) + name
        for name, offset in zip(names, offsets, strict=True)
    )  # fmt: skip
    end = struct.pack(END, 0x06054B50, 0, 0, count, count, len(entries), len(headers) + len(kernel), 0)
    return headers + kernel + entries + end


def listed(data: bytes) -> Sequence[zipfile.ZipInfo]:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return file.infolist()


def test_members_that_share_bytes() -> None:
    infos = listed(overlapping(3, 100_000))
    assert [info.file_size for info in infos] == [100_000] * 3
    with pytest.raises(SubmissionError, match="members that share bytes"):
        check_members("s.zip", infos)
    with pytest.raises(SubmissionError, match="members that share bytes"):
        check_members("s.zip", [infos[0], infos[0]])


def test_members_that_unpack_to_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("a", "b"):
            file.writestr(name, bytes(100_000))
    infos = listed(buffer.getvalue())
    check_members("s.zip", infos)
    assert [member_fault(info, twice=False) for info in infos] == [None, None]  # zeros grow by a thousand
    monkeypatch.setattr(zip_limits, "MAX_TOTAL", 199_999)
    with pytest.raises(SubmissionError, match=r"195\.3 KiB unpacked"):
        check_members("s.zip", infos)


@pytest.mark.parametrize(
    ("method", "packed", "size", "word"),
    [
        (8, 100, 103_200, ""),
        (8, 100, 103_201, "103201 bytes from 100"),
        (0, 100, 101, "101 bytes from 100"),
        (12, 100, 900_000, ""),
        (14, 1, 1 << 28, ""),
        (14, 1, (1 << 28) + 1, "a file of 256 MiB"),
        (9, 1, 1, "a member packed with Deflate64"),
        (93, 1, 1, "a member packed with Zstandard"),
        (1, 1, 1, "a member packed with shrink"),
        (77, 1, 1, "a member packed with compression method 77"),
    ],
)
def test_sizes_and_methods_of_a_member(method: int, packed: int, size: int, word: str) -> None:
    info = zipfile.ZipInfo("a")
    info.compress_type, info.compress_size, info.file_size = method, packed, size
    fault = member_fault(info, twice=False)
    assert word in (fault[0] if fault else "")
    assert bool(fault) == bool(word)
