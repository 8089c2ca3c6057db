"""lease.py: nothing is removed that a run needs; a dead run's mark does not count; clearing spares foreign files."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from magic_cli.errors import ConfigError, DataError
from magic_cli.model import lease as module
from magic_cli.model.lease import Lease, clear, lease

USER = """
import sys
from pathlib import Path
from magic_cli.model.lease import lease
held = lease(Path(sys.argv[1]))
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


def put(root: Path, number: int, size: int = 1000, used: float = 0) -> str:
    key = f"{number:064x}"
    path = root / "float16" / key[:2] / f"{key}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (0, used or 1000 + number))
    return f"float16/{key}"


def numbers(root: Path) -> list[int]:
    return sorted(int(path.stem, 16) for path in root.rglob("*.safetensors"))


def marks(root: Path) -> list[str]:
    return sorted(path.name.partition("-")[0] for path in (root / ".runs").iterdir())


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGIC_CACHE_GB", "0.00001")  # ten files


def test_one_lease_a_folder_and_process_until_nobody_holds_it(tmp_path: Path) -> None:
    first = lease(tmp_path)
    assert lease(tmp_path / "." / ".runs" / "..") is first
    assert marks(tmp_path) == [str(os.getpid()), "lock"]
    other = lease(tmp_path / "other")
    assert other is not first
    del first
    assert marks(tmp_path) == ["lock"]
    assert marks(tmp_path / "other") == [str(os.getpid()), "lock"]


def test_other_users_are_seen_and_dead_ones_are_not(tmp_path: Path) -> None:
    held = lease(tmp_path)
    assert held.alone
    with user(tmp_path) as run:
        assert not held.alone
        assert len(marks(tmp_path)) == 3
        run.kill()
        run.wait()
        assert len(marks(tmp_path)) == 3
        assert held.alone
        assert len(marks(tmp_path)) == 2
    with user(tmp_path):
        assert not held.alone
    assert len(marks(tmp_path)) == 2  # it left by itself


def test_marks_of_dead_runs_go_with_the_next_run(tmp_path: Path) -> None:
    """One file for each killed run would stay for ever where the cache never needs room."""
    with user(tmp_path) as living, user(tmp_path) as dead:
        dead.kill()
        dead.wait()
        held = lease(tmp_path)
        assert len(marks(tmp_path)) == 3
        assert str(living.pid) in marks(tmp_path)
        assert str(dead.pid) not in marks(tmp_path)
        del held


@pytest.mark.usefixtures("small")
def test_the_longest_unused_make_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needed = put(tmp_path, 1)
    for number in range(2, 11):
        put(tmp_path, number)
    held = lease(tmp_path)
    held.needed.add(needed)
    held.make_room(0)
    assert numbers(tmp_path) == list(range(1, 11))
    assert capsys.readouterr().err == ""
    held.make_room(2001)
    assert numbers(tmp_path) == [1, *range(5, 11)]
    expected = f"{tmp_path}: 3 files, used longest ago, removed to make room (0.00 MB)\n"
    assert capsys.readouterr().err == expected
    held.make_room(9000)
    assert numbers(tmp_path) == [1]


@pytest.mark.usefixtures("small")
def test_pixels_are_under_the_same_limit(tmp_path: Path) -> None:
    path = tmp_path / "pixels" / "00" / f"{1:064x}.npy"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 9500)
    os.utime(path, (0, 5))
    put(tmp_path, 2)
    lease(tmp_path).make_room(0)
    assert (path.exists(), numbers(tmp_path)) == (False, [2])


@pytest.mark.usefixtures("small")
def test_what_a_run_needs_alone_may_be_too_much(tmp_path: Path) -> None:
    held = lease(tmp_path)
    held.needed |= {put(tmp_path, 1), put(tmp_path, 2)}
    put(tmp_path, 3)
    with pytest.raises(DataError) as raised:
        held.make_room(8001)
    got = "0.01 MB of features for this run, at most 0.01 MB may be kept"
    assert raised.value.problems == (f"{tmp_path}: {got}; set MAGIC_CACHE_GB=0.1, or use --no-cache",)
    assert numbers(tmp_path) == [1, 2, 3]
    held.make_room(8000)
    assert numbers(tmp_path) == [1, 2]


def test_a_lowered_limit_does_not_stop_a_run_that_has_all_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAGIC_CACHE_GB", "0.000001")
    held = lease(tmp_path)
    held.needed |= {put(tmp_path, 1), put(tmp_path, 2)}
    held.make_room(0)
    assert numbers(tmp_path) == [1, 2]
    over = "0.00 MB, over its limit of 0.00 MB (MAGIC_CACHE_GB); what runs need is not removed"
    assert capsys.readouterr().err == f"{tmp_path}: {over}\n"


@pytest.mark.usefixtures("small")
def test_nothing_is_removed_while_others_use_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(10):
        put(tmp_path, number)
    held = lease(tmp_path)
    with user(tmp_path):
        held.make_room(5000)
        assert numbers(tmp_path) == list(range(10))
        assert "over its limit" in capsys.readouterr().err
        with pytest.raises(DataError, match="a run uses it; clear it when that run has ended"):
            clear(tmp_path)
        assert numbers(tmp_path) == list(range(10))
    held.make_room(5000)
    assert numbers(tmp_path) == [5, 6, 7, 8, 9]


def test_a_full_disk_makes_room_or_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        put(tmp_path, number)
    monkeypatch.setattr("magic_cli.model.storage.free_bytes", lambda _: 500)
    held = lease(tmp_path)
    with (
        user(tmp_path),
        pytest.raises(DataError, match=r"0\.00 MB of disk free; free space, choose another --cache-dir"),
    ):
        held.make_room(1000)
    held.make_room(500)
    assert numbers(tmp_path) == [0, 1, 2, 3]
    held.make_room(1501)
    assert numbers(tmp_path) == [2, 3]
    held.needed.add(f"float16/{2:064x}")
    with pytest.raises(DataError, match="of features to keep"):
        held.make_room(1501)
    assert numbers(tmp_path) == [2, 3]


def test_a_limit_that_is_none_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGIC_CACHE_GB", "lots")
    with pytest.raises(ConfigError, match="MAGIC_CACHE_GB=lots"):
        Lease(tmp_path)


def test_a_folder_that_takes_no_mark_is_never_cleaned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGIC_CACHE_GB", "0.000001")
    (tmp_path / ".runs").touch()  # as a read-only folder: root may write everywhere
    put(tmp_path, 1)
    put(tmp_path, 2)
    held = lease(tmp_path)
    assert not held.alone
    held.make_room(0)
    assert numbers(tmp_path) == [1, 2]


def test_a_forked_child_does_not_end_its_parents_lease(tmp_path: Path) -> None:
    held = lease(tmp_path)
    module._leave(held._path, open(tmp_path / "x", "xb"), os.getpid() + 1)  # noqa: PTH123, SIM115
    assert len(marks(tmp_path)) == 2


def test_clear_removes_all_of_ours_and_nothing_else(tmp_path: Path) -> None:
    root = tmp_path / "features"
    put(root, 1, size=300)
    (root / "float16" / "00" / f"{1:064x}.77.0000aaaa.tmp").write_bytes(b"x" * 11)
    run = lease(root)
    del run
    assert clear(root) == {"files": 2, "bytes": 311, "left": 0}
    assert not root.exists()
    put(root, 1)
    for name in ("thesis.txt", "float16/model.safetensors", "other/a.npy"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    assert clear(root) == {"files": 1, "bytes": 1000, "left": 3}
    assert clear(root) == {"files": 0, "bytes": 0, "left": 3}
    assert sorted(path.name for path in root.rglob("*")) == [
        *("a.npy", "float16", "model.safetensors", "other", "thesis.txt")
    ]


def test_clear_of_nothing_makes_nothing(tmp_path: Path) -> None:
    assert clear(tmp_path / "gone") == {"files": 0, "bytes": 0, "left": 0}
    assert not (tmp_path / "gone").exists()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    assert clear(tmp_path / "photos") == {"files": 0, "bytes": 0, "left": 1}
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["a.jpg"]


def test_clear_says_what_cannot_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, 1)

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(DataError, match=r"safetensors: cannot be removed \(Permission denied\); check its owner"):
        clear(tmp_path)


def test_a_door_that_was_cleared_away_is_built_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waited for the lock of a cache that was cleared meanwhile holds the lock of a file that is gone."""
    locked, times = module.locked, []

    def lock(file: object, wait: bool = False) -> bool:
        times.append(1)
        if len(times) == 1:
            (tmp_path / ".runs" / "lock").unlink()
        return locked(file, wait)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "locked", lock)
    held = lease(tmp_path)
    assert len(times) == 3  # the old door, the new one, the mark
    assert len(marks(tmp_path)) == 2
    assert held.alone
