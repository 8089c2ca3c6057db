"""DermaSynth and MM-Skin: questions grouped by photo, conversations, list cells, Git LFS pointers."""

import json
from pathlib import Path

import pytest
from raw_tables import write_csv, write_json_file, write_photo

from magic_cli.commands.prepare import prepare
from magic_cli.data.prepared import open_prepared
from magic_cli.data.sources import open_source
from magic_cli.data.sources.source import RawCase, RawDataset, ReadOptions
from magic_cli.errors import DataError

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12345\n"

TEST = "Dataframe/test/vqa/MM-Skin_test.csv"

CLASSES = "Dataframe/test/cls/MM-Skin_classes.csv"


def talk(image: object, *texts: object, **more: object) -> dict[str, object]:
    """Return a record in which a person and the model speak in turn."""
    turns = [{"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(texts)]
    return {"image": image, "conversations": turns, **more}


def qa(*pairs: str) -> dict[str, dict[str, str]]:
    """Return the texts of a case: a question and an answer each in turn."""
    roles = ("qa-question", "qa-answer")
    return {f"{roles[k % 2]}-{k // 2 + 1}": {"en": text} for k, text in enumerate(pairs)}


def read(root: Path) -> tuple[RawDataset, list[RawCase]]:
    for name in ("pad/PAT_8_15_820.png", "isic/ISIC_1.jpg", "dataset/bk5_630.png"):
        write_photo(root / name, len(name))
    raw = open_source(root, ReadOptions())
    return raw, list(raw.cases)


@pytest.mark.parametrize("lines", [False, True])
def test_conversations_are_grouped_by_photo(lines: bool, tmp_path: Path) -> None:
    records = [
        talk("pad/PAT_8_15_820.png", "<image>\nWhat is it?", "A plaque.", "Where?", "On the arm.", id="7"),
        talk("isic/ISIC_1.jpg", "Which colours?\n<image>", "Brown."),
        talk("./pad/PAT_8_15_820.png", "What is it?", "A plaque."),
        talk("pad/PAT_8_15_820.png", "Does it itch?", "No."),
        talk("pad/PAT_8_15_820.png", "What is it?", "A plaque."),
    ]
    if lines:
        (tmp_path / "data.jsonl").write_text("\n\n".join(map(json.dumps, records)))
    else:
        write_json_file(tmp_path / "dermasynth_train.json", records)
    raw, (first, second) = read(tmp_path)
    assert (raw.source, first.case.split) == ("dermasynth", "" if lines else "train")
    assert first.case.texts == qa("What is it?", "A plaque.", "Where?", "On the arm.", "Does it itch?", "No.")
    assert second.case.texts == qa("Which colours?", "Brown.")
    assert first.case.question == first.case.answer == ""
    assert first.case.image_ids == ("pad_PAT_8_15_820",)
    assert (first.case.group_id, second.case.group_id) == ("PAT_8", "")
    assert first.case.attributes == {"source": "pad"}
    assert [photo.path for photo in first.photos] == [str(tmp_path / "pad/PAT_8_15_820.png")]
    assert first.where == ("data.jsonl:1" if lines else "dermasynth_train.json[0]")
    assert not raw.issues.problems


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("text", "got text of 4 characters, expected an object"),
        ({"conversations": []}, "got no image"),
        (talk("", "What?", "That."), "got no image"),
        (
            {"image": "isic/ISIC_1.jpg", "conversations": "['human']"},
            "got text of 9 characters, expected conversations",
        ),
        (talk("isic/ISIC_1.jpg", "What is it?"), "got no question with an answer"),
        (talk("isic/ISIC_1.jpg", None, "A plaque."), "got no question with an answer"),
        ({"image": "isic/ISIC_1.jpg", "conversations": [{"from": "gpt", "value": "A plaque."}]}, "got no question"),
    ],
)
def test_a_record_that_cannot_be_used_is_one_line(record: object, message: str, tmp_path: Path) -> None:
    write_json_file(tmp_path / "a.json", [talk("isic/ISIC_1.jpg", "What is it?", "A plaque."), record])
    raw, cases = read(tmp_path)
    assert len(cases) == 1
    (line,) = raw.issues.problems
    assert line.startswith(f"a.json[1]: {message}")
    assert raw.issues.left_out["cases"] == 1


def test_turns_without_counterpart_and_unknown_keys_are_counted(tmp_path: Path) -> None:
    record = talk("isic/ISIC_1.jpg", "What is it?", "A plaque.", "Where?", "", "When?", model="m", Alice=1)
    write_json_file(tmp_path / "a.json", [record])
    raw, (only,) = read(tmp_path)
    assert only.case.texts == qa("What is it?", "A plaque.")
    assert raw.issues.problems == [
        "a.json: got 3 turns without a counterpart, expected a question and its answer; left out"
    ]
    assert raw.issues.notes == ["a.json: 2 keys are not used (text of 5 characters, text of 5 characters)"]


def test_lines_that_are_no_json_and_several_photos(tmp_path: Path) -> None:
    record = talk(["isic/ISIC_1.jpg", "isic/ISIC_9.jpg"], "Which changed?", "The second.", source="BCN20000")
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n{'image': __import__('os')}\n")
    raw, (only,) = read(tmp_path)
    assert (only.case.image_ids, len(only.photos)) == (("isic_ISIC_1", "isic_ISIC_9"), 1)
    assert only.case.attributes == {"source": "BCN20000"}
    assert raw.issues.problems == ["a.jsonl:2: got no JSON, expected an object per line; fix it; left out"]


def test_mm_skin_questions_and_classes_meet_in_one_case(tmp_path: Path) -> None:
    image = {"image": "dataset/bk5_630.png"}
    rows = [image | {"question": "What is it?", "answer": "NA"}, image | {"question": "", "answer": "x"}]
    write_csv(tmp_path / TEST, [*rows, image | {"question": "Is it red?", "answer": "No"}])
    cells = {"atributes": "['plaque', 'scale', nan]", "categories": "['psoriasis']", "page": "3"}
    write_csv(tmp_path / CLASSES, [image | cells, image | cells | {"atributes": "__import__('os').getcwd()"}])
    raw, (only,) = read(tmp_path)
    assert (raw.source, only.case.split, only.case.label) == ("mm-skin", "test", "psoriasis")
    assert only.case.licence == "unclear: photos of textbooks"
    assert only.case.texts == qa("What is it?", "NA", "Is it red?", "No")
    assert only.case.attributes == {
        "atributes": "['plaque', 'scale', nan]",
        "categories": "['psoriasis']",
        "concepts": "plaque; scale",
    }
    hostile, empty = raw.issues.problems
    assert empty.startswith(f"{TEST}:3: got no question")
    assert hostile.startswith(f"{CLASSES}:3:atributes: got something else")
    assert raw.issues.notes == [f"{CLASSES}: 1 column is not used (page)"]


def test_mm_skin_pointers_are_named(tmp_path: Path) -> None:
    (tmp_path / "Pretrain").mkdir()
    (tmp_path / "Pretrain/vqa_train.json").write_text(POINTER)
    with pytest.raises(DataError, match=r"Pretrain/vqa_train\.json: got a Git LFS pointer.*git lfs pull"):
        open_source(tmp_path, ReadOptions())
    write_csv(tmp_path / TEST, [{"image": "dataset/bk5_630.png", "question": "What is it?", "answer": "A plaque."}])
    raw, cases = read(tmp_path)
    assert len(cases) == 1
    (line,) = raw.issues.problems
    assert line.startswith("Pretrain/vqa_train.json: got a Git LFS pointer")


def test_mm_skin_conversations_and_a_photo_in_two_splits(tmp_path: Path) -> None:
    record = talk("dataset/bk5_630.png", "<image>What is it?", "A plaque.")
    write_json_file(tmp_path / "Pretrain/vqa_all.json", [record])
    write_csv(tmp_path / TEST, [{"image": "dataset/bk5_630.png", "question": "What is it?", "answer": "A plaque."}])
    raw, cases = read(tmp_path)
    assert raw.source == "mm-skin"
    assert {read.case.case_id: read.case.split for read in cases} == {
        "dataset_bk5_630": "test",
        "dataset_bk5_630#train": "train",
    }


def test_a_table_of_questions_by_another_name_is_read_when_asked_for(tmp_path: Path) -> None:
    write_csv(tmp_path / "my.csv", [{"image": "dataset/bk5_630.png", "question": "What is it?", "answer": "A plaque."}])
    with pytest.raises(DataError, match="no dataset that is known"):
        open_source(tmp_path, ReadOptions())
    assert len(list(open_source(tmp_path, ReadOptions(), "mm-skin").cases)) == 1


@pytest.mark.parametrize("name", ["dermasynth", "mm-skin", "dermamnist", "derm1m"])
def test_a_folder_without_the_dataset_says_what_is_expected(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="check --data and --source"):
        open_source(tmp_path, ReadOptions(), name)


def test_prepared_queries_hold_no_answer(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_photo(raw / "isic/ISIC_1.jpg")
    records = [talk("isic/ISIC_1.jpg", "What is it?", "Psoriasis."), talk("isic/ISIC_2.jpg", "What is it?", "Acne.")]
    write_json_file(raw / "dermasynth.json", records)
    result = prepare(raw, tmp_path / "prepared")
    (case,) = open_prepared(tmp_path / "prepared").cases.values()
    assert case.texts == qa("What is it?", "Psoriasis.")
    assert "psoriasis" not in (case.question + case.answer).casefold()
    assert (result.manifest.left_out["cases"], result.manifest.left_out["images"]) == (1, 1)


def test_lone_surrogates_of_json_become_the_replacement_character(tmp_path: Path) -> None:
    write_json_file(tmp_path / "dermasynth.json", [talk("pad/PAT_8_15_820.png", "What \ud800?", "A nevus")])
    _, (raw,) = read(tmp_path)
    assert raw.case.texts == qa("What \ufffd?", "A nevus")
