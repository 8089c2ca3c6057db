"""The folder: kills, writers and readers at once, compaction, thumbs, and damaged files."""

import io
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from magic_cli.data.index import create_index, has_index, open_index, rebuild_index
from magic_cli.data.index.base import IndexedCase, IndexInfo, Part
from magic_cli.data.index.folder import FolderIndex
from magic_cli.data.index.segments import widened
from magic_cli.errors import DataError, UsageError
from magic_cli.io import schema
from magic_cli.io.json_files import read_json
from magic_cli.io.locks import folder_lock

INFO = IndexInfo("ab" * 32, (Part("image", 8),), fields=("age",))
TESTS = Path(__file__).resolve().parents[2]


def made(first: int, rows: int) -> tuple[list[IndexedCase], NDArray[np.float32]]:
    vectors = np.random.default_rng(first).normal(size=(rows, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [IndexedCase(f"c{first + i:05d}", {"age": str(i)}, "x", f"thumbs/{first + i}") for i in range(rows)], vectors


def test_float16_is_widened_exactly() -> None:
    half = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = half[np.isfinite(half)]
    assert len(finite) == (1 << 16) - 2 * 1024
    assert widened(finite).view(np.int32).tolist() == finite.astype(np.float32).view(np.int32).tolist()


def test_twenty_kills_leave_all_of_an_addition_or_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).parent / "killed_appends.py"), str(tmp_path / "index"), "24"]
    paths = os.pathsep.join([str(TESTS / "faults"), *sys.path])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}, timeout=600)
    assert done.returncode == 0, done.stderr
    kills, added = map(int, done.stdout.split())
    assert kills >= 20
    assert 0 < added < kills


def test_many_small_additions_are_merged_and_stay_what_they_were(tmp_path: Path) -> None:
    index = create_index(tmp_path / "index", INFO)
    assert isinstance(index, FolderIndex)
    everything = made(0, 120)
    for start in range(0, 120, 3):
        index.add(everything[0][start : start + 3], everything[1][start : start + 3])
    assert len(index) == 120
    manifest = read_json(tmp_path / "index" / "manifest.json")
    assert schema.problems("index_folder", manifest, "manifest") == []
    assert schema.problems("index", manifest["index"], "manifest") == []
    assert 1 < len(manifest["segments"]) <= 33
    hits = open_index(tmp_path / "index").search(everything[1], 1)
    assert [hit[0].id for hit in hits] == [case.id for case in everything[0]]


def test_compaction_removes_what_was_deleted_with_its_thumb(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    index = create_index(folder, INFO)
    (folder / "thumbs").mkdir()
    (tmp_path / "kept").touch()
    for number in (0, 1, 2, 3, 5):
        (folder / "thumbs" / str(number)).touch()
    cases, vectors = made(0, 5)
    cases[4] = IndexedCase("outside", {}, "x", "thumbs/../../kept")
    index.add(cases, vectors)
    index.add([IndexedCase("c00001", {"age": "9"}, "new", "thumbs/1")], vectors[:1])
    reader = open_index(folder)
    assert index.delete(["c00000", "outside", "c00002"]) == 3
    assert [hit.id for hit in reader.search(vectors[:1], 9)[0]].count("c00000") == 0  # it looks again
    index.compact()
    assert sorted(path.name for path in (folder / "thumbs").iterdir()) == ["1", "3", "5"]  # 5 is of a later addition
    assert (tmp_path / "kept").is_file()
    assert b"c00000" not in b"".join(path.read_bytes() for path in folder.glob("*.*"))
    assert {hit.id: hit.fields for hit in reader.search(vectors[:1], 9)[0]} == {
        "c00001": {"age": "9"},
        "c00003": {"age": "3"},
    }
    index.delete(["c00001", "c00003"])
    index.compact()
    assert (len(reader), reader.search(vectors[:1], 1)) == (0, [[]])


def test_writers_wait_for_each_other_and_readers_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "index"
    create_index(folder, INFO).add(*made(0, 10))
    threads = [threading.Thread(target=lambda n=n: open_index(folder).add(*made(n, 10))) for n in (10, 20, 30)]
    with folder_lock(folder) as is_held:
        assert is_held
        for thread in threads:
            thread.start()
        assert len(open_index(folder)) == 10
    for thread in threads:
        thread.join(60)
    assert len(open_index(folder)) == 40
    monkeypatch.setattr("magic_cli.data.index.folder._PATIENCE", 0.0)
    with folder_lock(folder), pytest.raises(DataError, match="another process that is writing"):
        open_index(folder).delete(["c00000"])


def saved(rows: list[list[int]]) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(rows, np.int64))
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("1-000001.npy", b"", "no vectors"),
        ("1-000001.npy", b"short", "no vectors"),
        ("1-000001.jsonl", b'{"id": "a"}\n', "something else than a case after about 0"),
        ("1-000001.jsonl", b'{"id": 1, "content": "", "thumb": "", "fields": {}}\n', "something else than a case"),
        ("1-000001.jsonl", b"", "0 cases, expected 4"),
        ("1-000002.dead.npy", b"x", "no rows"),
        ("1-000002.dead.npy", saved([[0, 9]]), "rows that no segment has"),
        ("1-000002.dead.npy", saved([[0, -1]]), "rows that no segment has"),
        ("1-000002.dead.npy", saved([[1, 0]]), "rows that no segment has"),
        ("manifest.json", b"{}", "format"),
        ("manifest.json", b"[", "not valid JSON"),
        ("1-000001.npy", None, "no such file"),
        ("manifest.json", None, "magic index build"),
    ],
)
def test_damage_is_named_in_a_line(tmp_path: Path, name: str, data: bytes | None, message: str) -> None:
    folder = tmp_path / "index"
    index = create_index(folder, INFO)
    index.add(*made(0, 4))
    index.delete(["c00001"])
    assert (has_index(folder), (folder / name).is_file()) == (True, True)
    if data is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(data)
    with pytest.raises(DataError, match=message) as refused:
        open_index(folder)
    assert name in str(refused.value) or data is None
    assert has_index(folder) is (folder / "manifest.json").is_file()
    if not has_index(folder):
        return
    again = rebuild_index(folder, INFO)  # the remedy of the message
    again.add(*made(0, 2))
    again.publish()
    assert len(open_index(folder)) == 2


@pytest.mark.parametrize("location", ["{}", "lance:{}"])
def test_a_file_is_no_place_for_an_index(tmp_path: Path, location: str) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match=r"a\.jpg.*a file"):
        create_index(location.format(tmp_path / "a.jpg"), INFO)


def test_files_of_others_are_not_mixed_with_an_index(tmp_path: Path) -> None:
    (tmp_path / "cases.jsonl").write_text("")
    with pytest.raises(DataError, match="other files"):
        create_index(tmp_path, INFO)


def test_a_manifest_of_another_program_is_not_rebuilt(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "an app"}')
    with pytest.raises(DataError, match=r"manifest\.json"):
        rebuild_index(tmp_path, INFO)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_vectors_that_were_damaged_are_not_ranked(tmp_path: Path, dtype: Literal["float32", "float16"]) -> None:
    index = create_index(tmp_path / "index", replace(INFO, dtype=dtype))
    cases, vectors = made(0, 4)
    index.add(cases, vectors)
    assert len(index.search(vectors, 4)[0]) == 4
    index.close()
    path = tmp_path / "index" / "1-000001.npy"
    path.write_bytes(path.read_bytes()[:-8] + b"\xff" * 8)
    with pytest.raises(DataError, match=r"1-000001\.npy.*no unit vectors"):
        open_index(tmp_path / "index").search(vectors[:1], 4)


@pytest.mark.parametrize("place", ["", "lance:"])
def test_an_empty_place_is_not_the_working_folder(place: str) -> None:
    for use in (open_index, has_index, lambda name: create_index(name, INFO)):
        with pytest.raises(UsageError, match="is a variable unset"):
            use(place)


def test_a_segment_name_cannot_lead_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    create_index(folder, INFO).add(*made(0, 4))
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"1-000001"', '"../1-000001"'))
    with pytest.raises(DataError, match="pattern"):
        open_index(folder)
