"""models/cache/pixels.py: made once, mapped afterwards, whole or not there."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from magic_cli.errors import DataError
from magic_cli.models.cache import pixels
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
    assert isinstance(store.get("a", make), np.memmap)
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


@pytest.mark.parametrize("damage", [b"", b"x", b"\x93NUMPY\x01\x00v\x00{'descr'"])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: bytes) -> None:
    store = PixelStore(tmp_path)
    store.get("a", lambda: PHOTO)
    [path] = tmp_path.rglob("*.npy")
    path.write_bytes(damage or path.read_bytes()[:-5])
    assert np.array_equal(store.get("a", lambda: PHOTO), PHOTO)
    assert np.array_equal(store.get("a", lambda: PHOTO + 1), PHOTO)


def test_a_folder_that_cannot_be_written_is_named_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="--no-cache"):
        PixelStore(tmp_path / "file").get("a", lambda: PHOTO)
