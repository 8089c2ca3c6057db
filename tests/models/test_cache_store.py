"""models/cache/store.py: only our files are seen; what a run needs or used today stays; clearing spares the rest."""

import contextlib
import gc
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from magic_cli.errors import ConfigError, DataError
from magic_cli.io import locks
from magic_cli.io.files import replacing, temporary_path
from magic_cli.models.cache import store
from magic_cli.models.cache.seal import name_of
from magic_cli.models.cache.store import CacheUse, Cleared, clear

KEY = "ab" + "0" * 62
NAME = name_of(KEY, "")  # with its folder
FOLDER, STEM = NAME.split("/")
OLD = {
    "float16": save({"p0": torch.ones(2, dtype=torch.float16)}),
    "float32": save({"text": torch.ones(2)}),
    "pixels": b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (3, 3, 3), }"
    + b" " * 50
    + b"\n",
}
OURS = {
    f"float16/{NAME}.safetensors": True,
    f"float32/{NAME}.safetensors": True,
    f"bfloat16/{NAME}.safetensors": True,
    f"pixels/{NAME}.npy": True,
    f"pixels/ab/.{KEY[:60]}.0a1b2c3d.tmp": False,
}
OF_EARLIER_VERSIONS = {
    f"float16/ab/{KEY}.safetensors": OLD["float16"],
    f"float32/ab/{KEY}.safetensors": OLD["float32"],
    f"pixels/ab/{KEY}.npy": OLD["pixels"],
}
FOREIGN = (
    *("notes.txt", "notes.safetensors", "float16/notes.txt", f"float16/{STEM}.safetensors", f"{STEM}.npy"),
    *(f"other/{NAME}.npy", f"float16/{NAME}.npy", f"pixels/{NAME}.safetensors", f"pixels/cd/{STEM}.npy"),
    *("pixels/ab/photo.npy", "float16/ab/model.safetensors", f"float16/{NAME}0.safetensors", "float16/ab/draft.tmp"),
    *(f"float16/ab/{STEM.upper()}.safetensors", f"float16/{FOLDER}/deep/{STEM}.safetensors", f"{KEY}.1.2.tmp"),
    *(f"float16/ab/{KEY}.safetensors", f"pixels/ab/{KEY}.npy", f"pixels/abc/{STEM}.npy"),  # not of our making
    *(f"float16/{NAME}.safetensors.bak", f"pixels/ab/.{KEY[:60]}.tmp", f"float16/ab/{KEY}.123.0a1b2c3d.tmp"),
)


def plant(root: Path, *names: str, size: int = 10) -> list[Path]:
    paths = [root / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    return paths


def test_only_our_files_are_seen(tmp_path: Path) -> None:
    plant(tmp_path, *OURS, *FOREIGN)
    for name, content in OF_EARLIER_VERSIONS.items():
        (tmp_path / "old" / name).parent.mkdir(parents=True)
        (tmp_path / "old" / name).write_bytes(content)
    found = {entry.path.relative_to(tmp_path / "old").as_posix() for entry in store.entries(tmp_path / "old")}
    assert found == set(OF_EARLIER_VERSIONS)
    result = {entry.path.relative_to(tmp_path).as_posix(): entry for entry in store.entries(tmp_path)}
    assert {name: entry.finished for name, entry in result.items()} == OURS
    entry = result[f"pixels/{NAME}.npy"]
    assert (entry.name, entry.size) == (f"pixels/{STEM}", 10)
    assert abs(entry.used - time.time()) < 60


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\x00" * 300,
        b"\xff" * 300,
        save({"weight": torch.ones(2, dtype=torch.float16)}),
        save({"p0": torch.ones(2)}),
        save({"p0": torch.ones(2, dtype=torch.float16)}, {"format": "pt"}),
        save({}),
        (200).to_bytes(8, "little") + b"[" * 200,
        (3).to_bytes(8, "little") + b"[1]",
    ],
)
def test_what_bears_a_name_of_earlier_versions_is_ours_only_with_their_header(tmp_path: Path, header: bytes) -> None:
    [path] = plant(tmp_path, f"float16/ab/{KEY}.safetensors")
    path.write_bytes(header)
    assert list(store.entries(tmp_path)) == []


def test_links_are_not_followed(tmp_path: Path) -> None:
    away, root = tmp_path / "away", tmp_path / "cache"
    plant(away, f"{NAME}.npy", f"{NAME}.safetensors", f"pixels/{NAME}.npy")
    root.mkdir()
    (root / "pixels").symlink_to(away / "pixels")
    (root / "float16").mkdir()
    (root / "float16" / FOLDER).symlink_to(away / FOLDER)
    (root / f"float32/{NAME}.safetensors").parent.mkdir(parents=True)
    (root / f"float32/{NAME}.safetensors").symlink_to(away / f"{NAME}.npy")
    assert list(store.entries(root)) == []
    before = sorted(tmp_path.rglob("*"))
    assert clear(root) == Cleared(0, 0, 3)
    assert sorted(tmp_path.rglob("*")) == before


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
    kept = [name for name, finished in OURS.items() if finished]
    plant(tmp_path, *kept, *FOREIGN)
    dead = temporary_path(tmp_path / f"pixels/{NAME}.npy")
    dead.touch()
    with replacing(tmp_path / f"float16/{NAME}.safetensors") as file:
        CacheUse(tmp_path)
        assert Path(file.name).exists()  # it is being written
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*kept, *FOREIGN}


@pytest.mark.parametrize(("size", "text"), [(0, "0.00 MB"), (99_000_000, "99.00 MB"), (100_000_000, "0.10 GB")])
def test_sizes_for_people(size: int, text: str) -> None:
    assert store.format_bytes(size) == text


def test_nobody_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """2,474 masks waited 16 s for what can be made again; a full disk is one line all the same."""
    monkeypatch.setattr(os, "fsync", None)
    path = tmp_path / f"pixels/{NAME}.npy"
    for data in (b"one", b"two"):
        assert store.put(path, data)
    assert (path.read_bytes(), [entry.path for entry in store.entries(tmp_path)]) == (b"two", [path])
    assert not store.put(path / f"{NAME}.npy", b"")


def test_a_writer_whose_temporary_file_is_removed_writes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It slept for hours, on a disk without locks; or the whole folder was cleared."""
    path, original, times = tmp_path / f"cache/pixels/{NAME}.npy", Path.replace, []

    def replace(self: Path, target: Path) -> Path:
        times.append(target)
        if len(times) == 1:
            shutil.rmtree(tmp_path / "cache")
        return original(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    assert store.put(path, b"data")
    assert path.read_bytes() == b"data"


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
    name = f"float16/{name_of(key, '')}"
    [path] = plant(root, f"{name}.safetensors", size=size)
    planted[Path(name).name] = number
    used = time.time() - hours * 3600 + number * 60
    os.utime(path, (used, used))
    return f"float16/{Path(name).name}"


planted: dict[str, int] = {}


def numbers(root: Path) -> list[int]:
    return sorted(planted[path.stem] for path in root.rglob("*.safetensors"))


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
        store.touch(next(tmp_path.rglob(f"{names[0].removeprefix('float16/')}.safetensors")))

    monkeypatch.setattr(store, "entries", touched)
    CacheUse(tmp_path).make_room(0)
    assert numbers(tmp_path) == [0]  # the two that nobody used are gone


@pytest.mark.usefixtures("small")
def test_pixels_are_under_the_same_limit(tmp_path: Path) -> None:
    [path] = plant(tmp_path, f"pixels/{NAME}.npy", size=9500)
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


def test_a_full_disk_makes_room_or_nothing_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(4):
        keep(tmp_path, number)
    keep(tmp_path, 4, hours=2)
    monkeypatch.setattr(store, "free_bytes", lambda _: 500)
    use = CacheUse(tmp_path)
    use.make_room(500)
    assert numbers(tmp_path) == [0, 1, 2, 3, 4]
    use.make_room(1501)
    assert numbers(tmp_path) == [2, 3, 4]
    use.needed.add(f"float16/{name_of(f'{2:064x}', '')[3:]}")
    assert not use.make_room(1501)
    assert "the cache cannot be written (0.00 MB of features to keep, 0.00 MB of disk free)" in capsys.readouterr().err
    assert numbers(tmp_path) == [2, 3, 4]


@pytest.mark.usefixtures("small")
def test_a_sparse_file_counts_with_its_blocks(tmp_path: Path) -> None:
    [path] = plant(tmp_path, f"pixels/{NAME}.npy")
    keep(tmp_path, 1)
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    assert sum(entry.size for entry in store.entries(tmp_path)) < 10_000
    CacheUse(tmp_path).make_room(0)
    assert numbers(tmp_path) == [1]


@pytest.mark.usefixtures("small")
def test_what_is_being_written_is_not_evicted(tmp_path: Path) -> None:
    """However long its writer sleeps."""
    path = tmp_path / f"pixels/{NAME}.npy"
    with replacing(path) as file:
        file.write(bytes(20_000))
        file.flush()
        os.utime(file.name, (0, 5))
        CacheUse(tmp_path).make_room(0)
    assert path.stat().st_size == 20_000


def test_a_limit_that_is_none_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGIC_CACHE_GB", "lots")
    with pytest.raises(ConfigError, match="MAGIC_CACHE_GB=lots"):
        CacheUse(tmp_path)


def test_clear_removes_all_of_ours_and_nothing_else(tmp_path: Path) -> None:
    root = tmp_path / "features"
    keep(root, 1, size=300)
    CacheUse(root)  # it ended
    plant(root, f"float16/ab/.{KEY[:60]}.0000aaaa.tmp", size=11)
    assert clear(root) == Cleared(2, 311, 0)
    assert not root.exists()
    keep(root, 1)
    plant(root, "thesis.txt", "float16/model.safetensors", "other/a.npy", ".lock")
    assert clear(root) == Cleared(1, 1000, 4)
    assert clear(root) == Cleared(0, 0, 4)
    assert sorted(path.name for path in root.rglob("*")) == [
        *(".lock", "a.npy", "float16", "model.safetensors", "other", "thesis.txt")
    ]


def test_clear_leaves_foreign_files_byte_for_byte(tmp_path: Path) -> None:
    plant(tmp_path, *OURS, *FOREIGN)
    (tmp_path / "pixels" / "ef").mkdir()  # an empty folder of somebody
    clear(tmp_path)
    left = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == dict.fromkeys(FOREIGN, b"x" * 10)
    assert (tmp_path / "pixels" / "ef").is_dir()


def test_clear_removes_what_earlier_versions_wrote(tmp_path: Path) -> None:
    root = tmp_path / "features"
    for name, content in OF_EARLIER_VERSIONS.items():
        plant(root, name)[0].write_bytes(content)
    plant(root, ".runs/lock", ".runs/4711-0a1b2c3d", ".magic.lock", size=0)
    assert clear(root).files == 3
    assert not root.exists()
    plant(root, ".runs/lock", ".runs/notes")
    plant(root, ".runs/4711-0a1b2c3d", size=0)
    assert clear(root) == Cleared(0, 0, 1)
    assert sorted(path.name for path in root.rglob("*")) == [".runs", "lock", "notes"]


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


def test_nothing_is_left_of_a_lock(tmp_path: Path) -> None:
    CacheUse(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's process needs root")
def test_another_users_run_is_seen_where_it_may_only_read(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    keep(tmp_path, 1)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.setuid(65534)
            use = CacheUse(tmp_path)
            os.write(writing, b"x" if use.needed == set() else b"")
            time.sleep(60)
        os._exit(1)
    assert os.read(reading, 1) == b"x"
    with pytest.raises(DataError, match="a run uses it"):
        clear(tmp_path)
    os.kill(child, 9)
    os.waitpid(child, 0)
    assert clear(tmp_path).files == 1


@pytest.mark.parametrize("what", ["folder", "pipe", "link"])
@pytest.mark.parametrize("name", [".magic.lock", ".runs/lock", "pixels", f"pixels/{NAME}.npy", "pixels/ab"])
def test_what_would_block_holds_nobody_up(what: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "link": lambda: path.symlink_to(tmp_path / "gone")}[what]()
    kind = stat.S_IFMT(path.lstat().st_mode)
    keep(tmp_path, 1)
    CacheUse(tmp_path).make_room(0)
    assert numbers(tmp_path) == [1]
    assert clear(tmp_path).files == 1
    assert (stat.S_IFMT(path.lstat().st_mode), (tmp_path / "gone").exists()) == (kind, False)


def test_a_run_that_waited_for_a_clear_holds_the_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that it waited for is gone."""
    root, times = tmp_path / "cache", []

    def cleared(file: int, shared: bool = False) -> bool:
        times.append(shared)
        if len(times) == 1:
            root.rmdir()
        return locks.try_lock(file, shared=shared)

    monkeypatch.setattr(store, "try_lock", cleared)
    use = CacheUse(root)
    assert times == [True, True]
    keep(root, 1)
    with pytest.raises(DataError, match="a run uses it"):
        clear(root)
    assert use.needed == set()


def test_a_run_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a clear that was stopped, or for a stranger who locks a shared folder."""
    monkeypatch.setattr(store, "_LONGEST_CLEAR", 0.1)
    with locks.folder_lock(tmp_path) as held:
        assert held
        CacheUse(tmp_path).make_room(0)
