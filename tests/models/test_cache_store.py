"""models/cache/store.py: only our files are seen; what a run needs or used today stays; clearing spares the rest."""

import gc
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from magic_cli.errors import ConfigError, DataError
from magic_cli.io import locks
from magic_cli.io.files import replacing
from magic_cli.models.cache import store
from magic_cli.models.cache.store import CacheUse, Cleared, clear

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
    result = {entry.path.relative_to(tmp_path).as_posix(): entry for entry in store.entries(tmp_path)}
    assert {name: entry.finished for name, entry in result.items()} == OURS
    entry = result[f"pixels/ab/{KEY}.npy"]
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
    assert list(store.entries(root)) == []


def test_nothing_there(tmp_path: Path) -> None:
    assert list(store.entries(tmp_path / "gone")) == []
    (tmp_path / "pixels").touch()
    assert list(store.entries(tmp_path)) == []
    assert store.free_bytes(tmp_path / "not" / "yet") > 0


@pytest.mark.parametrize(
    ("text", "expected"), [("", 20e9), ("5", 5e9), (" 0.5 ", 0.5e9), ("inf", float("inf")), ("1e3", 1e12)]
)
def test_limit(monkeypatch: pytest.MonkeyPatch, text: str, expected: float) -> None:
    monkeypatch.setenv("MAGIC_CACHE_GB", text)
    assert store.limit_bytes() == expected
    monkeypatch.delenv("MAGIC_CACHE_GB")
    assert store.limit_bytes() == 20e9


@pytest.mark.parametrize("text", ["0", "-1", "nan", "5GB", "much"])
def test_limits_that_are_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("MAGIC_CACHE_GB", text)
    with pytest.raises(ConfigError) as raised:
        store.limit_bytes()
    assert raised.value.problems == (f"MAGIC_CACHE_GB={text}: expected a number of gigabytes above 0, such as 20",)


@pytest.mark.parametrize(("age", "renewed"), [(3500, False), (3700, True), (-1000, False), (-3700, True)])
def test_touch_keeps_the_last_use_to_the_hour(tmp_path: Path, age: float, renewed: bool) -> None:
    [path] = plant(tmp_path, "a", size=7)
    then = time.time() - age
    os.utime(path, (then, then))
    assert store.touch(path) == 7
    assert (abs(path.stat().st_mtime - time.time()) < 60) == renewed
    assert store.touch(tmp_path / "gone") == 0


def test_a_cache_on_a_read_only_disk_is_used_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the time of the last use cannot be noted, what lies there is not taken for missing."""
    [path] = plant(tmp_path, "a", size=7)
    os.utime(path, (0, 5))

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "utime", refuse)
    assert store.touch(path) == 7


def test_a_run_removes_temporary_files_of_killed_ones_alone(tmp_path: Path) -> None:
    plant(tmp_path, *OURS, *FOREIGN, f"pixels/ab/.{KEY[:60]}.0a1b2c3d.tmp", f"other/ab/.{KEY[:60]}.0a1b2c3d.tmp")
    with replacing(tmp_path / "float16" / "ab" / f"{KEY}.safetensors") as file:
        CacheUse(tmp_path)
        assert Path(file.name).exists()  # it is being written
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*OURS, *FOREIGN, f"other/ab/.{KEY[:60]}.0a1b2c3d.tmp", store.LOCK}


@pytest.mark.parametrize(("size", "text"), [(0, "0.00 MB"), (99_000_000, "99.00 MB"), (100_000_000, "0.10 GB")])
def test_sizes_for_people(size: int, text: str) -> None:
    assert store.format_bytes(size) == text


def test_nobody_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """2,474 masks waited 16 s for what can be made again; a full disk is one line all the same."""
    monkeypatch.setattr(os, "fsync", None)
    path = tmp_path / "pixels" / "ab" / f"{KEY}.npy"
    for data in (b"one", memoryview(b"two")):
        store.put(path, data)
    assert (path.read_bytes(), [entry.path for entry in store.entries(tmp_path)]) == (b"two", [path])
    with pytest.raises(DataError, match=r"\.npy: cannot be written \(Not a directory\); use --cache-dir or --no-cache"):
        store.put(path / "ab" / f"{KEY}.npy", b"")


USER = """
import sys
from pathlib import Path
from magic_cli.models.cache.store import CacheUse
use = CacheUse(Path(sys.argv[1]))
print("in", flush=True)
sys.stdin.read()
"""


@contextmanager
def user(root: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that uses the folder; it leaves at the end of the block, unless killed before."""
    with subprocess.Popen(
        [sys.executable, "-c", USER, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "in\n"
        yield run
        if run.poll() is None:
            run.communicate("", timeout=120)


def keep(root: Path, number: int, size: int = 1000, hours: float = 1000) -> str:
    """Store a file of features that was last used some hours ago, and minutes later than those of smaller numbers."""
    key = f"{number:064x}"
    [path] = plant(root, f"float16/{key[:2]}/{key}.safetensors", size=size)
    used = time.time() - hours * 3600 + number * 60
    os.utime(path, (used, used))
    return f"float16/{key}"


def numbers(root: Path) -> list[int]:
    return sorted(int(path.stem, 16) for path in root.rglob("*.safetensors"))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGIC_CACHE_GB", "0.00001")  # ten files


@pytest.mark.usefixtures("small")
def test_the_longest_unused_make_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    use = CacheUse(tmp_path)
    use.needed.add(keep(tmp_path, 1))
    for number in range(2, 11):
        keep(tmp_path, number)
    use.make_room(0)
    assert numbers(tmp_path) == list(range(1, 11))
    assert capsys.readouterr().err == ""
    use.make_room(2001)
    assert numbers(tmp_path) == [1, *range(5, 11)]
    expected = f"{tmp_path}: 3 files, used longest ago, removed to make room (0.00 MB)\n"
    assert capsys.readouterr().err == expected
    use.make_room(9000)
    assert numbers(tmp_path) == [1]


@pytest.mark.usefixtures("small")
def test_what_was_used_within_a_day_stays_over_the_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It may be another run's. A time to come by more than a day is that of a clock that was wrong."""
    for number, hours in enumerate((25, 23, 2, -23, -25)):
        keep(tmp_path, number, 3000, hours)
    use = CacheUse(tmp_path)
    for _ in range(2):
        use.make_room(2000)
        assert numbers(tmp_path) == [1, 2, 3]
    removed = "2 files, used longest ago, removed to make room (0.01 MB)"
    over = "0.01 MB, over its limit of 0.01 MB (MAGIC_CACHE_GB); what was used within 24 hours stays"
    assert capsys.readouterr().err == f"{tmp_path}: {removed}\n{tmp_path}: {over}\n"  # once a run


@pytest.mark.usefixtures("small")
def test_what_another_run_begins_to_use_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [keep(tmp_path, number, 6000) for number in range(3)]
    listed = store.entries

    def touched(root: Path) -> Iterator[store.Entry]:
        yield from list(listed(root))
        store.touch(tmp_path / "float16" / "00" / f"{names[0].removeprefix('float16/')}.safetensors")

    monkeypatch.setattr(store, "entries", touched)
    CacheUse(tmp_path).make_room(0)
    assert numbers(tmp_path) == [0]  # the two that nobody used are gone


@pytest.mark.usefixtures("small")
def test_pixels_are_under_the_same_limit(tmp_path: Path) -> None:
    [path] = plant(tmp_path, f"pixels/00/{1:064x}.npy", size=9500)
    os.utime(path, (0, 5))
    keep(tmp_path, 2)
    CacheUse(tmp_path).make_room(0)
    assert (path.exists(), numbers(tmp_path)) == (False, [2])


@pytest.mark.usefixtures("small")
def test_what_a_run_needs_alone_may_be_too_much(tmp_path: Path) -> None:
    use = CacheUse(tmp_path)
    use.needed |= {keep(tmp_path, 1), keep(tmp_path, 2)}
    keep(tmp_path, 3)
    with pytest.raises(DataError) as raised:
        use.make_room(8001)
    got = "0.01 MB of features for this run, at most 0.01 MB may be kept"
    assert raised.value.problems == (f"{tmp_path}: {got}; set MAGIC_CACHE_GB=0.1, or use --no-cache",)
    assert numbers(tmp_path) == [1, 2, 3]
    use.make_room(8000)
    assert numbers(tmp_path) == [1, 2]


def test_a_lowered_limit_does_not_stop_a_run_that_has_all_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAGIC_CACHE_GB", "0.000001")
    use = CacheUse(tmp_path)
    use.needed |= {keep(tmp_path, 1), keep(tmp_path, 2)}
    use.make_room(0)
    assert numbers(tmp_path) == [1, 2]


def test_a_full_disk_makes_room_or_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        keep(tmp_path, number)
    keep(tmp_path, 4, hours=2)
    monkeypatch.setattr(store, "free_bytes", lambda _: 500)
    use = CacheUse(tmp_path)
    use.make_room(500)
    assert numbers(tmp_path) == [0, 1, 2, 3, 4]
    use.make_room(1501)
    assert numbers(tmp_path) == [2, 3, 4]
    use.needed.add(f"float16/{2:064x}")
    with pytest.raises(DataError, match=r"0\.00 MB of disk free; free space, choose another --cache-dir"):
        use.make_room(1501)
    assert numbers(tmp_path) == [2, 3, 4]


def test_a_limit_that_is_none_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGIC_CACHE_GB", "lots")
    with pytest.raises(ConfigError, match="MAGIC_CACHE_GB=lots"):
        CacheUse(tmp_path)


def test_clear_removes_all_of_ours_and_nothing_else(tmp_path: Path) -> None:
    root = tmp_path / "features"
    keep(root, 1, size=300)
    plant(root, f"float16/00/{1:064x}.77.0000aaaa.tmp", size=11)
    CacheUse(root)  # it ended
    assert (root / store.LOCK).exists()
    assert clear(root) == Cleared(2, 311, 0)
    assert not root.exists()
    keep(root, 1)
    plant(root, "thesis.txt", "float16/model.safetensors", "other/a.npy", ".lock")
    assert clear(root) == Cleared(1, 1000, 4)
    assert clear(root) == Cleared(0, 0, 4)
    assert sorted(path.name for path in root.rglob("*")) == [
        *(".lock", "a.npy", "float16", "model.safetensors", "other", "thesis.txt")
    ]


def test_clear_of_nothing_makes_nothing(tmp_path: Path) -> None:
    assert clear(tmp_path / "gone") == Cleared(0, 0, 0)
    assert not (tmp_path / "gone").exists()
    plant(tmp_path, "photos/a.jpg")
    assert clear(tmp_path / "photos") == Cleared(0, 0, 1)
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["a.jpg"]


def test_clear_says_what_cannot_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(tmp_path, 1)

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(DataError, match=r"safetensors: cannot be removed \(Permission denied\); check its owner"):
        clear(tmp_path)


def test_a_folder_in_use_is_not_cleared_until_the_last_run_ends(tmp_path: Path) -> None:
    keep(tmp_path, 1)
    mine = CacheUse(tmp_path)
    with user(tmp_path) as run:
        for _ in range(2):
            with pytest.raises(DataError, match="a run uses it; clear it when that run has ended"):
                clear(tmp_path)
            if mine is not None:
                mine = None  # type: ignore[assignment]
                gc.collect()
        assert numbers(tmp_path) == [1]
        run.kill()
        run.wait()
        assert clear(tmp_path) == Cleared(1, 1000, 0)


def test_another_users_run_is_seen_where_its_lock_may_only_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on a disk that became read-only. Root may write everywhere, so the system's refusal is made here."""
    keep(tmp_path, 1)
    CacheUse(tmp_path)
    original = os.open

    def refuse(path: Path, flags: int, *mode: int) -> int:
        if path.name == store.LOCK and flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, flags, *mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        use = CacheUse(tmp_path)
    with pytest.raises(DataError, match="a run uses it"):
        clear(tmp_path)
    assert use.needed == set()


@pytest.mark.parametrize("what", ["folder", "pipe", "link"])
def test_something_else_in_the_locks_place_holds_no_run_up(what: str, tmp_path: Path) -> None:
    path = tmp_path / store.LOCK
    {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "link": lambda: path.symlink_to(tmp_path / "gone")}[what]()
    kind = stat.S_IFMT(path.lstat().st_mode)
    keep(tmp_path, 1)
    CacheUse(tmp_path).make_room(0)
    assert numbers(tmp_path) == [1]
    assert (stat.S_IFMT(path.lstat().st_mode), (tmp_path / "gone").exists()) == (kind, False)


def test_a_run_that_waited_for_a_clear_holds_the_new_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock that it waited for is that of a file which is gone."""
    times = []

    def cleared(file: int, wait: bool = False, shared: bool = False) -> bool:
        times.append(shared)
        if len(times) == 1:
            (tmp_path / store.LOCK).unlink()
        return locks.try_lock(file, wait, shared)

    monkeypatch.setattr(store, "try_lock", cleared)
    use = CacheUse(tmp_path)
    assert times == [True, True]
    keep(tmp_path, 1)
    with pytest.raises(DataError, match="a run uses it"):
        clear(tmp_path)
    assert use.needed == set()
