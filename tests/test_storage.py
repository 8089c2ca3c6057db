"""storage.py: only files of ours are seen, the limit is understood or refused, dead writers' files go."""

import os
import time
from pathlib import Path

import pytest

from magic_cli.errors import ConfigError, DataError
from magic_cli.model import storage

KEY = "ab" + "0" * 62
OURS = {
    f"float16/ab/{KEY}.safetensors": True,
    f"float32/ab/{KEY}.safetensors": True,
    f"bfloat16/ab/{KEY}.safetensors": True,
    f"pixels/ab/{KEY}.npy": True,
    f"float16/ab/{KEY}.123.0a1b2c3d.tmp": False,
    f"pixels/ab/.{KEY[:60]}.x7_q.tmp": False,
}
FOREIGN = (
    *("notes.txt", "float16/notes.txt", f"float16/{KEY}.safetensors", f"{KEY}.npy", f"other/ab/{KEY}.npy"),
    *(f"float16/ab/{KEY}.npy", f"pixels/ab/{KEY}.safetensors", f"pixels/cd/{KEY}.npy", "pixels/ab/photo.npy"),
    *("float16/ab/model.safetensors", f"float16/ab/{KEY}0.safetensors", "float16/ab/draft.tmp", f"{KEY}.1.2.tmp"),
    *(f"float16/ab/{KEY.upper()}.safetensors", f"float16/ab/deep/{KEY}.safetensors"),
)


def plant(root: Path, *names: str, size: int = 10) -> list[Path]:
    paths = [root / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    return paths


def test_only_our_files_are_seen(tmp_path: Path) -> None:
    plant(tmp_path, *OURS, *FOREIGN)
    found = {entry.path.relative_to(tmp_path).as_posix(): entry for entry in storage.entries(tmp_path)}
    assert {name: entry.finished for name, entry in found.items()} == OURS
    entry = found[f"pixels/ab/{KEY}.npy"]
    assert (entry.name, entry.size) == (f"pixels/{KEY}", 10)
    assert abs(entry.used - time.time()) < 60


def test_links_are_not_followed(tmp_path: Path) -> None:
    away, root = tmp_path / "away", tmp_path / "cache"
    plant(away, f"ab/{KEY}.npy", f"ab/{KEY}.safetensors", f"pixels/ab/{KEY}.npy")
    root.mkdir()
    (root / "pixels").symlink_to(away / "pixels")
    (root / "float16").mkdir()
    (root / "float16" / "ab").symlink_to(away / "ab")
    (root / "float32" / "ab").mkdir(parents=True)
    (root / "float32" / "ab" / f"{KEY}.safetensors").symlink_to(away / "ab" / f"{KEY}.npy")
    assert list(storage.entries(root)) == []


def test_nothing_there(tmp_path: Path) -> None:
    assert list(storage.entries(tmp_path / "gone")) == []
    (tmp_path / "pixels").touch()
    assert list(storage.entries(tmp_path)) == []
    assert storage.free_bytes(tmp_path / "not" / "yet") > 0


@pytest.mark.parametrize(
    ("text", "expected"), [("", 20e9), ("5", 5e9), (" 0.5 ", 0.5e9), ("inf", float("inf")), ("1e3", 1e12)]
)
def test_limit(monkeypatch: pytest.MonkeyPatch, text: str, expected: float) -> None:
    monkeypatch.setenv("MAGIC_CACHE_GB", text)
    assert storage.limit() == expected
    monkeypatch.delenv("MAGIC_CACHE_GB")
    assert storage.limit() == 20e9


@pytest.mark.parametrize("text", ["0", "-1", "nan", "5GB", "much"])
def test_limits_that_are_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("MAGIC_CACHE_GB", text)
    with pytest.raises(ConfigError) as raised:
        storage.limit()
    assert raised.value.problems == (f"MAGIC_CACHE_GB={text}: expected a number of gigabytes above 0, such as 20",)


@pytest.mark.parametrize(("age", "renewed"), [(3500, False), (3700, True), (-1000, False)])
def test_touch_keeps_the_last_use_to_the_hour(tmp_path: Path, age: float, renewed: bool) -> None:
    [path] = plant(tmp_path, "a", size=7)
    then = time.time() - age
    os.utime(path, (then, then))
    assert storage.touch(path) == 7
    assert (abs(path.stat().st_mtime - time.time()) < 60) == renewed
    assert storage.touch(tmp_path / "gone") == 0


def test_a_cache_on_a_read_only_disk_is_used_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the time of the last use cannot be noted, what lies there is not taken for missing."""
    [path] = plant(tmp_path, "a", size=7)
    os.utime(path, (0, 5))

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "utime", refuse)
    assert storage.touch(path) == 7


def test_sweep_takes_old_temporary_files_alone(tmp_path: Path) -> None:
    planted = plant(tmp_path, *OURS, *FOREIGN)
    old = time.time() - 3700
    for path in planted:
        os.utime(path, (old, old))
    [fresh] = plant(tmp_path, f"pixels/ab/.{KEY[:60]}.fresh.tmp")
    storage.sweep(tmp_path)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {name for name, done in OURS.items() if done} | set(FOREIGN) | {str(fresh.relative_to(tmp_path))}


@pytest.mark.parametrize(("size", "text"), [(0, "0.00 MB"), (99_000_000, "99.00 MB"), (100_000_000, "0.10 GB")])
def test_sizes_for_people(size: int, text: str) -> None:
    assert storage.spoken(size) == text


def test_nobody_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """2,474 masks waited 16 s for what can be made again; a full disk is one line all the same."""
    monkeypatch.setattr(os, "fsync", None)
    path = tmp_path / "pixels" / "ab" / f"{KEY}.npy"
    for data in (b"one", memoryview(b"two")):
        storage.put(path, data)
    assert (path.read_bytes(), [entry.path for entry in storage.entries(tmp_path)]) == (b"two", [path])
    with pytest.raises(DataError, match=r"\.npy: cannot be written \(Not a directory\); use --cache-dir or --no-cache"):
        storage.put(path / "ab" / f"{KEY}.npy", b"")
