"""Cases in our own schema: rows of anyone's making, rows for pretraining, and a prepared dataset copied elsewhere."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from raw_folder import make_folder
from raw_tables import write_csv, write_photo

from magic_cli.commands.prepare import PrepareOptions, prepare
from magic_cli.data.prepared import open_prepared
from magic_cli.data.sources import open_source
from magic_cli.data.sources.source import RawCase, RawDataset, ReadOptions
from magic_cli.errors import DataError


def write_rows(path: Path, rows: Sequence[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read(root: Path) -> tuple[RawDataset, dict[str, RawCase]]:
    dataset = open_source(root, ReadOptions())
    assert dataset.source == "cases"
    return dataset, {raw.case.case_id: raw for raw in dataset.cases}


def test_rows_in_our_schema(tmp_path: Path) -> None:
    row = {
        "case_id": "007",
        "split": "validation",
        "image_ids": ["a", "b", "gone"],
        "texts": {"raw": {"en": "Red.", "de": "Rot."}, "title": "A spot", "response-1": None, "concept": "nan"},
        "question": "made by another version",
        "answer": "",
        "answers": None,
        "label": "NA",
        "attributes": {"age": 45, "sex": "female", "tags": ["x", "y"], "weight": 70.5, "none": None, "smoker": True},
        "group_id": "p1",
        "licence": "CC BY 4.0",
        "source": "north",
        "surprise": 1,
    }
    write_rows(tmp_path / "mine/cases.jsonl", [row, {"case_id": 8, "image": "b c.png"}])
    for number, name in enumerate(("photos/a.jpg", "photos/b.png", "photos/b c.png")):
        write_photo(tmp_path / name, number)
    dataset, cases = read(tmp_path)
    case = cases["007"].case
    assert (case.split, case.label, case.group_id, case.licence) == ("valid", "NA", "p1", "CC BY 4.0")
    assert case.texts == {"raw": {"en": "Red.", "de": "Rot."}, "title": {"en": "A spot"}}
    assert case.attributes == {
        "source": "north",
        "age": "45",
        "sex": "female",
        "tags": "x; y",
        "weight": "70.5",
        "smoker": "true",
    }
    assert case.question == "made by another version"  # guarded like any query (data/texts/leak_guard.py)
    assert case.image_ids == ("a", "b", "gone")
    assert [photo.image_id for photo in cases["007"].photos] == ["a", "b"]
    assert [photo.image_id for photo in cases["8"].photos] == ["b c"]
    assert any("1 key is not used (text of 8 characters)" in note for note in dataset.issues.notes)


def test_rows_for_pretraining(tmp_path: Path) -> None:
    texts = {"raw": "Scaly plaque. Itchy.", "disease": None, "concept": "This skin photo shows plaque."}
    row = {"case_id": "1", "image": "x/1.png", "texts": texts, "subtexts": ["Scaly plaque", "Itchy"], "source": "atlas"}
    write_rows(tmp_path / "train.jsonl", [{**row, "licence": "CC0"}, {**row, "case_id": "2", "texts": {"raw": "NaN"}}])
    write_photo(tmp_path / "x/1.png")
    _, cases = read(tmp_path)
    assert cases["1"].case.texts == {
        "raw": {"en": "Scaly plaque. Itchy."},
        "concept": {"en": "This skin photo shows plaque."},
        "subtext-1": {"en": "Scaly plaque"},
        "subtext-2": {"en": "Itchy"},
    }
    assert (cases["1"].case.licence, cases["1"].case.split) == ("CC0", "train")
    assert cases["1"].case.attributes == {"source": "atlas"}
    assert set(cases["2"].case.texts) == {"subtext-1", "subtext-2"}


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"case_id": None}, "got no case_id, expected a text"),
        ({"case_id": 1.5}, "got case_id 1.5, expected a text"),
        ({"split": "fold 2"}, "got split 'fold 2', expected train, valid or test"),
        ({"image_ids": {"a": 1}}, "got image_ids an object, expected a text or a list of texts"),
        ({"image_ids": [["a"]]}, "got image_ids a list, expected a text or a list of texts"),
        ({"texts": ["a"]}, "got texts a list, expected an object"),
        ({"texts": {"raw": 7}}, "got a text that is 7, expected text, null or an object"),
        ({"attributes": "x"}, "got attributes text of 1 characters, expected an object"),
        ({"answers": {"CQID010-001": "x"}}, "got answers an object, expected qids to numbers of options"),
        ({"label": ["a"]}, "got label a list, expected a text"),
    ],
)
def test_a_row_that_is_no_case_is_one_line(tmp_path: Path, row: Mapping[str, object], line: str) -> None:
    good: dict[str, object] = {"case_id": "1", "image_ids": ["a"], "texts": {}}
    write_rows(tmp_path / "cases.jsonl", [{**good, **row}, {**good, "case_id": "2"}])
    write_photo(tmp_path / "a.png")
    dataset, cases = read(tmp_path)
    assert list(cases) == ["2"]
    assert len(dataset.issues.problems) == 1
    assert dataset.issues.problems[0].startswith(f"cases.jsonl:1: {line}")
    assert dataset.issues.left_out["cases"] == 1


def test_a_file_that_was_cut_off_loses_its_last_line_only(tmp_path: Path) -> None:
    good = json.dumps({"case_id": "1", "texts": {"raw": "x"}})
    (tmp_path / "cases.jsonl").write_text(f"\ufeff{good}\n\n[]\n{good[:20]}", encoding="utf-8")
    dataset, cases = read(tmp_path)
    assert list(cases) == ["1"]
    assert [line.split(": ")[0] for line in dataset.issues.problems] == ["cases.jsonl:3", "cases.jsonl:4"]


def test_masks_are_found_by_their_names(tmp_path: Path) -> None:
    photos = ["photos/a.png", "photos/b.png", "photos/c.png", "photos/d.png"]
    masks = [
        *("masks/a_mask_ann0.png", "masks/a_mask_ann1.png", "masks/a_mask.png"),
        *("photos/b_segmentation.png", "masks/c.png", "other/masks/d.png", "masks/d.png"),
    ]
    make_folder(tmp_path, {}, photos, masks)
    rows = [{"case_id": name, "image_ids": [name]} for name in "abcd"]
    write_rows(tmp_path / "cases.jsonl", rows)
    dataset, cases = read(tmp_path)
    found = {
        name: {key: Path(str(path)).relative_to(tmp_path).as_posix() for key, path in raw.photos[0].masks.items()}
        for name, raw in cases.items()
    }
    assert found == {
        "a": {"ann0": "masks/a_mask_ann0.png", "ann1": "masks/a_mask_ann1.png"},
        "b": {"ann0": "photos/b_segmentation.png"},
        "c": {"ann0": "masks/c.png"},
        "d": {},
    }
    assert dataset.issues.problems[0].startswith("d: got 2 files that look like its mask, expected one")
    assert dataset.issues.notes == ["4 masks were found by name"]


def test_closed_answers_need_their_questions(tmp_path: Path) -> None:
    write_rows(tmp_path / "cases.jsonl", [{"case_id": "1", "texts": {"raw": "x"}, "answers": {"CQID010-001": 0}}])
    dataset, cases = read(tmp_path)
    assert cases["1"].case.answers is None
    assert dataset.issues.left_out["answers"] == 1
    assert dataset.issues.problems[0].startswith("questions.json: got no such file, but closed answers of 1 cases")


def test_several_rows_of_an_id_are_told_by_prepare(tmp_path: Path) -> None:
    write_rows(tmp_path / "raw/cases.jsonl", [{"case_id": "1", "texts": {"raw": text}} for text in ("x", "y")])
    result = prepare(tmp_path / "raw", tmp_path / "out", PrepareOptions())
    assert result.manifest.left_out["cases"] == 1
    assert any(line.startswith("cases.jsonl:2: got 1 twice") for line in result.manifest.problems)


@pytest.mark.parametrize("photos", ["beside", "in their old folder"])
def test_a_prepared_dataset_copied_elsewhere_reads_back(drawn: Path, tmp_path: Path, photos: str) -> None:
    prepare(drawn, tmp_path / "first", PrepareOptions())
    first = open_prepared(tmp_path / "first")
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("cases.jsonl", "images.jsonl", "questions.json"):
        shutil.copy(tmp_path / "first" / name, copy / name)
    for image in first.images.values():
        for path in (image.path, *image.annotators.values()):
            folder = copy / "files" if photos == "beside" else copy / Path(str(path)).parent.name
            folder.mkdir(exist_ok=True)
            shutil.copy(str(path), folder)
    prepare(copy, tmp_path / "second", PrepareOptions())
    second = open_prepared(tmp_path / "second")
    assert list(second.cases) == list(first.cases)
    for case_id, case in first.cases.items():
        again = second.cases[case_id]
        assert dict(again.attributes) == {"source": "cases", **case.attributes}  # added to what has no source
        assert {role: again.texts[role] for role in case.texts} == case.texts  # knowledge texts may be added
        for field in ("label", "group_id", "split", "answers", "licence", "image_ids"):
            assert getattr(again, field) == getattr(case, field), (case_id, field)
    assert {name: image.sha256 for name, image in second.images.items()} == {
        name: image.sha256 for name, image in first.images.items()
    }
    assert {name: sorted(image.annotators) for name, image in second.images.items()} == {
        name: sorted(image.annotators) for name, image in first.images.items()
    }


def test_any_other_prepared_dataset_reads_back(tmp_path: Path) -> None:
    rows = [
        {"image": f"{n}.png", "dx": ("nevus", "acne")[n % 2], "who": n // 2, "says": f"Spot {n}.", "years": 30 + n}
        for n in range(12)
    ]
    write_csv(tmp_path / "raw/table.csv", rows)
    for number in range(12):
        write_photo(tmp_path / f"raw/{number}.png", number)
    mapping = ("image=image,label=dx,patient=who,text=says,age=years",)
    prepare(tmp_path / "raw", tmp_path / "first", PrepareOptions(mapping=mapping))
    shutil.copytree(tmp_path / "raw", tmp_path / "copy", ignore=shutil.ignore_patterns("*.csv"))
    for name in ("cases.jsonl", "images.jsonl"):
        shutil.copy(tmp_path / "first" / name, tmp_path / "copy")
    prepare(tmp_path / "copy", tmp_path / "second", PrepareOptions())
    first, second = (open_prepared(tmp_path / name).cases for name in ("first", "second"))
    for field in ("case_id", "texts", "label", "attributes", "group_id", "split", "licence", "image_ids"):
        assert [getattr(case, field) for case in first.values()] == [getattr(case, field) for case in second.values()]
    assert {case.attributes["source"] for case in second.values()} == {"csv"}


def test_a_folder_without_cases_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "x.jsonl", [{"id": 1}])
    with pytest.raises(DataError, match=r"got no cases\.jsonl"):
        open_source(tmp_path, ReadOptions(), "cases")


def test_lone_surrogates_of_json_become_the_replacement_character(tmp_path: Path) -> None:
    lone = {"case_id": "a\ud800", "image": "a.png", "label": "x\ud800", "group_id": "g\ud800"}
    write_rows(tmp_path / "data/cases.jsonl", [{**lone, "texts": {"raw": "red \ud800"}}])
    write_photo(tmp_path / "data/a.png")
    prepare(tmp_path / "data", tmp_path / "out")
    (case,) = open_prepared(tmp_path / "out").cases.values()
    assert (case.case_id, case.label, case.group_id) == ("a\ufffd", "x\ufffd", "g\ufffd")
    assert case.text("raw") == {"en": "red \ufffd"}
