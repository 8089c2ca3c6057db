"""submission.py: predictions found where people put them, read as decisions; the official names and JSON."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small import ANSWERS, MASKS, QUESTIONS, answers, blob, files_of, images_of, row, tiff, write_folder, write_zip

from magic_cli.data.gold import Gold, GoldImage
from magic_cli.errors import DataError, SubmissionError
from magic_cli.records import Prediction
from magic_cli.submission import Submission, image_of, mask_name, open_predictions, write_answers

GOLD = Gold("gold", QUESTIONS, {"IMG_x_1": GoldImage("x", {})}, {"x": {}})
FILES = files_of("test")
JSON_ONLY = {ANSWERS: FILES[ANSWERS]}
MASKS_ONLY = {name: data for name, data in FILES.items() if name != ANSWERS}
LOOSE = {name.removeprefix(f"{MASKS}/"): data for name, data in MASKS_ONLY.items()}


def below(folder: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{folder}/{name}": data for name, data in files.items()}


def masks_of(found: Submission) -> dict[str, Prediction]:
    return {p.id: p for p in found.of("seg", GOLD)}


def test_names() -> None:
    assert mask_name("IMG_ENC00001_00001") == "IMG_ENC00001_00001_mask_sys.tiff"
    assert image_of("IMG_ENC00001_00001_mask_sys.tiff") == "IMG_ENC00001_00001"
    for wrong in ("IMG_1_mask_mask_sys.tiff", "IMG_1_mask_ann1.tiff", "IMG_1_mask_sys.tif", "_mask_sys.tiff", "x.json"):
        assert image_of(wrong) is None


LAYOUTS = {
    "submission": (FILES, ("seg", "cvqa")),
    "answers alone": (JSON_ONLY, ("cvqa",)),
    "masks_preds alone": (MASKS_ONLY, ("seg",)),
    "loose masks": (LOOSE, ("seg",)),
    "one folder deep": (below("sub", FILES), ("seg", "cvqa")),
    "predictions folder": (below("seg", MASKS_ONLY) | below("cvqa", JSON_ONLY), ("seg", "cvqa")),
    "empty list": (MASKS_ONLY | {ANSWERS: b"[]"}, ("seg",)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("write", [write_zip, write_folder])
def test_layouts(tmp_path: Path, layout: str, write: Any) -> None:
    files, tasks = LAYOUTS[layout]
    with open_predictions(write(tmp_path / "s", files)) as found:
        assert found.tasks_with(GOLD) == tasks
        if "seg" in tasks:
            assert {i: p.shape for i, p in masks_of(found).items()} == images_of("test")
            assert all(np.array_equal(p.arrays["mask"], blob(p.shape)) for p in masks_of(found).values() if p.shape)
        if "cvqa" in tasks:
            rows = {p.id: {qid: int(v) for qid, v in p.arrays.items()} for p in found.of("cvqa", GOLD)}
            assert rows == {e: answers(e) for e in ("ENC00021", "ENC00022", "ENC00023")}


def test_json_file_of_any_name(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_bytes(FILES[ANSWERS])
    with open_predictions(tmp_path / "mine.json") as found:
        assert found.tasks_with(GOLD) == ("cvqa",)
        assert found.notes == ()


def test_nothing_is_extracted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile.ZipFile, "extract", None)
    monkeypatch.setattr(zipfile.ZipFile, "extractall", None)
    with open_predictions(write_zip(tmp_path / "s.zip", FILES)) as found:
        assert len(masks_of(found)) == 4
    assert [p.name for p in tmp_path.iterdir()] == ["s.zip"]


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (below("sub", FILES), "sub/masks_preds/: found here, but the platform looks for masks_preds/ at the root"),
        (LOOSE, "found here, but the platform looks for masks_preds/"),
        (MASKS_ONLY | {ANSWERS: b"[]"}, "gives 0 for the closed questions"),
        (JSON_ONLY | {ANSWERS: b"\xef\xbb\xbf" + FILES[ANSWERS]}, "byte-order mark"),
        (FILES | {f"{MASKS}/x.png": b""}, "1 files not named"),
    ],
)
def test_notes(tmp_path: Path, files: dict[str, bytes], text: str) -> None:
    with open_predictions(write_zip(tmp_path / "s.zip", files)) as found:
        assert any(text in note for note in found.notes), found.notes


def test_an_empty_masks_folder_leaves_segmentation_out(tmp_path: Path) -> None:
    with open_predictions(write_zip(tmp_path / "s.zip", JSON_ONLY | {f"{MASKS}/": b""})) as found:
        assert found.tasks_with(GOLD) == ("cvqa",)
        assert any("gives 0 for segmentation" in note for note in found.notes)


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({}, "got nothing"),
        ({"a.png": b"", "b/c.tif": b""}, r"got a\.png, b/c\.tif"),
        (below("a", FILES) | below("b", FILES), "a/masks_preds/ and b/masks_preds/"),
        ({ANSWERS: b"{}"}, "a JSON dict"),
        ({ANSWERS: b"[1]"}, "other rows"),
        ({ANSWERS: b'[{"encounter": 1}]'}, "other rows"),
        ({ANSWERS: b"[" * 99_999}, "invalid JSON"),
        ({ANSWERS: b"[{]"}, "invalid JSON"),
        ({ANSWERS: b"\xff"}, "invalid JSON"),
        ({"../evil": b"", **FILES}, "unsafe path"),
    ],
)
def test_refused(tmp_path: Path, files: dict[str, bytes], text: str) -> None:
    with pytest.raises(SubmissionError, match=text), open_predictions(write_zip(tmp_path / "s.zip", files)):
        pass


def rows_as(tmp_path: Path, rows: list[dict[str, Any]]) -> list[Prediction]:
    (tmp_path / "p.json").write_text(json.dumps(rows))
    with open_predictions(tmp_path / "p.json") as found:
        return list(found.of("cvqa", GOLD))


def test_suffixes_are_cut_and_rows_stay_apart(tmp_path: Path) -> None:
    found = rows_as(tmp_path, [row("ENC00001") | {"encounter_id": f"ENC00001-{n}"} for n in (1, 2)])
    assert [p.id for p in found] == ["ENC00001", "ENC00001"]


def test_whole_floats_count_and_unknown_keys_do_not(tmp_path: Path) -> None:
    [found] = rows_as(tmp_path, [{"encounter_id": "E", "CQID010-001": 2.0, "CQID010-1": "x", "note": [1]}])
    assert found.arrays == {"CQID010-001": 2}
    assert found.arrays["CQID010-001"].dtype.kind == "i"


@pytest.mark.parametrize("value", ["0", None, True, 0.5, [0], {}, float("nan"), float("inf")])
def test_values_that_are_no_integers(tmp_path: Path, value: object) -> None:
    with pytest.raises(SubmissionError, match=r"E:CQID010-001.*0-based option index"):
        rows_as(tmp_path, [{"encounter_id": "E", "CQID010-001": value}])


def test_many_such_values_are_counted(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match="80 more answers") as error:
        rows_as(tmp_path, [{"encounter_id": f"E{n}", "CQID010-001": "0"} for n in range(100)])
    assert len(error.value.problems) == 21


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (blob((14, 12)).astype(bool), [0, 1]),
        (blob((14, 12)).astype(np.float32), [0, 1]),
        (blob((14, 12)) * np.float32(0.7), [0, 255]),
        (blob((14, 12)) * 255, [0, 255]),
        (blob((14, 12)).astype(np.int16) * 256, [0, 256]),
        (blob((14, 12))[..., None], [0, 1]),
    ],
)
def test_masks_become_decisions_that_score_can_judge(tmp_path: Path, stored: np.ndarray, expected: list[int]) -> None:
    (tmp_path / "IMG_1_1_mask_sys.tiff").write_bytes(tiff(stored))
    with open_predictions(tmp_path) as found:
        mask = masks_of(found)["IMG_1_1"].arrays["mask"]
    assert mask.dtype.kind in "ui"
    assert np.unique(mask).tolist() == expected
    assert mask.shape == (14, 12)


def test_an_unreadable_mask_is_a_prediction_without_arrays(tmp_path: Path) -> None:
    (tmp_path / "IMG_1_1_mask_sys.tiff").write_bytes(b"no TIFF")
    with open_predictions(tmp_path) as found:
        assert masks_of(found)["IMG_1_1"].arrays == {}


def test_no_task_in_common(tmp_path: Path) -> None:
    with (
        open_predictions(write_folder(tmp_path, JSON_ONLY)) as found,
        pytest.raises(DataError, match="got gold for seg, expected gold for cvqa"),
    ):
        found.tasks_with(Gold("refs", QUESTIONS, {"i": GoldImage("e", {})}))


def test_answers_are_written_plainly_and_alike(tmp_path: Path) -> None:
    rows = [row("ENC00001"), row("ENC00002")]
    write_answers(tmp_path / "a.json", rows)
    first = (tmp_path / "a.json").read_bytes()
    write_answers(tmp_path / "a.json", rows)
    assert (tmp_path / "a.json").read_bytes() == first
    assert first.startswith(b"[\n{")
    assert json.loads(first) == rows
