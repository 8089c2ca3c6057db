"""The prepared dataset: what is written is what is read, damage is listed all at once."""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from challenge_folders import image_id

from magic_cli.commands.prepare import PrepareOptions, prepare
from magic_cli.data import prepared as module
from magic_cli.data.imaging.images import open_photo
from magic_cli.data.imaging.masks import read_mask
from magic_cli.data.prepared import case_row, image_row, link, open_prepared
from magic_cli.errors import DataError
from magic_cli.io import json_files
from magic_cli.io.json_files import read_jsonl
from magic_cli.records import Case, ImageRecord
from magic_cli.tasks.cvqa import TASK as CVQA
from magic_cli.tasks.cvqa.config import CvqaConfig
from magic_cli.tasks.seg import TASK as SEG
from magic_cli.tasks.seg.config import SegConfig


@pytest.fixture
def copy(challenge: Path, prepared: Path, tmp_path: Path) -> Path:
    """A prepared dataset that may be written to, beside a copy of its challenge folder."""
    shutil.copytree(challenge, tmp_path / challenge.name)
    return Path(shutil.copytree(prepared, tmp_path / "prepared"))


def rewrite(path: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    rows = read_jsonl(path)
    change(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_records(prepared: Path, challenge: Path) -> None:
    found = open_prepared(prepared)
    assert [len(found.cases_of(split)) for split in ("train", "valid", "test")] == [3, 2, 2]
    assert [len(found.images_of(split)) for split in ("train", "valid", "test")] == [4, 3, 3]
    encounter = found.cases["ENC00001"]
    assert encounter.image_ids == (image_id(1), image_id(1, 2))
    assert encounter.question == "Rash number 1 It itches and grows. EO <0.7 *10^9/L"
    assert encounter.answer == "Eczema. 银屑病"
    assert encounter.answers is not None
    assert found.questions.faults(encounter.answers, "x") == []
    image = found.images[image_id(1, 2)]
    assert image.case_id == "ENC00001"
    assert image.path == str(challenge / "images_final/images_train" / f"{image_id(1, 2)}.jpg")
    assert image.mask == str(prepared / "masks" / f"{image_id(1, 2)}.tiff")
    assert list(image.annotators) == ["ann0", "ann1"]
    assert (image.height, image.width, image.upright) == (48, 64, False)
    assert image.sha256 == hashlib.sha256(Path(image.path).read_bytes()).hexdigest()
    assert open_photo(image.path, image.upright).size == (64, 48)
    assert read_mask(image.mask, "m").shape == (48, 64)
    assert found.sha256 == hashlib.sha256((prepared / "prepare.json").read_bytes()).hexdigest()
    assert found.root == prepared  # as it was given: messages and reports show it
    test = found.images_of("test")[0]
    assert (test.mask, dict(test.annotators)) == (None, {})


def test_rows_and_records_are_inverse(prepared: Path) -> None:
    found = open_prepared(prepared)
    assert [case_row(case) for case in found.cases.values()] == read_jsonl(prepared / "cases.jsonl")
    assert [image_row(i, found.root) for i in found.images.values()] == read_jsonl(prepared / "images.jsonl")
    fields = {field.name for field in dataclasses.fields(Case)}
    assert all(set(row) == fields for row in read_jsonl(prepared / "cases.jsonl"))
    fields = {field.name for field in dataclasses.fields(ImageRecord)} - {"packed", "box"}  # not in files
    assert all(set(row) == fields for row in read_jsonl(prepared / "images.jsonl"))


def test_rows_are_read_one_by_one(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows parsed at once took 62 MiB where the records take 25, at three times the challenge."""
    events: list[str] = []

    def watched(name: str) -> None:
        original = getattr(module, name)

        def call(*words: Any) -> Any:
            events.append(name)
            return original(*words)

        monkeypatch.setattr(module, name, call)

    def each_row(path: Path) -> Iterator[Any]:
        for row in json_files.each_row(path):
            events.append(f"row of {path.name}")
            yield row

    watched("case_of_row")
    watched("_image")
    monkeypatch.setattr(module, "each_row", each_row)
    open_prepared(prepared)
    assert events == ["row of cases.jsonl", "case_of_row"] * 7 + ["row of images.jsonl", "_image"] * 10


def test_keys_of_rows_are_there_once(prepared: Path) -> None:
    """Each row has 27 names of questions, parsed anew."""
    rows = [encounter.answers for encounter in open_prepared(prepared).cases_of("train")]
    assert len({id(qid) for answers in rows if answers is not None for qid in answers}) == 27


def test_paths_are_relative_and_move_together(copy: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for folder in (copy, tmp_path / "DermaVQA"):
        shutil.move(folder, moved / folder.name)
    found = open_prepared(moved / "prepared")
    for image in found.images.values():
        assert image.path is not None
        assert Path(image.path).is_file()
        assert Path(image.path).is_relative_to(moved)
        assert all(Path(path).is_file() for path in image.annotators.values())


def test_prepared_folder_reached_through_a_link(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "alias").symlink_to(copy, target_is_directory=True)
    found = open_prepared(tmp_path / "deep" / "er" / "alias")
    assert all(image.path is not None and Path(image.path).is_file() for image in found.images.values())


def test_moved_photos_say_to_prepare_again(copy: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "DermaVQA")
    image = open_prepared(copy).images[image_id(1)]
    assert image.path is not None
    with pytest.raises(DataError, match="run `magic prepare` again with their new location"):
        open_photo(image.path, image.upright)


def test_link(tmp_path: Path) -> None:
    assert link(tmp_path / "a b" / "c.jpg", tmp_path / "prepared") == "../a b/c.jpg"
    assert link(tmp_path / "prepared" / "masks" / "c.tiff", tmp_path / "prepared") == "masks/c.tiff"


def test_unknown_split(prepared: Path) -> None:
    for of in (open_prepared(prepared).images_of, open_prepared(prepared).cases_of):
        with pytest.raises(DataError, match="--split: got dev, expected train or valid or test"):
            of("dev")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder, expected a prepared dataset; run `magic prepare` first"):
        open_prepared(tmp_path / "absent")
    with pytest.raises(DataError, match=r"without prepare\.json"):
        open_prepared(tmp_path)


def test_every_damaged_row_is_listed_at_once(copy: Path) -> None:
    rewrite(copy / "images.jsonl", lambda rows: [rows[0].pop("path"), rows[3].update(height=0)])
    rewrite(copy / "cases.jsonl", lambda rows: rows[1].update(split="dev"))
    with pytest.raises(DataError) as caught:
        open_prepared(copy)
    text = "\n".join(caught.value.problems)
    assert "images.jsonl:1: 'path' is a required property" in text
    assert "images.jsonl:4:height: got 0" in text
    assert "cases.jsonl:2:split: got 'dev'" in text
    assert caught.value.problems[-1].endswith(f"run `magic prepare --data ... --out {copy} --overwrite`")


@pytest.mark.parametrize(
    ("file", "change", "expected"),
    [
        ("cases.jsonl", lambda rows: rows.append(rows[0]), "cases.jsonl:8: got ENC00001 twice"),
        ("images.jsonl", lambda rows: rows.append(rows[0]), f"images.jsonl:11: got {image_id(1)} twice"),
        ("cases.jsonl", lambda rows: rows.pop(0), "images.jsonl:1: got ENC00001 in train"),
        ("images.jsonl", lambda rows: rows[0].update(split="test"), "images.jsonl:1: got ENC00001 in test"),
        ("cases.jsonl", lambda rows: rows[0]["answers"].update(CQID036=1), "CQID036: got an unknown key"),
        ("cases.jsonl", lambda rows: rows[0]["answers"].update({"CQID010-001": 9}), "CQID010-001: got 9"),
    ],
)
def test_contradictions(copy: Path, file: str, change: Callable[[Any], object], expected: str) -> None:
    rewrite(copy / file, change)
    with pytest.raises(DataError) as caught:
        open_prepared(copy)
    assert any(expected in line for line in caught.value.problems)


def test_manifest_of_another_format(copy: Path) -> None:
    manifest = json.loads((copy / "prepare.json").read_text(encoding="utf-8"))
    (copy / "prepare.json").write_text(json.dumps(manifest | {"schema": 99}), encoding="utf-8")
    with pytest.raises(DataError, match=r"of format 99, expected format 2; update magic, or run `magic prepare"):
        open_prepared(copy)


def test_format_1_is_refused_in_one_line_and_may_be_overwritten(copy: Path, tmp_path: Path) -> None:
    manifest = json.loads((copy / "prepare.json").read_text(encoding="utf-8"))
    (copy / "prepare.json").write_text(json.dumps(manifest | {"schema": 1}), encoding="utf-8")
    (copy / "cases.jsonl").rename(copy / "encounters.jsonl")
    record = (copy / "run.json").read_text(encoding="utf-8").replace("cases.jsonl", "encounters.jsonl")
    row = {key: value for key, value in json.loads(record).items() if key not in ("verb", "arguments")}
    (copy / "run.json").write_text(json.dumps(row | {"schema": 1, "argv": ["prepare", "--data", "x"]}))
    with pytest.raises(DataError) as caught:
        open_prepared(copy)
    remedy = f"run `magic prepare --data ... --out {copy} --overwrite` once more"
    line = f"{copy}: got a prepared dataset of format 1, expected format 2; {remedy}"
    assert caught.value.problems == (line,)
    prepare(tmp_path / "DermaVQA", copy, PrepareOptions(overwrite=True))
    assert len(open_prepared(copy).cases) == 7
    assert not (copy / "encounters.jsonl").exists()


def test_a_dataset_without_closed_questions(copy: Path) -> None:
    (copy / "questions.json").unlink()
    rewrite(copy / "cases.jsonl", lambda rows: [row.update(answers=None) for row in rows])
    prepared = open_prepared(copy)
    assert (prepared.questions.slots, prepared.questions.as_json()) == ((), [])
    assert len(SEG.training_samples(prepared, "train", SegConfig())) == 4
    for split in ("train", "test"):
        with pytest.raises(DataError, match="questions"):
            CVQA.training_samples(prepared, split, CvqaConfig())


def test_a_case_of_another_dataset_keeps_all_that_is_known_of_it(copy: Path) -> None:
    """What closed questions and the challenge's texts have no place for comes back as it was written."""
    facts = {"label": "nevus", "attributes": {"sex": "female"}, "group_id": "patient 7", "licence": "CC BY 4.0"}
    rewrite(copy / "cases.jsonl", lambda rows: rows[0].update(facts | {"texts": {"caption": {"en": "a mole"}}}))
    case = open_prepared(copy).cases["ENC00001"]
    assert (case.label, case.attributes, case.group_id, case.licence) == tuple(facts.values())
    assert (case.text("caption"), case.text("title"), case.responses) == ({"en": "a mole"}, {}, ())
    assert case_row(case) == read_jsonl(copy / "cases.jsonl")[0]
    other = open_prepared(copy).cases["ENC00002"]
    assert (other.label, other.attributes, other.group_id, other.licence) == (None, {}, "ENC00002", "")


@pytest.mark.parametrize("file", ["cases.jsonl", "images.jsonl", "questions.json"])
def test_missing_file(copy: Path, file: str) -> None:
    (copy / file).unlink()
    with pytest.raises(DataError, match=f"{file}: no such file"):
        open_prepared(copy)


def test_no_patient_text_in_messages(copy: Path) -> None:
    rewrite(copy / "cases.jsonl", lambda rows: [row.update(question=7, extra="secret") for row in rows])
    with pytest.raises(DataError) as caught:
        open_prepared(copy)
    assert "itches" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_what_is_given_instead_of_a_prepared_dataset_is_named(challenge: Path, prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"got a raw dataset, expected .*; run `magic prepare --data .*` first"):
        open_prepared(challenge)
    (tmp_path / "valid.json").write_text("[]")
    with pytest.raises(DataError, match=r"got a raw dataset, expected .*; run `magic prepare --data .*` first"):
        open_prepared(tmp_path)
    with pytest.raises(DataError, match=r"got a file, expected a prepared dataset; give its folder"):
        open_prepared(prepared / "prepare.json")
