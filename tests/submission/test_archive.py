"""submission/archive.py: folders and zips read in place; unsafe zips are refused member by member."""

import os
import stat
import zipfile
from pathlib import Path

import pytest
from tiny_dataset import write_folder, write_zip

from magic_cli.errors import DataError, SubmissionError
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
    assert "at most 1 GiB" in faults_of(patched(path, 24, (2**31).to_bytes(4, "little")))[0]


def test_a_lie_about_the_size_is_found_when_read(tmp_path: Path) -> None:
    path = patched(write_zip(tmp_path / "s.zip", {"good": b"", "liar": b"x" * 99}), 24, (9).to_bytes(4, "little"))
    with open_archive(path) as archive, pytest.raises(SubmissionError, match="liar: got an unreadable file"):
        archive.read("liar")


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("magic_cli.submission.archive.MAX_MEMBERS", 1)
    path = write_zip(tmp_path / "s.zip", FILES)
    with pytest.raises(SubmissionError, match="2 members"), open_archive(path):
        pass


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
