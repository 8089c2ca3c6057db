"""staging.py: what a folder built aside holds is on the disk before anybody sees it, at one wait a file."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from magic_cli.data.masks import write_mask
from magic_cli.data.parts import parts
from magic_cli.data.staging import staged
from magic_cli.errors import DataError

WAYS: dict[str, Callable] = {"staged": staged, "parts": lambda out: parts(out, ("*.tiff", "masks"))}


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("way", list(WAYS))
def test_files_are_brought_to_the_disk_once_and_before_they_are_seen(
    way: str, there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, synced, seen = tmp_path / "out", list[int](), list[bool]()
    if there:
        out.mkdir()

    def fsync(handle: int) -> None:
        synced.append(os.fstat(handle).st_ino)
        seen.append((out / "masks" / "7.tiff").exists())

    monkeypatch.setattr(os, "fsync", fsync)
    with WAYS[way](out) as folder:
        for number in range(20):
            write_mask(folder / "masks" / f"{number}.tiff", np.eye(4 + number, dtype=np.uint8))
        assert synced == []  # a wait for each mask took 11 of the 27 s of `predict` for 2,474 small photos
    found = sorted(path.stat().st_ino for path in out.rglob("*.tiff"))
    assert (len(found), sorted(synced), any(seen)) == (20, found, False)


@pytest.mark.parametrize("way", list(WAYS))
def test_a_disk_that_fails_at_the_end_leaves_the_old_folder(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with WAYS[way](out) as folder:
        (folder / "x.tiff").write_text("old")
    monkeypatch.setattr(os, "fsync", _broken)
    with pytest.raises(DataError, match=r"/out: cannot be written \(Input/output error\)"), WAYS[way](out) as folder:
        (folder / "x.tiff").write_text("new")
    assert (out / "x.tiff").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def _broken(_: int) -> None:
    raise OSError(5, "Input/output error")
