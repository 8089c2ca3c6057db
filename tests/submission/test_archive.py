"""submission/archive.py: folders and zips read in place; unsafe zips are refused member by member."""

import os
import stat
import zipfile
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from tiny_dataset import write_folder, write_zip

from magic_cli.errors import DataError, SubmissionError
from magic_cli.io.file_kinds import system_pattern
from magic_cli.submission import archive, zip_limits
from magic_cli.submission.archive import Archive, open_archive

FILES = {"a.json": b"[]", "masks_preds/x.tiff": b"tiff"}


@pytest.mark.parametrize("write", [write_zip, write_folder])
def test_the_same_members_from_a_folder_and_a_zip(tmp_path: Path, write: object) -> None:
    path = write(tmp_path / "s", FILES)  # type: ignore[operator]
    with open_archive(path) as archive:
        assert set(archive.members) == set(FILES)
        assert archive.faults == ()
        for name, data in FILES.items():
            with archive.read(name) as file:
                assert file.read() == data
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s"]


def test_one_json_file(tmp_path: Path) -> None:
    (tmp_path / "preds.json").write_bytes(b"[]")
    with open_archive(tmp_path / "preds.json") as archive:
        assert list(archive.members) == ["preds.json"]
        assert archive.where("preds.json") == str(tmp_path / "preds.json")


def faults_of(path: Path) -> tuple[str, ...]:
    with open_archive(path) as archive:
        assert "good" in archive.members
        assert len(archive.members) == 1
        return archive.faults


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/etc/passwd", "C:/evil", "..\\evil", "a\\b", "a/./../b", "//host/x"]
)
def test_unsafe_names(tmp_path: Path, name: str) -> None:
    [fault] = faults_of(write_zip(tmp_path / "s.zip", {"good": b"", name: b"x"}))
    assert "an unsafe path" in fault
    assert str(tmp_path / "s.zip") in fault


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    [fault] = faults_of(write_zip(tmp_path / "s.zip", {"good": b"", "../\x1b[2Jevil": b"x"}))
    assert "\x1b" not in fault


def test_symbolic_link(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.writestr("good", b"")
        archive.writestr(info, "/etc/passwd")
    assert "a symbolic link" in faults_of(tmp_path / "s.zip")[0]


def test_the_same_name_twice(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.writestr("good", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("good", b"2")
    assert "the same name twice" in faults_of(tmp_path / "s.zip")[0]


def patched(path: Path, at: int, change: bytes) -> Path:
    """Change bytes of the central directory's second entry, `at` bytes after its signature."""
    data = bytearray(path.read_bytes())
    start = data.rindex(b"PK\x01\x02") + at
    data[start : start + len(change)] = change
    path.write_bytes(data)
    return path


def test_encrypted_member(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "s.zip", {"good": b"", "secret": b"x"})
    assert "an encrypted member" in faults_of(patched(path, 8, b"\x01\x00"))[0]


def test_bomb(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "s.zip", {"good": b"", "bomb": b"x"})
    assert "at most 256 MiB" in faults_of(patched(path, 24, (2**31).to_bytes(4, "little")))[0]


def test_a_lie_about_the_size_is_found_when_read(tmp_path: Path) -> None:
    path = patched(write_zip(tmp_path / "s.zip", {"good": b"", "liar": b"x" * 99}), 24, (9).to_bytes(4, "little"))
    with open_archive(path) as archive, pytest.raises(SubmissionError, match="liar: got an unreadable file"):
        archive.read("liar")


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_limits, "MAX_MEMBERS", 1)
    path = write_zip(tmp_path / "s.zip", FILES)
    with pytest.raises(SubmissionError, match="2 members"), open_archive(path):
        pass


def test_too_many_files_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 1)
    with (
        pytest.raises(SubmissionError, match="more files, expected at most 1"),
        open_archive(write_folder(tmp_path, FILES)),
    ):
        pass


def test_a_folder_of_any_depth_with_loops_and_pipes(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(1500):  # deeper than Python recurses
        deep = deep / "d"
        os.mkdir(deep)  # noqa: PTH102
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    os.mkfifo(tmp_path / "pipe.json")
    write_folder(tmp_path, FILES)
    try:
        with open_archive(tmp_path) as found:
            assert set(found.members) == set(FILES)
    finally:
        remove(tmp_path / "d")


def remove(folder: Path) -> None:
    """Remove a folder whose path is longer than a path may be to the functions that recurse."""
    folders = [folder]
    while (inner := folders[-1] / "d").exists():
        folders.append(inner)
    for path in reversed(folders):
        path.rmdir()


SYSTEM_FILES = (
    "._a.json", "masks_preds/._x.tiff", "__MACOSX/masks_preds/._x.tiff", ".DS_Store", "masks_preds/.DS_Store",
    "Thumbs.db", "masks_preds/Desktop.ini", "@eaDir/x.tiff", ".Trashes/501/x.tiff", "~$a.json", ".a.json.swp",
    ".ipynb_checkpoints/a-checkpoint.json", "masks_preds/.nfs0000001",
)  # fmt: skip


def test_files_of_the_system_stay_behind_in_a_folder_and_are_named_in_a_zip(tmp_path: Path) -> None:
    files = FILES | dict.fromkeys(SYSTEM_FILES, b"x")
    with open_archive(write_folder(tmp_path / "folder", files)) as found:
        assert set(found.members) == set(FILES)
        assert found.system_files == ()
    with open_archive(write_zip(tmp_path / "s.zip", files)) as found:
        assert set(found.members) == set(FILES)
        assert set(found.system_files) == set(SYSTEM_FILES)


def test_the_pattern_for_such_files_removes_them() -> None:
    for name in SYSTEM_FILES:
        assert fnmatchcase(name, system_pattern(name))
        assert not any(fnmatchcase(other, system_pattern(name)) for other in FILES)


KINDS = {
    "preds.csv": (b"a;b", "got a .csv file, expected a .json file, a folder or a zip; write a JSON list"),
    "preds.jsonl": (b'{"encounter_id": 1}', "got a .jsonl file, expected"),
    "preds.txt": (b' [{"encounter_id": "X"}]', "got a .txt file that holds JSON, expected .*; rename it to .json"),
    "preds.xlsx": (b"PK", "got a .xlsx file, expected"),
    "preds.tar.gz": (
        b"\x1f\x8b",
        "got a .tar.gz file, expected .*; unpack it, and give the folder",
    ),
    "preds.7z": (b"7z\xbc\xaf\x27\x1c", "got a .7z file, expected .*; unpack it"),
    "preds.rar": (b"Rar!", "got a .rar file, expected .*; unpack it"),
    "preds": (b"x", "got a file without an extension, expected"),
    "s.zip": (b"[1]", r"got no zip \(JSON\), expected .*; rename it to .json"),
    "t.zip": (b"<!DOCTYPE html>", r"got no zip \(an HTML page\), expected"),
    "cut.zip": (b"PK\x03\x04" + bytes(99), r"got no zip \(cut off before its end\), expected"),
    "part.zip": (b"PK\x05\x06\1\0" + bytes(16), "got part 2 of a split zip, expected a whole zip"),
    "old.zip": (b"PK\x07\x08" + bytes(9), r"got no zip \(a part of a split zip\)"),
}


@pytest.mark.parametrize("name", KINDS)
def test_what_is_whole_but_of_another_kind_is_named(tmp_path: Path, name: str) -> None:
    data, text = KINDS[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SubmissionError, match=text), open_archive(tmp_path / name):
        pass


@pytest.mark.parametrize("name", ["PREDS.JSON", "preds.Json"])
def test_json_in_any_case(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"[]")
    with open_archive(tmp_path / name) as found:
        assert list(found.members) == [name]


@pytest.mark.parametrize(("data", "text"), [(b"no zip", "got no zip"), (b"", "got no zip"), (None, "no such file")])
def test_no_archive(tmp_path: Path, data: bytes | None, text: str) -> None:
    path = tmp_path / "s.zip"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(SubmissionError if data is not None else DataError, match=text), open_archive(path):
        pass


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    write_folder(tmp_path, FILES)
    (tmp_path / "a.json").chmod(0)
    with open_archive(tmp_path) as archive, pytest.raises(SubmissionError, match="unreadable"):
        archive.read("a.json")


def test_where_names_zip_members_and_files() -> None:
    assert Archive("s.zip", True, {}).where("a/b") == "s.zip:a/b"
    assert Archive(".", False, {}).where("a/b") == str(Path("a/b"))
