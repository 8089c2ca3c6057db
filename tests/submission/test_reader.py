"""submission/reader.py: predictions found where people put them, read as decisions; the official names and JSON."""

import importlib.util
import io
import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_dataset import (
    ANSWERS,
    MASKS,
    QUESTIONS,
    answers,
    blob,
    files_of,
    images_of,
    row,
    tiff,
    write_folder,
    write_zip,
)

from magic_cli.data.gold import AnswerGold, Gold, GoldImage, MaskGold, gold_files
from magic_cli.errors import DataError, SubmissionError
from magic_cli.submission.answers import SubmittedRow
from magic_cli.submission.archive import Archive
from magic_cli.submission.reader import (
    Layout,
    Submission,
    SubmittedMask,
    find_layout,
    image_of,
    mask_name,
    open_predictions,
    submitted_files,
    write_answers,
)

GOLD = Gold("gold", MaskGold("gold", {"IMG_x_1": GoldImage("x", {})}), AnswerGold("gold", QUESTIONS, {"x": {}}))
FILES = files_of("test")
JSON_ONLY = {ANSWERS: FILES[ANSWERS]}
MASKS_ONLY = {name: data for name, data in FILES.items() if name != ANSWERS}
LOOSE = {name.removeprefix(f"{MASKS}/"): data for name, data in MASKS_ONLY.items()}


def below(folder: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{folder}/{name}": data for name, data in files.items()}


def masks_of(found: Submission) -> dict[str, SubmittedMask]:
    return {mask.id: mask for mask in found.submitted_masks()}


def test_names() -> None:
    assert mask_name("IMG_ENC00001_00001") == "IMG_ENC00001_00001_mask_sys.tiff"
    assert image_of("IMG_ENC00001_00001_mask_sys.tiff") == "IMG_ENC00001_00001"
    for wrong in ("IMG_1_mask_mask_sys.tiff", "IMG_1_mask_ann1.tiff", "IMG_1_mask_sys.tif", "_mask_sys.tiff", "x.json"):
        assert image_of(wrong) is None


LAYOUTS = {
    "submission": (FILES, ("masks", "answers")),
    "answers alone": (JSON_ONLY, ("answers",)),
    "masks_preds alone": (MASKS_ONLY, ("masks",)),
    "loose masks": (LOOSE, ("masks",)),
    "one folder deep": (below("sub", FILES), ("masks", "answers")),
    "predictions folder": (below("seg", MASKS_ONLY) | below("cvqa", JSON_ONLY), ("masks", "answers")),
    "empty list": (MASKS_ONLY | {ANSWERS: b"[]"}, ("masks", "answers")),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("write", [write_zip, write_folder])
def test_layouts(tmp_path: Path, layout: str, write: Any) -> None:
    files, tasks = LAYOUTS[layout]
    with open_predictions(write(tmp_path / "s", files)) as found:
        assert found.deliverables_with(GOLD) == tasks
        if "masks" in tasks:
            assert {i: p.mask.shape for i, p in masks_of(found).items()} == images_of("test")
            assert all(np.array_equal(p.mask, blob(p.mask.shape)) for p in masks_of(found).values())
        if "answers" in tasks:
            given = {} if layout == "empty list" else {e: answers(e) for e in ("ENC00021", "ENC00022", "ENC00023")}
            rows = {row.id: row.values for row in found.submitted_rows(QUESTIONS.by_qid)}
            assert rows == given


def test_json_file_of_any_name(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_bytes(FILES[ANSWERS])
    with open_predictions(tmp_path / "mine.json") as found:
        assert found.deliverables_with(GOLD) == ("answers",)
        assert found.notes == ()


def test_nothing_is_extracted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile.ZipFile, "extract", None)
    monkeypatch.setattr(zipfile.ZipFile, "extractall", None)
    with open_predictions(write_zip(tmp_path / "s.zip", FILES)) as found:
        assert len(masks_of(found)) == 4
    assert [p.name for p in tmp_path.iterdir()] == ["s.zip"]


@pytest.mark.parametrize(
    ("files", "text"),
    [  # JSON_ONLY: cases 31 and 30 of examples/official-scorer.md
        (below("sub", FILES), "sub/masks_preds/: found here, but the platform looks for masks_preds/ at the root"),
        (LOOSE, "found here, but the platform looks for masks_preds/"),
        (MASKS_ONLY | {ANSWERS: b"[]"}, "gives 0 for the closed questions"),
        (JSON_ONLY, "no masks_preds/; the official scorer gives 0 for segmentation"),
        (JSON_ONLY | {f"{MASKS}/": b""}, "empty; the official scorer gives 0 for segmentation"),
        (FILES | {f"{MASKS}/x.png": b""}, "1 files not named"),
    ],
)
def test_notes(tmp_path: Path, files: dict[str, bytes], text: str) -> None:
    with open_predictions(write_zip(tmp_path / "s.zip", files)) as found:
        assert any(text in note for note in found.notes), found.notes


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (MASKS_ONLY, "no data_cvqa_sys.json at the root of the zip (FileNotFoundError)"),
        (below("sub", FILES), "no data_cvqa_sys.json at the root of the zip (FileNotFoundError)"),
        (FILES | {ANSWERS: b"\xef\xbb\xbf" + FILES[ANSWERS]}, "byte-order mark (JSONDecodeError)"),
        (FILES | {ANSWERS: b'[1, {"encounter_id": "E"}, "x"]'}, "rows 0, 2 have no encounter_id as text (TypeError)"),
        (FILES | {ANSWERS: b'[{"encounter": 1}]'}, "rows 0 have no encounter_id as text (KeyError: 'encounter_id')"),
        (FILES | {ANSWERS: b'[{"encounter_id": 1}]'}, "rows 0 have no encounter_id as text (AttributeError)"),
    ],
)
def test_what_stops_the_whole_official_run(tmp_path: Path, files: dict[str, bytes], text: str) -> None:
    """Cases 07 and 25, and rows without an id."""
    with open_predictions(write_zip(tmp_path / "s.zip", files)) as found:
        assert [text in stop for stop in found.official_errors] == [True], found.official_errors


@pytest.mark.parametrize("files", [FILES, MASKS_ONLY, below("sub", FILES), JSON_ONLY, FILES | {ANSWERS: b"[]"}])
def test_a_folder_is_not_the_whole_submission(tmp_path: Path, files: dict[str, bytes]) -> None:
    with open_predictions(write_folder(tmp_path, files)) as found:
        assert found.official_errors == ()
        assert found.masks_are_found


@pytest.mark.parametrize(("folder", "is_found"), [("", True), ("sub/", False)])
def test_masks_one_folder_deeper_in_a_zip_are_not_found_officially(tmp_path: Path, folder: str, is_found: bool) -> None:
    files = {folder + name: data for name, data in MASKS_ONLY.items()}
    files |= {f"{folder}{MASKS}/IMG_Z_1_mask_mask_sys.tiff": b"", f"{folder}{MASKS}/IMG_Z_2_mask_sys.tiff": b"bad"}
    with open_predictions(write_zip(tmp_path / "s.zip", files | {ANSWERS: b"[]"})) as found:
        *masks, damaged, misnamed = found.submitted_masks()
    assert found.masks_are_found is is_found
    assert [p.stored is not None for p in masks] == [is_found] * 4
    assert [p.is_found_officially for p in (*masks, damaged, misnamed)] == [is_found] * 6
    assert all(p.mask is not None and not p.problem for p in masks)
    errors = ["TiffFileError", "KeyError: 'sys'"] if is_found else ["", ""]
    assert [damaged.official_error, misnamed.official_error] == errors


@pytest.mark.parametrize("write", [write_zip, write_folder])
def test_an_empty_masks_folder_is_a_legal_prediction(tmp_path: Path, write: Any) -> None:
    files = {f"{MASKS}/": b""} if write is write_zip else {}
    (tmp_path / "s" / MASKS).mkdir(parents=True)
    where = write(tmp_path / "s.zip", files) if write is write_zip else tmp_path / "s"
    for path in (where, tmp_path / "s" / MASKS):
        with open_predictions(path) as found:
            assert found.deliverables_with(GOLD) == ("masks",)
            assert list(found.submitted_masks()) == []
            assert any("gives 0 for segmentation" in note for note in found.notes)


@pytest.mark.parametrize("data", [b"[]", b"{}", b" [ ]\n"])
def test_no_rows_are_legal(tmp_path: Path, data: bytes) -> None:
    """Cases 06 and 08."""
    (tmp_path / "p.json").write_bytes(data)
    with open_predictions(tmp_path / "p.json") as found:
        assert found.deliverables_with(GOLD) == ("answers",)
        assert list(found.submitted_rows(QUESTIONS.by_qid)) == []
        assert any("gives 0 for the closed questions" in note for note in found.notes)


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({}, "got nothing"),
        ({"a.png": b"", "b/c.tif": b""}, r"got a\.png, b/c\.tif"),
        (below("a", FILES) | below("b", FILES), "a/masks_preds/ and b/masks_preds/"),
        ({ANSWERS: b'{"ENC00001": {}}'}, "got an object, expected a list"),
        ({ANSWERS: b"null"}, "got null, expected a list"),
        ({ANSWERS: b"[1" + b"0" * 5000 + b"]"}, "invalid JSON"),
        ({ANSWERS: b"[" * 99_999}, "invalid JSON"),
        ({ANSWERS: b"[{]"}, "invalid JSON"),
        ({ANSWERS: b"\xff"}, "text that is no JSON"),
        ({"../evil": b"", **FILES}, "unsafe path"),
    ],
)
def test_refused(tmp_path: Path, files: dict[str, bytes], text: str) -> None:
    with pytest.raises(SubmissionError, match=text), open_predictions(write_zip(tmp_path / "s.zip", files)):
        pass


def rows_as(tmp_path: Path, rows: list[dict[str, Any]]) -> list[SubmittedRow]:
    (tmp_path / "p.json").write_text(json.dumps(rows))
    with open_predictions(tmp_path / "p.json") as found:
        return list(found.submitted_rows(QUESTIONS.by_qid))


def test_ids_stay_as_written_and_rows_stay_apart(tmp_path: Path) -> None:
    given = [row("ENC00001") | {"encounter_id": f"ENC00001-{n}"} for n in (1, 2)]
    found = rows_as(tmp_path, given)
    assert [p.id for p in found] == ["ENC00001-1", "ENC00001-2"]
    assert [p.raw for p in found] == given
    assert [p.problem for p in found] == ["", ""]


def test_whole_floats_count_and_unknown_keys_do_not(tmp_path: Path) -> None:
    given = {"encounter_id": "E", "CQID010-001": 2.0, "CQID011-001": 99, "CQID010-1": "x", "note": [1]}
    [found] = rows_as(tmp_path, [given])
    assert found.values == {"CQID010-001": 2, "CQID011-001": 99}
    assert all(type(value) is int for value in found.values.values())
    assert found.raw == given
    assert found.problem == ""


@pytest.mark.parametrize("value", ["0", None, True, 0.5, [0], {}, float("nan"), float("inf"), 1e300, 10**30])
def test_values_that_are_no_integers_cost_themselves_only(tmp_path: Path, value: object) -> None:
    [found] = rows_as(tmp_path, [{"encounter_id": "E1", "CQID010-001": value, "CQID034-001": 1}])
    assert found.values == {"CQID034-001": 1}
    assert found.raw["CQID010-001"] is value or repr(found.raw["CQID010-001"]) == repr(value)
    assert "p.json:0:E1: got CQID010-001" in found.problem
    assert "expected integers; write the 0-based option indices" in found.problem


def test_many_such_values_are_cut_short(tmp_path: Path) -> None:
    [found] = rows_as(tmp_path, [{"encounter_id": "E", **dict.fromkeys(QUESTIONS.by_qid, "0" * 99)}])
    assert found.problem.count("CQID") == 3
    assert len(found.problem) < 300


@pytest.mark.parametrize("value", [1, "x", None, [], {}, {"encounter_id": None}, {"encounter_id": ["E"]}])
def test_rows_without_an_id_are_kept_with_their_fault(tmp_path: Path, value: Any) -> None:
    first, second = rows_as(tmp_path, [row("ENC00001"), value])
    assert (first.id, first.problem) == ("ENC00001", "")
    assert (second.id, second.values, second.raw) == ("", {}, value)
    assert "p.json:1: got" in second.problem


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (blob((14, 12)).astype(bool), [0, 1]),
        (blob((14, 12)).astype(np.float32), [0, 1]),
        (blob((14, 12)) * 255, [0, 255]),
        (blob((14, 12)).astype(np.uint16) * 255, [0, 255]),
        (blob((14, 12)).astype(np.float32) * 255, [0, 255]),
        (blob((14, 12)) * 7, [0, 7]),
        (blob((14, 12))[..., None], [0, 1]),
    ],
)
@pytest.mark.parametrize("write", [write_zip, write_folder])
def test_masks_come_as_stored_and_as_decisions(tmp_path: Path, stored: Any, expected: list[int], write: Any) -> None:
    with open_predictions(write(tmp_path / "s", {f"{MASKS}/IMG_1_1_mask_sys.tiff": tiff(stored)})) as found:
        one = masks_of(found)["IMG_1_1"]
    assert one.mask is not None
    assert (one.mask.dtype, one.mask.shape, one.problem) == (np.uint8, (14, 12), "")
    assert np.unique(one.mask).tolist() == expected
    assert one.stored is not None
    assert (one.stored.dtype, one.stored.shape) == (stored.dtype, stored.shape)
    assert np.array_equal(one.stored, stored)


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        (blob((14, 12)) * np.float32(0.7), "values {0, 0.7}"),
        (blob((14, 12)).astype(np.int16) * 256, "values {0, 256}"),
        (np.stack([blob((14, 12))] * 2), "shape (2, 14, 12)"),
        (np.dstack([blob((14, 12))] * 3), "shape (14, 12, 3)"),
    ],
)
def test_arrays_that_are_no_mask_come_as_stored_with_their_fault(tmp_path: Path, stored: Any, text: str) -> None:
    options = {"photometric": "rgb" if stored.shape[-1] == 3 else "minisblack"}
    (tmp_path / "IMG_1_1_mask_sys.tiff").write_bytes(tiff(stored, **options))
    with open_predictions(tmp_path) as found:
        one = masks_of(found)["IMG_1_1"]
    assert one.mask is None
    assert text in one.problem
    assert np.array_equal(one.stored, stored)


@pytest.mark.parametrize("data", [b"no TIFF", tiff(blob((14, 12)))[:200], b""])
def test_an_unreadable_mask_is_a_prediction_with_a_fault(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "IMG_1_1_mask_sys.tiff").write_bytes(data)
    with open_predictions(tmp_path) as found:
        one = masks_of(found)["IMG_1_1"]
    assert one.mask is one.stored is None
    assert "an unreadable file" in one.problem
    assert one.official_error.endswith("Error")


def test_what_only_pillow_reads_stops_the_official_scorer(tmp_path: Path) -> None:
    image = Image.fromarray(blob((14, 12)) * 255)
    image.save(tmp_path / "IMG_1_2_mask_sys.tiff", compression="tiff_lzw")
    image.save(tmp_path / "IMG_1_3_mask_sys.tiff", "PNG")
    with open_predictions(tmp_path) as found:
        lzw, png = masks_of(found).values()
    assert np.array_equal(lzw.mask, blob((14, 12)) * 255)
    assert (png.stored, png.official_error) == (None, "TiffFileError")
    if importlib.util.find_spec("imagecodecs") is None:
        assert (lzw.stored, lzw.official_error) == (None, "ValueError: needs imagecodecs")


def test_a_fax_coded_mask_is_refused_and_the_official_scorer_reads_it_with_imagecodecs(tmp_path: Path) -> None:
    image = Image.fromarray(blob((14, 12)) * 255)
    image.convert("1").save(tmp_path / "IMG_1_1_mask_sys.tiff", compression="group4")
    with open_predictions(tmp_path) as found:
        [fax] = masks_of(found).values()
    assert fax.mask is None
    assert "IMG_1_1_mask_sys.tiff: got CCITT (fax) compression" in fax.problem
    if importlib.util.find_spec("imagecodecs") is None:
        assert (fax.stored, fax.official_error) == (None, "ValueError: needs imagecodecs")
    else:
        np.testing.assert_array_equal(fax.stored, blob((14, 12)) == 1)


def test_a_mask_that_is_not_found_does_not_stop_the_official_scorer_either(tmp_path: Path) -> None:
    image = io.BytesIO()
    Image.fromarray(blob((14, 12)) * 255).save(image, "TIFF", compression="tiff_lzw")
    files = {f"sub/{MASKS}/IMG_1_1_mask_sys.tiff": image.getvalue(), ANSWERS: b"[]"}
    with open_predictions(write_zip(tmp_path / "s.zip", files)) as found:
        [one] = found.submitted_masks()
    assert not one.is_found_officially
    assert one.mask is not None


def test_misnamed_masks_are_named_and_never_read(tmp_path: Path) -> None:
    names = ["IMG_1_1_mask_sys.tif", "IMG_1_2_mask_mask_sys.tiff", "IMG_1_3_mask_sys.png", "IMG_1_4_mask_ann1.tiff"]
    write_folder(tmp_path, {f"{MASKS}/{name}": b"" for name in [*names, "IMG_1_5.tiff", "deep/IMG_1_6_mask_sys.tiff"]})
    with open_predictions(tmp_path) as found:
        one, two, three, four = found.submitted_masks()
    assert [p.id for p in (one, two, three, four)] == ["IMG_1_1", "IMG_1_2", "IMG_1_3", "IMG_1_4"]
    assert [p.official_error for p in (one, two, three, four)] == ["", "KeyError: 'sys'"] * 2
    assert all(p.mask is p.stored is None for p in (one, two, three, four))
    assert "IMG_1_1_mask_sys.tif: got this name, expected IMG_1_1_mask_sys.tiff; rename it" in one.problem
    assert any("6 files not named" in note for note in found.notes)


def test_a_second_name_of_a_mask_is_ignored(tmp_path: Path) -> None:
    files = {f"IMG_1_1_mask_{rest}": tiff(blob((14, 12))) for rest in ("sys.tiff", "old.tiff", "sys.tif")}
    with open_predictions(write_folder(tmp_path, files)) as found:
        [one] = found.submitted_masks()
    assert one.problem == ""


def test_some_masks_are_selected_in_the_order_asked(tmp_path: Path) -> None:
    with open_predictions(write_folder(tmp_path, FILES)) as found:
        last, *_, first = images_of("test")
        assert [p.id for p in found.submitted_masks([first, "IMG_nowhere", last])] == [first, last]


def test_no_task_in_common(tmp_path: Path) -> None:
    with (
        open_predictions(write_folder(tmp_path, JSON_ONLY)) as found,
        pytest.raises(DataError, match="got gold for masks, expected gold for answers"),
    ):
        found.deliverables_with(replace(GOLD, source="refs", answers=AnswerGold("refs", QUESTIONS)))


class Watched(str):
    """A member's name that counts how often anybody looks at how it starts."""

    looks = 0

    def startswith(self, *words: Any) -> bool:
        Watched.looks += 1
        return super().startswith(*words)


def test_each_name_is_looked_at_a_few_times_however_many_folders_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name was compared with every folder: 4,000 folders took 2 s, twice as many four times as long."""
    monkeypatch.setattr(Watched, "looks", 0)
    names = [Watched(f"f{number}/x.txt") for number in range(500)] + [Watched(f"deep/{MASKS}/IMG_x_mask_sys.tiff")]
    found = find_layout(Archive("s.zip", True, dict.fromkeys(names, Path())))
    assert found == Layout(f"deep/{MASKS}/", None)
    assert Watched.looks <= 4 * len(names)


def test_answers_are_written_plainly_and_alike(tmp_path: Path) -> None:
    rows = [row("ENC00001"), row("ENC00002")]
    write_answers(tmp_path / "a.json", rows)
    first = (tmp_path / "a.json").read_bytes()
    write_answers(tmp_path / "a.json", rows)
    assert (tmp_path / "a.json").read_bytes() == first
    assert first.startswith(b"[\n{")
    assert json.loads(first) == rows


@pytest.mark.parametrize(
    ("files", "got"),
    [
        (("prepare.json", "cases.jsonl"), "got a prepared dataset, expected"),
        (("a/IMG_ENC00001_00001_mask_ann0.tiff",), "got gold or raw data, expected"),
        (("best.pt", "metrics.jsonl"), "got a checkpoint or a run folder, expected"),
        (("notes.txt",), "got notes.txt, expected"),
    ],
)
def test_what_is_given_instead_of_predictions_is_named(files: tuple[str, ...], got: str, tmp_path: Path) -> None:
    """`magic score` with its arguments swapped, for one."""
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(SubmissionError, match=got), open_predictions(tmp_path):
        pass


def test_what_is_recorded_is_what_was_read(tmp_path: Path) -> None:
    """A recording, a disk image or other runs beside the predictions are neither read nor hashed."""
    folder = write_folder(tmp_path / "sub", files_of("valid"))
    read = sorted(path for path in folder.rglob("*") if path.is_file())
    assert submitted_files(folder) == read
    others = ("video.bin", "masks_preds/notes.txt", "masks_preds/._a_mask_sys.tiff", "deeper/data_cvqa_sys.json")
    write_folder(folder, dict.fromkeys(others, b"x"))
    assert submitted_files(folder) == read
    beside = [folder / "predictions.jsonl", folder / "neighbours.json"]
    for file in beside:
        file.write_bytes(b"")
    assert submitted_files(folder) == sorted([*read, *beside])
    with read[0].open("r+b") as file:
        file.truncate(1 << 40)
    assert read[0] not in submitted_files(folder)
    assert submitted_files(read[1]) == [read[1]]
    assert submitted_files(folder / "deeper") == [folder / "deeper" / "data_cvqa_sys.json"]
    (tmp_path / "empty").mkdir()
    assert submitted_files(tmp_path / "empty") == []


def test_gold_that_is_recorded(tmp_path: Path) -> None:
    read = ("data_cvqa_ref.json", "masks_refs/IMG_E_1_mask_ann0.tiff", "images/IMG_E_1.jpg", "train.JSON")
    others = ("video.bin", "masks_refs/._IMG_E_1_mask_ann0.tiff", ".ipynb_checkpoints/a.json", "run.json", "notes.txt")
    write_folder(tmp_path, dict.fromkeys((*read, *others), b"x"))
    os.mkfifo(tmp_path / "pipe.json")
    assert gold_files(tmp_path) == sorted(tmp_path / name for name in read)
    assert gold_files(tmp_path / "train.JSON") == [tmp_path / "train.JSON"]
