"""Files that would block are refused at once, with the words that a message needs."""

import os
import socket
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from magic_cli.io.regular_file import binary_size, irregular_kind, is_regular, open_regular, read_regular

KERNEL = Path("/proc/kmsg")


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)  # a path may have 107 bytes


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder": (Path.mkdir, "a folder"),
    "pipe": (os.mkfifo, "a named pipe"),
    "socket": (listening, "a socket"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "a device"),
    "the kernel's log": (lambda path: path.symlink_to(KERNEL), "a file of the kernel"),
}


@pytest.mark.parametrize("through_a_link", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_what_could_block_is_refused(
    kind: str, through_a_link: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "the kernel's log" and not KERNEL.exists():
        pytest.skip("no /proc/kmsg here")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "made"
    make, word = KINDS[kind]
    make(path)
    if through_a_link:
        (tmp_path / "link").symlink_to(path)
        path = tmp_path / "link"
    assert not is_regular(path)
    assert irregular_kind(path.stat()) == word
    for use in (open_regular, lambda path: read_regular(path, 10)):
        with pytest.raises(OSError, match="not a regular file") as caught:
            use(path)
        assert caught.value.strerror == f"{word}, not a regular file"


def test_regular_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        assert is_regular(tmp_path / name)
        assert read_regular(tmp_path / name, 10) == b"0123456789"
        with open_regular(tmp_path / name) as file:
            assert file.read() == b"0123456789"
    assert not is_regular(tmp_path / "gone")
    (tmp_path / "many").write_bytes(bytes(100))
    tracemalloc.start()
    read_regular(tmp_path / "many", 1 << 30)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20  # not what it might have needed
    tracemalloc.stop()
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "gone", 10)


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="1 TiB, more than 1 GiB"):
        read_regular(tmp_path / "sparse", 1 << 30)
    assert [binary_size(size) for size in (0, 1023, 1 << 20)] == ["0 bytes", "1023 bytes", "1 MiB"]
