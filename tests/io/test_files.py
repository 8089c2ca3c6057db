"""io/files.py, io/json_files.py: a file is whole or the old one, JSON errors say where, nothing is overwritten."""

import errno
import hashlib
import json
import os
import stat
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magic_cli.errors import DataError
from magic_cli.io import files, json_files
from magic_cli.io.staging import replace_results

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
).filter(lambda value: "\\ud" not in json.dumps(value))


def one_line(call: Callable[[], object]) -> str:
    with pytest.raises(DataError) as raised:
        call()
    assert raised.value.exit_code == 3
    [line] = raised.value.problems
    return line


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        assert os.umask(before) == mask  # the code under test has left it as it was


def test_write_makes_parents_and_leaves_only_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.bin"
    files.write_atomic(path, lambda file: file.write(b"one"))
    files.write_atomic(path, lambda file: file.write(b"two"))
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["c.bin"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_a_writer_that_raises_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    def write(file: IO[bytes]) -> None:
        file.write(b"half of the new")
        raise error

    path = tmp_path / "best.pt"
    path.write_bytes(b"old")
    with pytest.raises(DataError if isinstance(error, OSError) else type(error)) as raised:
        files.write_atomic(path, write)
    if isinstance(error, OSError):
        assert str(raised.value) == f"{path}: cannot be written (No space left); free space, or choose another place"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (OSError(errno.ENOSPC, ""), "free space, or choose another place"),
        (OSError(errno.EDQUOT, ""), "free space, or choose another place"),
        (OSError(errno.EACCES, ""), "choose another place"),
        (OSError("cannot write mode F as JPEG"), "choose another place"),
        (ValueError("embedded null byte"), "choose another place"),
    ],
)
def test_only_a_full_disk_has_space_to_free(error: Exception, remedy: str) -> None:
    assert files.elsewhere(error) == remedy


def test_an_error_without_a_number_still_says_what_it_is(tmp_path: Path) -> None:
    def write(_: IO[bytes]) -> None:
        raise OSError("cannot write mode F as JPEG")

    assert "(cannot write mode F as JPEG)" in one_line(lambda: files.write_atomic(tmp_path / "x", write))


def test_the_new_file_grows_beside_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def write(file: IO[bytes]) -> None:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        [temporary] = [p for p in tmp_path.iterdir() if p != path]  # in the same folder: renaming is one step
        assert files.is_temporary_name(temporary.name)
        assert temporary.read_bytes() == b"new"

    files.write_atomic(path, write)
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0o000, 0o666)])
def test_permissions_follow_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    with umask(mask):
        files.write_text(tmp_path / "x", "text")
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode


def test_the_umask_is_never_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking sets it to 0 for all threads: of two that ask at once, one would put the other's 0 back."""
    monkeypatch.setattr(os, "umask", None)
    files.write_text(tmp_path / "x", "text")
    with replace_results(tmp_path / "out") as folder:
        assert stat.S_IMODE(folder.stat().st_mode) & 0o700 == 0o700


def test_unwritable_places_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    line = one_line(lambda: files.write_text(tmp_path / "file" / "x", ""))
    assert "cannot be written (" in line
    assert line.endswith("); choose another place")
    assert "cannot be written (" in one_line(lambda: files.write_text(tmp_path / "folder" / "sub", ""))
    assert "\\x0a" in one_line(lambda: files.write_text(tmp_path / "file" / "new\nline", ""))
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder", "sub"]


def test_long_names_get_a_temporary_name_that_fits(tmp_path: Path) -> None:
    path = tmp_path / ("瘙" * 70 + "x" * 40)  # 250 bytes, the limit is 255
    files.write_text(path, "")
    assert path.is_file()


@settings(deadline=None, derandomize=True)
@given(value=VALUES)
def test_json_round_trip(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "round.json"
    json_files.write_json(path, value)
    assert json_files.read_json(path) == value
    assert path.read_bytes().decode() == json_files.json_text(value, indent=2) + "\n"


@settings(deadline=None, derandomize=True)
@given(rows=st.lists(st.dictionaries(st.text("aé\u2028\x85\n", max_size=3), VALUES, max_size=3), max_size=3))
def test_jsonl_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    """Line separators of Unicode inside a text are no ends of lines."""
    rows = [row for row in rows if "\\ud" not in json.dumps(row)]
    path = tmp_path_factory.getbasetemp() / "round.jsonl"
    json_files.write_jsonl(path, rows)
    assert json_files.read_jsonl(path) == rows


ITEM = {"image": "IMG_ENC00001_00001", "dice_max": 0.5, "annotators": [0.25] * 10}
LONG: dict[str, tuple[Callable, Any]] = {  # each of half a megabyte or more
    "rows": (json_files.write_jsonl, ({"text": chr(97 + n % 26) * 10_000} for n in range(100))),
    "a report": (json_files.write_json, [ITEM] * 3_000),
}


@pytest.mark.parametrize("name", list(LONG))
def test_long_files_are_written_a_part_at_a_time(name: str, tmp_path: Path) -> None:
    """The text of a report, its words and its bytes were in memory at once: 49 MiB for 10 MB."""
    write, value = LONG[name]
    tracemalloc.start()
    try:
        write(tmp_path / "x", value)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "x").stat().st_size > 500_000
    assert peak < 450_000


def test_what_is_valid_already_is_not_copied() -> None:
    item, bad = {"image": "i", "dice": 0.5}, {"image": "i", "dice": float("nan")}
    result = json_files.finite({"items": (item, bad), "n": 1})
    assert result == {"items": [item, {"image": "i", "dice": None}], "n": 1}
    assert result["items"][0] is item
    assert json_files.finite(MappingProxyType(item)) == item  # a mapping of another kind becomes a dict
    assert type(json_files.finite(MappingProxyType(item))) is dict


def test_nan_is_never_written(tmp_path: Path) -> None:
    for write in (json_files.write_json, lambda path, value: json_files.write_jsonl(path, [value])):
        with pytest.raises(ValueError, match="JSON compliant"):
            write(tmp_path / "x.json", {"dice": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_json_keeps_chinese_readable(tmp_path: Path) -> None:
    json_files.write_json(tmp_path / "x.json", {"zh": "瘙痒"})
    assert (tmp_path / "x.json").read_bytes().decode() == '{\n  "zh": "瘙痒"\n}\n'


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b"\xef\xbb\xbf[1]")
    assert json_files.read_json(path) == [1]


def bad_json(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    line = one_line(lambda: json_files.read_json(path))
    assert line.startswith(str(path))
    return line.removeprefix(str(path))


def test_json_errors_say_where(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    assert bad_json(path, b'[\n  {"a": 1},\n  {"a" 2}\n]').startswith(":3:8: not valid JSON (Expecting ':' delimiter)")
    assert bad_json(path, b'[{"encounter_id": "ENC0').startswith(":1:19: not valid JSON (Unterminated string")
    assert bad_json(path, b"").startswith(":1:1: not valid JSON (Expecting value)")
    assert bad_json(path, "[1]".encode("utf-16")) == ": got text in UTF-16, expected JSON in UTF-8; re-encode it"
    assert bad_json(path, '["é"]'.encode("latin-1")) == ": got byte 2 that is not UTF-8, expected UTF-8; re-encode it"
    assert bad_json(path, b"[" * 100_000) == ": JSON nested too deeply; expected a list of flat objects"
    assert "an integer of thousands of digits" in bad_json(path, b"[" + b"9" * 5000 + b"]")


def test_json_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "no.json"
    assert one_line(lambda: json_files.read_json(missing)) == f"{missing}: no such file; check the path"
    reason = "cannot be read (a folder, not a regular file); check the path and its permissions"
    assert one_line(lambda: json_files.read_json(tmp_path)) == f"{tmp_path}: {reason}"


def test_jsonl_errors_name_the_line(tmp_path: Path) -> None:
    path = tmp_path / "images.jsonl"
    path.write_text('{"a": 1}\n\n  \n{"b": 2}\n')
    assert json_files.read_jsonl(path) == [{"a": 1}, {"b": 2}]
    path.write_text('{"a": 1}\n\n{"a": \n')
    assert one_line(lambda: json_files.read_jsonl(path)).startswith(f"{path}:3: not valid JSON (Expecting value)")
    for line in ("9" * 5000, "[" * 100_000):
        path.write_text(f"1\n{line}\n")
        assert one_line(lambda: json_files.read_jsonl(path)).startswith(
            f"{path}:2: not valid JSON (a number too long, or "
        )
    path.write_bytes(b'{"a": "\xff"}')
    assert "got byte 7 that is not UTF-8" in one_line(lambda: json_files.read_jsonl(path))
    path.write_bytes(b"\xef\xbb\xbf[1]")
    assert json_files.read_jsonl(path) == [[1]]
    path.unlink()
    assert one_line(lambda: json_files.read_jsonl(path)) == f"{path}: no such file; run `magic prepare` first"


def test_bad_bytes_of_lines_are_counted_from_the_start_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "images.jsonl"
    path.write_bytes(b'{"a": 1}\n{"b": "\xff"}\n')
    rows = json_files.each_row(path)
    assert next(rows) == {"a": 1}  # before the rest is read
    assert "got byte 16 that is not UTF-8" in one_line(lambda: next(rows))


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_sha256_of_files_around_the_block_size(tmp_path: Path, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "x").write_bytes(data[:size])
    assert files.sha256(tmp_path / "x") == hashlib.sha256(data[:size]).hexdigest()


def test_a_file_is_hashed_again_only_if_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, hashed = tmp_path / "x", list[Path]()
    path.write_bytes(b"first")
    original = files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: hashed.append(path) or original(path))
    for _ in range(3):
        assert files.known_sha256(path) == hashlib.sha256(b"first").hexdigest()
    assert hashed == [path]
    path.write_bytes(b"other")
    os.utime(path, ns=(0, 1))
    assert files.known_sha256(path) == hashlib.sha256(b"other").hexdigest()


def test_refuse_existing(tmp_path: Path) -> None:
    empty, full, file = tmp_path / "empty", tmp_path / "full", tmp_path / "file"
    empty.mkdir()
    full.mkdir()
    for path in (full / ".hidden", file):
        path.touch()
    for path in (empty, tmp_path / "new"):
        files.refuse_existing(path, overwrite=False)
    for path in (full, file):
        expected = f"{path}: already there; use --overwrite, or another --out"
        assert one_line(lambda path=path: files.refuse_existing(path, overwrite=False)) == expected  # type: ignore[misc]
        files.refuse_existing(path, overwrite=True)


# names of somebody's, that look like ours: dates, and ours with another last digit
FOREIGN = (
    ".thesis.20251127.tmp",
    ".magic-20251127.tmp",
    ".magic-0123456789abcdef.tmp",
    ".magic-0123456789ABCDEF.tmp",
    "magic-0123456789abcdef.tmp",
)


def test_leftovers_are_swept_unless_somebody_writes_them(tmp_path: Path) -> None:
    """A killed writer's lock is gone; a file that the user made stays, whatever its name."""
    for name in FOREIGN:
        (tmp_path / name).touch()
    dead, pipe, link = (files.temporary_path(tmp_path / "x") for _ in range(3))
    dead.touch()
    os.mkfifo(pipe)
    link.symlink_to(tmp_path / FOREIGN[0])
    seen: list[str] = []

    def write(file: IO[bytes]) -> None:
        files.sweep(tmp_path)
        seen.extend(sorted(path.name for path in tmp_path.iterdir()))
        file.write(b"whole")

    files.write_atomic(tmp_path / "y", write)
    others = {*FOREIGN, pipe.name, link.name}
    assert others < set(seen)
    assert len(set(seen) - others) == 1  # the file that is being written
    assert dead.name not in seen
    assert (tmp_path / "y").read_bytes() == b"whole"
    files.sweep(tmp_path / "gone")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o666])
def test_a_file_keeps_the_permissions_of_the_one_that_it_replaces(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    path.chmod(mode)
    files.write_text(path, "new")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", mode)


def test_a_folder_that_was_exchanged_for_another_is_not_written(tmp_path: Path) -> None:
    """A link in its place would lead into a folder of the user; one that was there from the start is followed."""
    other, out, link = tmp_path / "other", tmp_path / "out", tmp_path / "link"
    for folder in (other, out):
        folder.mkdir()
    link.symlink_to(out)
    with files.watched(out), files.watched(link):
        files.write_text(link / "a", "")
        out.rename(tmp_path / "moved")
        assert "is no longer the folder that this command began in" in one_line(lambda: files.write_text(out / "a", ""))
        out.symlink_to(other)
        for place in (out, link):
            line = one_line(lambda place=place: files.write_text(place / "below" / "a", ""))  # type: ignore[misc]
            assert line.startswith(f"{place}: is no longer the folder")
    assert list(other.iterdir()) == []
    files.write_text(out / "a", "")
    assert list(other.iterdir()) == [other / "a"]


def test_a_disk_that_is_full_until_the_file_is_closed(tmp_path: Path) -> None:
    """What is still buffered fails once more when the file is closed: one line all the same, and nothing is left."""

    def write(file: IO[bytes]) -> None:
        file.write(b"x")
        os.close(file.fileno())
        raise OSError(errno.ENOSPC, "No space left on device")

    line = one_line(lambda: files.write_atomic(tmp_path / "x", write))
    assert line.endswith("x: cannot be written (Bad file descriptor); choose another place")  # of the last error
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_leftovers_is_empty(tmp_path: Path) -> None:
    files.temporary_path(tmp_path / "x").touch()
    stage = files.temporary_path(tmp_path / "x", is_folder=True)
    stage.mkdir()
    files.refuse_existing(tmp_path, overwrite=False)
    (stage / "thesis.txt").touch()  # whoever made a folder of this name, it holds something that is not ours
    assert "already there" in one_line(lambda: files.refuse_existing(tmp_path, overwrite=False))
    (stage / files.STAGE_MARK).touch()
    files.refuse_existing(tmp_path, overwrite=False)
    for name in (*FOREIGN, ".thesis-20251127"):
        (tmp_path / name).touch()
        assert "already there" in one_line(lambda: files.refuse_existing(tmp_path, overwrite=False))
        (tmp_path / name).unlink()


def test_a_temporary_file_that_is_swept_before_it_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try_lock, swept = files.try_lock, []

    def slow(file: Any, wait: bool = False) -> bool:
        if not swept:
            swept.append(file.name)
            Path(file.name).unlink()
        return try_lock(file, wait)

    monkeypatch.setattr(files, "try_lock", slow)
    files.write_text(tmp_path / "x", "whole")
    assert (tmp_path / "x").read_text() == "whole"
    assert len(swept) == 1


def test_a_full_disk_that_a_library_hides_is_said(tmp_path: Path) -> None:
    """torch.save raises a RuntimeError of its own while it closes what could not be written."""

    def write(_: IO[bytes]) -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            raise RuntimeError("unexpected pos 64 vs 0")

    assert "x: cannot be written (No space left on device); free space" in one_line(
        lambda: files.write_atomic(tmp_path / "x", write)
    )

    def fail(_: IO[bytes]) -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        files.write_atomic(tmp_path / "x", fail)
    assert list(tmp_path.iterdir()) == []


def test_cache_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.cache_root() == tmp_path / "magic"
    monkeypatch.setattr(Path, "home", lambda: Path("/home/somebody"))
    for value in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert files.cache_root() == Path("/home/somebody/.cache/magic")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert files.cache_root() == Path("/home/somebody/.cache/magic")
