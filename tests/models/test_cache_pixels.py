"""models/cache/pixels.py: made once, mapped afterwards, whole or not there."""

import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from magic_cli.models.cache import notes, pixels
from magic_cli.models.cache import store as storage
from magic_cli.models.cache.pixels import PixelMemo, PixelStore

PHOTO = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)


def test_made_once(tmp_path: Path) -> None:
    calls = []

    def make() -> np.ndarray:
        calls.append(1)
        return PHOTO

    store = PixelStore(tmp_path)
    for _ in range(3):
        assert np.array_equal(store.get("a", make), PHOTO)
    assert len(calls) == 1
    assert not store.get("a", make).flags.writeable
    assert not np.array_equal(store.get("b", lambda: PHOTO + 1), PHOTO)
    assert len(list(tmp_path.rglob("*.npy"))) == 2


def test_without_a_folder_the_first_ones_are_kept_up_to_a_size() -> None:
    memo = PixelMemo(free=2 * PHOTO.nbytes + 5)
    store = PixelStore(None, memo)
    first = {key: store.get(key, lambda n=number: PHOTO + n) for number, key in enumerate("abc")}
    assert memo.free == 5
    again = {key: store.get(key, lambda: PHOTO + 100) for key in "abc"}
    for key in "ab":
        assert np.array_equal(again[key], first[key])
        assert not again[key].flags.writeable
    assert np.array_equal(again["c"], PHOTO + 100)
    assert np.array_equal(PixelStore(None, memo).get("a", lambda: PHOTO + 7), PHOTO)  # models share it


def test_what_is_kept_does_not_change_with_what_was_given() -> None:
    store, made = PixelStore(None, PixelMemo(1000)), PHOTO.copy()
    store.get("a", lambda: made)[:] = 0
    assert np.array_equal(store.get("a", lambda: PHOTO + 1), PHOTO)


def test_a_part_of_something_large_counts_with_its_own_size() -> None:
    memo = PixelMemo(1000)
    PixelStore(None, memo).get("a", lambda: np.zeros((100, 100), np.uint8)[:3, :3])
    assert (memo.free, memo.arrays["a"].base) == (991, None)


def test_a_folder_keeps_the_memory_empty(tmp_path: Path) -> None:
    memo = PixelMemo(1000)
    PixelStore(tmp_path, memo).get("a", lambda: PHOTO)
    assert memo.arrays == {}


def test_workers_keep_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    memo = PixelMemo(1000)
    monkeypatch.setattr(pixels, "get_worker_info", lambda: "a worker")
    assert np.array_equal(PixelStore(None, memo).get("a", lambda: PHOTO), PHOTO)
    assert (memo.arrays, memo.free) == ({}, 1000)


def test_the_last_use_is_noted(tmp_path: Path) -> None:
    store = PixelStore(tmp_path / "pixels")
    store.get("a", lambda: PHOTO)
    [entry] = storage.entries(tmp_path)  # which the folder's limit counts
    os.utime(entry.path, (0, 1000))
    store.get("a", lambda: PHOTO)
    assert time.time() - entry.path.stat().st_mtime < 60


def test_a_killed_writer_leaves_what_is_swept_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: Path, *_: object, **__: object) -> None:
        raise SystemExit

    store = PixelStore(tmp_path / "pixels")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(SystemExit):
            store.get("a", lambda: PHOTO)
    [temporary] = storage.entries(tmp_path)
    assert not temporary.finished
    assert np.array_equal(store.get("a", lambda: PHOTO + 1), PHOTO + 1)
    storage.CacheUse(tmp_path)
    assert [entry.finished for entry in storage.entries(tmp_path)] == [True]


def numpy(array: np.ndarray, pickle: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=pickle)
    return buffer.getvalue()


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut": lambda data: data[:-5],
    "cut header": lambda _: b"\x93NUMPY\x01\x00v\x00{'descr'",
    "zeros": lambda data: bytes(len(data)),
    "zeros behind": lambda data: data[:140] + bytes(len(data) - 140),
    "zeros within": lambda data: data[:130] + bytes(20) + data[150:],
    "a bit": lambda data: data[:130] + bytes([data[130] ^ 1]) + data[131:],
    "a pixel": lambda _: numpy(PHOTO[:1, :1]),
    "other pixels": lambda _: numpy(PHOTO + 1),
    "without a checksum": lambda _: numpy(PHOTO),
    "another type": lambda _: numpy(PHOTO.astype(">u2")),
    "columns first": lambda _: numpy(np.asfortranarray(PHOTO)),
    "a pickle": lambda _: numpy(np.array([PHOTO, None], object), pickle=True),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: str) -> None:
    notes._current = notes.Notes()
    store = PixelStore(tmp_path)
    store.get("a", lambda: PHOTO)
    [path] = tmp_path.rglob("*.npy")
    whole = path.read_bytes()
    path.write_bytes(DAMAGE[damage](whole))
    assert np.array_equal(store.get("a", lambda: PHOTO), PHOTO)
    assert path.read_bytes() == whole
    assert np.array_equal(store.get("a", lambda: PHOTO + 1), PHOTO)


def test_files_of_two_photos_that_were_exchanged_are_made_again(tmp_path: Path) -> None:
    store = PixelStore(tmp_path)
    store.get("a", lambda: PHOTO)
    [path] = tmp_path.rglob("*.npy")
    store.get("b", lambda: PHOTO + 1)
    [other] = set(tmp_path.rglob("*.npy")) - {path}
    other.replace(path)
    assert np.array_equal(store.get("a", lambda: PHOTO), PHOTO)


def test_a_pipe_is_replaced(tmp_path: Path) -> None:
    store = PixelStore(tmp_path)
    store.get("a", lambda: PHOTO)
    [path] = tmp_path.rglob("*.npy")
    path.unlink()
    os.mkfifo(path)
    assert np.array_equal(store.get("a", lambda: PHOTO), PHOTO)
    assert path.is_file()


def test_forked_processes_count_for_one_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the workers of a data loader do, which are new in each epoch."""
    notes._current = notes.Notes()
    store = PixelStore(tmp_path)
    for key in "abc":
        store.get(key, lambda: PHOTO)
    for path in tmp_path.rglob("*.npy"):
        path.write_bytes(b"")
    for key in "abc":
        child = os.fork()
        if child == 0:
            store.get(key, lambda: PHOTO)
            os._exit(0)
        os.waitpid(child, 0)
    notes.current().report()
    assert capsys.readouterr().err == "3 cached files were damaged and are made again\n"


def test_what_cannot_be_stored_is_kept_in_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes._current = notes.Notes()
    (tmp_path / "file").touch()
    store = PixelStore(tmp_path / "file", PixelMemo(1000))
    for key in "ab":
        assert np.array_equal(store.get(key, lambda: PHOTO), PHOTO)
    assert np.array_equal(store.get("a", lambda: PHOTO + 1), PHOTO)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{tmp_path / 'file'}: the cache cannot be written (Not a directory): what is missing")
