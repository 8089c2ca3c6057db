"""io/staging.py: a result comes in one step, is on the disk before anybody sees it, and what others put there stays."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from magic_cli.data.imaging.masks import write_mask
from magic_cli.errors import DataError
from magic_cli.io import files, ownership, staging
from magic_cli.io.files import sha256
from magic_cli.io.json_files import read_json, write_json
from magic_cli.io.locks import folder_lock
from magic_cli.io.run_record import Call, running
from magic_cli.io.staging import replace_results

CALL = Call("predict", {"task": "seg"})


@pytest.fixture(autouse=True)
def _running() -> Iterator[None]:
    with running(CALL):
        yield


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def contents(folder: Path) -> dict[str, str]:
    """Return the files below a folder but the records, with their texts."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "run.json")
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def listed(out: Path) -> set[str]:
    return set(read_json(out / "run.json")["outputs"])


def put(out: Path, **files: str) -> None:
    with replace_results(out) as folder:
        write(folder, **files)


NEW = {"masks/a.tiff": "new", "page.html": "new"}


@pytest.mark.parametrize("exchange", [True, False])
def test_what_the_record_lists_goes_and_the_rest_stays(
    exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    if not exchange:
        monkeypatch.setattr(staging, "exchange", lambda *_: False)
    put(out, masks__a_tiff="old", masks__b_tiff="old", page_html="old", scores2_json="old")
    write(out, notes_txt="mine", masks__mine_tiff="mine", scores3_json="mine", masks__b_tiff="changed since")
    inside = out.stat().st_ino
    put(out, masks__a_tiff="new", page_html="new")
    mine = {"notes.txt": "mine", "masks/mine.tiff": "mine", "scores3.json": "mine", "masks/b.tiff": "changed since"}
    assert contents(out) == NEW | mine
    assert listed(out) == NEW.keys()
    assert (out.stat().st_ino != inside) == exchange  # the folder was exchanged as a whole, or its parts one by one
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    put(out, other_txt="newer")
    assert contents(out) == {"other.txt": "newer"} | mine


def blocked(tmp_path: Path, out: Path, what: str) -> Path:
    """Put something of somebody's in the place of masks/a.tiff or run.json, and return it."""
    place = out / {"record": "run.json", "linked folder": "masks"}.get(what, "masks/a.tiff")
    if what == "record":
        place.unlink()
        place.write_text('{"mine": 1}')
    elif what == "linked folder":
        (out / "masks").rename(tmp_path / "elsewhere")
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place.unlink()
        {"folder": Path.mkdir, "pipe": os.mkfifo, "link": lambda path: path.symlink_to(tmp_path)}[what](place)
    return place


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("what", ["record", "linked folder", "folder", "pipe", "link"])
def test_what_is_in_the_way_is_named_and_nothing_is_touched(
    what: str, exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    put(out, masks__a_tiff="old", page_html="old")
    place = blocked(tmp_path, out, what)
    if not exchange:
        (out / "folder").mkdir()
    before = tree(tmp_path)
    with pytest.raises(DataError) as caught:
        put(out, masks__a_tiff="new", page_html="new")
    [line] = caught.value.problems
    assert line.startswith(f"{place}: ")
    assert f"move {'the folder' if what == 'record' else 'it'} away, or choose another --out" in line
    assert tree(tmp_path) == before


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("names", [("masks/*.tiff",), ("masks/a.tiff", "page.html")])
def test_a_result_without_its_record_is_told_before_the_work(
    names: tuple[str, ...], overwrite: bool, tmp_path: Path
) -> None:
    """At once, with or without --overwrite, in one line about the folder, not file by file."""
    put(tmp_path, masks__a_tiff="old", masks__b_tiff="old", page_html="old")
    (tmp_path / "run.json").unlink()
    with pytest.raises(DataError, match=r"got 2 files of such a result .* no run\.json .*; move the folder away, or"):
        ownership.check_target(tmp_path, "score", overwrite, names)
    with pytest.raises(DataError, match=r": 2 files \(masks/a\.tiff, page\.html\): in the way"):
        put(tmp_path, masks__a_tiff="new", page_html="new")


def tree(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return what there is below a folder: mode, inode, bytes."""
    stats = {path.relative_to(folder).as_posix(): (path, path.lstat()) for path in folder.rglob("*")}
    return {
        name: (stat.st_mode, stat.st_ino, path.read_bytes() if path.is_file() else b"")
        for name, (path, stat) in stats.items()
    }


@pytest.mark.parametrize("call", [Call("predict", {"task": "cvqa"}), Call("score", {}), Call("prepare", {})])
def test_another_kind_of_result_is_not_replaced(call: Call, tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out, masks__a_tiff="old")
    before = tree(tmp_path)
    line = r"/out: got a result of `magic predict seg`, .*; choose another --out"
    with running(call), pytest.raises(DataError, match=line):
        put(out, scores_json="new")
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "name", ["../mine.txt", "ABSOLUTE", "link/mine.txt", "folder", "x/../../mine.txt", "mine.txt\0"]
)
def test_a_record_of_a_stranger_removes_nothing_outside(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out, page_html="old")
    write(out, folder__mine_txt="mine")
    write(tmp_path, mine_txt="mine")
    (out / "link").symlink_to(tmp_path)
    row = read_json(out / "run.json")
    name = str(tmp_path / "mine.txt") if name == "ABSOLUTE" else name
    row["outputs"] |= {name: sha256(tmp_path / "mine.txt")}
    write_json(out / "run.json", row)
    put(out, page_html="new")
    assert contents(tmp_path) == {"out/page.html": "new", "out/folder/mine.txt": "mine", "mine.txt": "mine"}


NUMBERS = range(8)


@pytest.mark.parametrize("kind", [OSError(5, "Input/output error"), KeyboardInterrupt()])
@pytest.mark.parametrize("number", NUMBERS)
def test_an_error_amid_the_files_puts_all_back(
    number: int, kind: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, move, moves = tmp_path / "out", staging.move, list[Path]()
    put(out, masks__a_tiff="old", masks__b_tiff="old", page_html="old")
    write(out, folder__mine_txt="mine")
    before = tree(tmp_path)

    def broken(source: Path, target: Path) -> None:
        moves.append(source)
        if len(moves) == number + 1:
            raise kind
        move(source, target)

    monkeypatch.setattr(staging, "move", broken)
    try:
        put(out, masks__a_tiff="new", page_html="new")
    except (DataError, KeyboardInterrupt):
        after = tree(tmp_path)
        assert {name: row[::2] for name, row in after.items()} == {name: row[::2] for name, row in before.items()}
        assert after["out/folder/mine.txt"] == before["out/folder/mine.txt"]
    else:
        assert number == NUMBERS[-1]
        assert contents(out) == NEW | {"folder/mine.txt": "mine"}


@pytest.mark.parametrize("number", NUMBERS)
def test_a_kill_amid_the_files_is_completed_by_the_next(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, move, moves = tmp_path / "out", staging.move, list[Path]()
    put(out, masks__a_tiff="old", masks__b_tiff="old", page_html="old")
    write(out, folder__mine_txt="mine")
    mine = tree(out)["folder/mine.txt"]

    def killed(source: Path, target: Path) -> None:
        moves.append(source)
        if len(moves) > number:
            os._exit(9)
        move(source, target)

    if (child := os.fork()) == 0:
        monkeypatch.setattr(staging, "move", killed)
        put(out, masks__a_tiff="new", page_html="new")
        os._exit(0)
    os.waitpid(child, 0)
    assert tree(out)["folder/mine.txt"] == mine
    with replace_results(out) as folder:
        assert contents(out) == NEW | {"folder/mine.txt": "mine"}
        write(folder, masks__a_tiff="new", page_html="new")
    assert listed(out) == NEW.keys()
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
    assert out.stat().st_ino == inode


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


@pytest.mark.parametrize("folder", [False, True])
def test_permissions_stay(folder: bool, tmp_path: Path) -> None:
    """Those of all that is replaced; what is new has none that the record did not have."""
    out = tmp_path / "out"
    put(out, masks__a_tiff="old", page_html="old")
    for name, mode in {"": 0o700, "masks": 0o750, "masks/a.tiff": 0o640, "page.html": 0o604, "run.json": 0o600}.items():
        (out / name).chmod(mode)
    if folder:
        write(out, more__x_txt="mine")
    put(out, masks__a_tiff="new", masks__b_tiff="new", page_html="new")
    modes = {path.relative_to(out).as_posix(): path.stat().st_mode & 0o777 for path in (out, *out.rglob("*"))}
    kept = {".": 0o700, "masks": 0o750, "masks/a.tiff": 0o640, "page.html": 0o604, "run.json": 0o600}
    assert modes.items() >= (kept | {"masks/b.tiff": 0o600}).items()


def test_nothing_is_seen_before_the_end_and_an_error_leaves_the_old(tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out, page_html="old")

    def fail() -> None:
        with replace_results(out) as folder:
            write(folder, page_html="new", masks__a_tiff="new")
            assert contents(out) == {"page.html": "old"}
            raise DataError(f"{folder / 'masks' / 'b.tiff'}: no; do")

    with pytest.raises(DataError) as caught:
        fail()
    assert caught.value.problems == (f"{out / 'masks' / 'b.tiff'}: no; do",)  # nobody knows the hidden folder
    assert contents(tmp_path) == {"out/page.html": "old"}


def left_by_a_kill(out: Path) -> Path:
    """Return a hidden folder of a process that was killed while it built a result."""
    before = set(out.parent.iterdir())
    if (child := os.fork()) == 0:
        with replace_results(out) as folder:
            write(folder, x_txt="half")
            os._exit(9)
    os.waitpid(child, 0)
    [stage] = set(out.parent.iterdir()) - before
    return stage


def test_leftovers_of_killed_processes_go_and_those_at_work_stay(tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out, page_html="old")
    for name in (".out-20251127", ".magic-20251127", ".magic-0123456789abcdef", ".out-0123abcd"):
        write(tmp_path / name, thesis_txt="mine")
    write(files.temporary_path(out, is_folder=True), thesis_txt="mine")  # whatever its name: nothing says it is ours
    mine = contents(tmp_path)
    other, dead = left_by_a_kill(tmp_path / "other"), left_by_a_kill(out)
    (out / ".x").touch()
    files.temporary_path(out / "page.html").touch()
    with replace_results(out) as folder:
        write(folder, page_html="new")
        put(out, page_html="another")  # another process
        assert folder.is_dir()
    assert not dead.exists()
    half = {f"{other.name}/{name}": text for name, text in contents(other).items()}  # it may be of a running process
    assert half
    assert contents(tmp_path) == mine | {"out/page.html": "new", "out/.x": ""} | half


def test_another_process_may_be_faster(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with replace_results(out) as folder:
        write(folder, page_html="new")
        with folder_lock(folder.parent) as held:
            assert held is False
        put(out, page_html="old", scores2_json="old")
    assert contents(out) == {"page.html": "new"}


def test_a_link_in_the_place_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    put(out, page_html="old")
    write(other, page_html="mine", notes_txt="mine")

    def swapped() -> None:
        with replace_results(out) as folder:
            write(folder, page_html="new")
            out.rename(tmp_path / "moved")
            out.symlink_to(other)

    with pytest.raises(DataError, match="/out: got something else by now"):
        swapped()
    assert contents(other) == {"page.html": "mine", "notes.txt": "mine"}
    assert out.is_symlink()


@pytest.mark.parametrize("existed", [False, True])
def test_files_are_brought_to_the_disk_once_and_before_they_are_seen(
    existed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, synced, seen = tmp_path / "out", list[int](), list[bool]()
    if existed:
        out.mkdir()

    def fsync(handle: int) -> None:
        synced.append(os.fstat(handle).st_ino)
        seen.append((out / "masks" / "7.tiff").exists())

    monkeypatch.setattr(os, "fsync", fsync)
    with replace_results(out) as folder:
        for number in range(20):
            write_mask(folder / "masks" / f"{number}.tiff", np.eye(4 + number, dtype=np.uint8))
        assert synced == []  # a wait for each mask took 11 of the 27 s of `predict` for 2,474 small photos
    result = {path.stat().st_ino for path in out.rglob("*.tiff")}
    assert len(result) == 20
    assert [synced.count(inode) for inode in result] == [1] * 20
    assert not any(seen)


def test_a_disk_that_fails_at_the_end_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    with replace_results(out) as folder:
        (folder / "x.tiff").write_text("old")
    monkeypatch.setattr(staging, "_sync", _broken)
    with (
        pytest.raises(DataError, match=r"/out: cannot be written \(Input/output error\)"),
        replace_results(out) as folder,
    ):
        (folder / "x.tiff").write_text("new")
    assert (out / "x.tiff").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def _broken(_: Path) -> None:
    raise OSError(5, "Input/output error")
