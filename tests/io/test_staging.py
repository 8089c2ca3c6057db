"""io/staging.py: a result comes in one step, is on the disk before anybody sees it, and what others put there stays."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from magic_cli.data.imaging.masks import write_mask
from magic_cli.errors import DataError
from magic_cli.io import staging
from magic_cli.io.locks import folder_lock
from magic_cli.io.staging import replace_results, staged

PATTERNS = ("masks", "scores*.json", "page.html")
WAYS: dict[str, Callable] = {"staged": staged, "results": lambda out: replace_results(out, ("*.tiff", "masks"))}


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def contents(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def put(out: Path, **files: str) -> None:
    with replace_results(out, PATTERNS, "*.tiff") as folder:
        write(folder, **files)


NEW = {"masks/a.tiff": "new", "page.html": "new"}


@pytest.mark.parametrize("exchange", [True, False])
def test_an_older_result_goes_and_the_rest_stays(
    exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    if not exchange:
        monkeypatch.setattr(staging, "exchange", lambda *_: False)
    put(out, masks__a_tiff="old", masks__b_tiff="old", page_html="old", scores2_json="old")
    write(out, notes_txt="mine", masks__mine_png="mine")
    inside = out.stat().st_ino
    put(out, masks__a_tiff="new", page_html="new")
    assert contents(out) == NEW | {"notes.txt": "mine", "masks/mine.png": "mine"}
    assert (out.stat().st_ino != inside) == exchange  # the folder was exchanged as a whole, or its parts one by one
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def identities(folder: Path) -> dict[str, tuple[int, int, float]]:
    """Return what tells a file of somebody from a copy of it."""
    stats = {path.name: path.lstat() for path in folder.iterdir() if path.name.startswith("x")}
    return {name: (stat.st_ino, stat.st_mode, stat.st_mtime) for name, stat in stats.items()}


@pytest.mark.parametrize("what", ["folder", "large", "link", "many", "hidden"])
def test_files_of_others_are_the_same_files_afterwards(what: str, tmp_path: Path) -> None:
    """They are linked into the new folder, however many and large; beside a folder, each part is replaced by itself."""
    out = tmp_path / "out"
    put(out, masks__a_tiff="old", page_html="old", scores2_json="old")
    write(out, masks__x_png="mine")
    if what == "folder":
        write(out, x__x_txt="mine")
    elif what == "large":
        write(out, x_txt="m" * (1 << 20) + "m")
    elif what == "link":
        (out / "x").symlink_to(tmp_path)
    elif what == "hidden":
        write(out, _notes_0123abcd_txt="mine")
    else:
        write(out, **{f"x{number}_txt": "mine" for number in range(21)})
    others = {name: text for name, text in contents(out).items() if text.startswith("m")}
    before, inside = (identities(out), identities(out / "masks")), out.stat().st_ino
    put(out, masks__a_tiff="new", page_html="new")
    assert contents(out) == NEW | others
    assert (identities(out), identities(out / "masks")) == before
    assert (out.stat().st_ino == inside) == (what == "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("what", ["notes.txt", "masks/notes.txt", "masks/more/notes.txt"])
def test_where_files_cannot_be_linked_they_stay_all_the_same(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    put(out, masks__a_tiff="old", page_html="old")
    (out / what).parent.mkdir(exist_ok=True)
    (out / what).write_text("mine")
    inode = out.stat().st_ino

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    put(out, masks__a_tiff="new", page_html="new")
    assert contents(out) == NEW | {what: "mine"}
    assert (out.stat().st_ino == inode) == (what == "notes.txt")


def test_what_somebody_saves_at_the_last_moment_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, exchange = tmp_path / "out", staging.exchange
    put(out, page_html="old")
    write(out, notes_txt="first", more_txt="mine")

    def late(first: Path, second: Path) -> bool:
        write(tmp_path, saved_txt="second", other_txt="also mine")
        (tmp_path / "saved.txt").replace(out / "notes.txt")  # as editors do
        (tmp_path / "other.txt").replace(out / "other.txt")
        return exchange(first, second)

    monkeypatch.setattr(staging, "exchange", late)
    put(out, page_html="new")
    notes = {"notes.txt": "second", "more.txt": "mine", "other.txt": "also mine"}
    assert contents(out) == {"page.html": "new"} | notes


def test_a_folder_in_which_somebody_works_is_not_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    put(out, masks__a_tiff="old", page_html="old")
    monkeypatch.chdir(out)
    put(Path(), masks__a_tiff="new", page_html="new")
    assert contents(Path()) == NEW
    assert Path().samefile(out)


def test_permissions_of_the_folder_stay(tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out, page_html="old")
    out.chmod(0o700)
    put(out, page_html="new")
    assert out.stat().st_mode & 0o777 == 0o700


def test_nothing_is_seen_before_the_end_and_an_error_leaves_the_old(tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out, page_html="old")

    def fail() -> None:
        with replace_results(out, PATTERNS) as folder:
            write(folder, page_html="new", masks__a_tiff="new")
            assert contents(out) == {"page.html": "old"}
            raise DataError(f"{folder / 'masks' / 'b.tiff'}: no; do")

    with pytest.raises(DataError) as caught:
        fail()
    assert caught.value.problems == (f"{out / 'masks' / 'b.tiff'}: no; do",)  # nobody knows the hidden folder
    assert contents(tmp_path) == {"out/page.html": "old"}


def test_leftovers_of_killed_processes_go_and_those_at_work_stay(tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out, page_html="old")
    dead, other = tmp_path / ".out-0123abcd", tmp_path / ".other-0123abcd"
    for folder in (dead, other, out / ".out-00000000"):
        write(folder, x_txt="half")
    write(out, _page_html_0123abcd_tmp="half")
    with replace_results(out, PATTERNS) as folder:
        write(folder, page_html="new")
        put(out, page_html="another")  # another process
        assert folder.is_dir()
    assert contents(tmp_path) == {"out/page.html": "new", ".other-0123abcd/x.txt": "half"}


def test_a_leftover_may_be_the_old_result_while_the_place_is_empty(tmp_path: Path) -> None:
    """Where folders cannot be exchanged, a kill between two renames leaves it there: it goes after the new one came."""
    out, dead = tmp_path / "out", tmp_path / ".out-0123abcd"
    write(dead, page_html="old")

    def fail() -> None:
        with replace_results(out, PATTERNS):
            raise DataError("no; do")

    with pytest.raises(DataError):
        fail()
    assert contents(tmp_path) == {".out-0123abcd/page.html": "old"}
    put(out, page_html="new")
    assert contents(tmp_path) == {"out/page.html": "new"}


def test_another_process_may_be_faster(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with replace_results(out, PATTERNS) as folder:
        write(folder, page_html="new")
        with folder_lock(folder) as held:
            assert held is False
        put(out, page_html="old", scores2_json="old")
    assert contents(out) == {"page.html": "new"}


@pytest.mark.parametrize("existed", [False, True])
@pytest.mark.parametrize("way", list(WAYS))
def test_files_are_brought_to_the_disk_once_and_before_they_are_seen(
    way: str, existed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, synced, seen = tmp_path / "out", list[int](), list[bool]()
    if existed:
        out.mkdir()

    def fsync(handle: int) -> None:
        synced.append(os.fstat(handle).st_ino)
        seen.append((out / "masks" / "7.tiff").exists())

    monkeypatch.setattr(os, "fsync", fsync)
    with WAYS[way](out) as folder:
        for number in range(20):
            write_mask(folder / "masks" / f"{number}.tiff", np.eye(4 + number, dtype=np.uint8))
        assert synced == []  # a wait for each mask took 11 of the 27 s of `predict` for 2,474 small photos
    result = sorted(path.stat().st_ino for path in out.rglob("*.tiff"))
    assert (len(result), sorted(synced), any(seen)) == (20, result, False)


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
