"""pixels.py: made once, mapped afterwards, whole or not there."""

from pathlib import Path

import numpy as np
import pytest

from magic_cli.errors import DataError
from magic_cli.model.pixels import PixelStore

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


def test_without_a_folder_everything_is_made_anew() -> None:
    store = PixelStore(None)
    assert np.array_equal(store.get("a", lambda: PHOTO), PHOTO)
    assert np.array_equal(store.get("a", lambda: PHOTO + 1), PHOTO + 1)


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
