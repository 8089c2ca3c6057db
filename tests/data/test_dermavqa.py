"""Challenge folders as people have them: any layout, and every loss is listed."""

import json
import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from challenge_folders import (
    DEFINITIONS,
    answers_row,
    draw_lesion,
    draw_photo,
    encounter_row,
    image_id,
    make_challenge,
    save_mask,
    save_photo,
    write_json,
)

from magic_cli.data.issues import by_kind
from magic_cli.data.questions import load_questions
from magic_cli.data.sources.dermavqa.reader import Challenge, open_challenge
from magic_cli.errors import ConfigError, DataError
from magic_cli.io.json_files import read_json

TRAIN = "images_final/images_train"
MASKS = "dermavqa-seg-trainvalid/dermavqa-segmentations/train"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_challenge(tmp_path / "DermaVQA")


def edit(path: Path, change: Callable[[Any], object]) -> None:
    rows = read_json(path)
    change(rows)
    write_json(path, rows)


def only_problem(challenge: Challenge, *parts: str) -> str:
    """Return the single problem of a folder, after checking that it holds all `parts`."""
    assert len(challenge.issues.problems) == 1, challenge.issues.problems
    line = challenge.issues.problems[0]
    assert "\n" not in line
    for part in parts:
        assert part in line
    return line


def splits(challenge: Challenge) -> dict[str, int]:
    counts: dict[str, int] = {}
    for encounter in challenge.cases.values():
        counts[encounter.split] = counts.get(encounter.split, 0) + 1
    return counts


@pytest.mark.parametrize("layout", ["nested", "flat", "odd"])
def test_every_layout_is_read_alike(layout: str, tmp_path: Path) -> None:
    found = open_challenge(make_challenge(tmp_path / "Derma VQA (1)", layout=layout))
    assert (found.issues.problems, found.issues.notes, sum(found.issues.left_out.values())) == ([], [], 0)
    assert splits(found) == {"train": 3, "valid": 2, "test": 2}
    assert len(found.photos) == 10
    assert {i: sorted(masks) for i, masks in found.masks.items()} == {
        i: ["ann0", "ann1"] for i in found.photos if found.owner[i].split != "test"
    }
    assert sum(encounter.answers is not None for encounter in found.cases.values()) == 5
    assert found.cases["ENC00001"].answers == {k: v for k, v in answers_row(1).items() if k != "encounter_id"}
    assert len(found.questions.slots) == 27
    assert sorted(Path(name).name for name in found.inputs) == sorted(
        [DEFINITIONS, "train.json", "valid.json", "test.json", "train_cvqa.json", "valid_cvqa.json"]
    )


def test_junk_prepared_folders_and_link_loops_are_passed_over(folder: Path) -> None:
    write_json(folder / "__MACOSX" / "train.json", [encounter_row(99, [])])
    (folder / "images_final/images_train/._IMG_ENC00001_00001.jpg").write_bytes(b"junk")
    (folder / "._train.json").write_bytes(b"\x00\x05\x16\x07")
    (folder / ".DS_Store").write_bytes(b"junk")
    write_json(folder / "prepared" / "prepare.json", {})
    write_json(folder / "prepared" / "questions.json", [{"qid": "X"}])
    write_json(folder / "predictions" / "data_cvqa_sys.json", [answers_row(1) | {"CQID034-001": 0}])
    write_json(folder / "other.json", {"annotations": []})
    (folder / "holiday.jpg").write_bytes(b"not of the challenge")
    (folder / TRAIN / "loop").symlink_to(folder, target_is_directory=True)
    found = open_challenge(folder)
    assert found.issues.problems == []
    assert found.issues.notes == []
    assert len(found.photos) == 10


def test_linked_folders_are_followed(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder / "images_final", tmp_path / "big disk")
    (folder / "images_final").symlink_to(tmp_path / "big disk", target_is_directory=True)
    assert len(open_challenge(folder).photos) == 10


def test_names_of_any_case_and_other_suffixes(folder: Path) -> None:
    photo = folder / TRAIN / f"{image_id(1)}.jpg"
    photo.rename(photo.with_name(f"{image_id(1).lower()}.JPEG"))
    mask = folder / MASKS / f"{image_id(1)}_mask_ann0.tiff"
    mask.rename(mask.with_name(f"{image_id(1).lower()}_MASK_ANN0.TIF"))
    found = open_challenge(folder)
    assert found.issues.problems == []
    assert Path(found.photos[image_id(1)]).name == f"{image_id(1).lower()}.JPEG"
    assert sorted(found.masks[image_id(1)]) == ["ann0", "ann1"]


def test_text_only_data_is_one_note(tmp_path: Path) -> None:
    found = open_challenge(make_challenge(tmp_path / "d", photos=False, annotators=0))
    assert found.issues.problems == []
    assert found.issues.notes == ["0 of 10 photos found: text-only dataset"]
    assert found.photos == {}
    assert found.cases["ENC00001"].image_ids == (image_id(1), image_id(1, 2))


def test_masks_without_any_photo_are_kept_as_gold(tmp_path: Path) -> None:
    found = open_challenge(make_challenge(tmp_path / "d", photos=False))
    assert found.issues.problems == []
    assert found.issues.notes[-1] == "14 masks are not used, as there are no photos"
    assert len(found.masks) == 7


def test_missing_photo(folder: Path) -> None:
    (folder / TRAIN / f"{image_id(2)}.jpg").unlink()
    found = open_challenge(folder)
    assert len(found.issues.problems) == 2
    assert found.issues.problems[0].startswith(f"{image_id(2)}: got no photo for ENC00002")
    assert "masks without a photo (2 of this name)" in found.issues.problems[1]
    assert dict(found.issues.left_out) == {"images": 1, "masks": 2}
    assert "ENC00002" in found.cases


def test_all_photos_of_one_split_missing_is_one_line(folder: Path) -> None:
    shutil.rmtree(folder / "images_final" / "images_test")
    found = open_challenge(folder)
    only_problem(found, "test: got 0 of 3 photos")
    assert found.issues.left_out["images"] == 3


def test_photo_that_no_encounter_lists(folder: Path) -> None:
    save_photo(folder / TRAIN / "IMG_ENC00001_00009.jpg", draw_photo())
    save_mask(folder / MASKS / "IMG_ENC00001_00009_mask_ann0.tiff", draw_lesion())
    found = open_challenge(folder)
    only_problem(found, f"{TRAIN}/IMG_ENC00001_00009.jpg: got a photo that no encounter lists (masks: 1)")
    assert dict(found.issues.left_out) == {"images": 1, "masks": 1}
    assert "IMG_ENC00001_00009" not in found.photos


def test_pictures_of_other_names_are_told_where_a_photo_is_missing(folder: Path) -> None:
    save_photo(folder / TRAIN / "lesion (1).jpg", draw_photo())
    assert not any("lesion (1).jpg" in line for line in open_challenge(folder).issues.notes)
    (folder / TRAIN / f"{image_id(2)}.jpg").unlink()
    notes = open_challenge(folder).issues.notes
    assert sum(line.endswith(f"are missing: {TRAIN}/lesion (1).jpg") for line in notes) == 1


def test_mask_that_nobody_has_a_photo_of(folder: Path) -> None:
    save_mask(folder / MASKS / "IMG_ENC00077_00001_mask_ann0.tiff", draw_lesion())
    only_problem(open_challenge(folder), f"{MASKS}/IMG_ENC00077_00001_mask_ann0.tiff", "masks without a photo")


def test_photo_without_a_mask_among_photos_with_masks(folder: Path) -> None:
    for mask in (folder / MASKS).glob(f"{image_id(3)}_*"):
        mask.unlink()
    found = open_challenge(folder)
    only_problem(found, f"{image_id(3)}: got no mask")
    assert image_id(3) in found.photos


def test_partly_drawn_data_is_a_note(folder: Path) -> None:
    for mask in (folder / MASKS).iterdir():
        if not mask.name.startswith(image_id(3)):
            mask.unlink()
    found = open_challenge(folder)
    assert found.issues.problems == []
    assert found.issues.notes == ["train: 1 of 4 photos have a mask"]


def test_copies_are_one_note(folder: Path) -> None:
    shutil.copytree(folder / TRAIN, folder / "images_final (2)" / "images_train")
    shutil.copytree(folder / MASKS, folder / "dermavqa-seg-trainvalid (2)" / "train")
    shutil.copy(folder / "train.json", folder / "images_final (2)" / "train.json")
    shutil.copy(folder / DEFINITIONS, folder / "images_final (2)" / DEFINITIONS)
    found = open_challenge(folder)
    assert found.issues.problems == []
    assert len(found.issues.notes) == 3
    assert "12 files are copies of others, byte for byte" in found.issues.notes[-1]
    assert all("a copy of" in note for note in found.issues.notes[:2])


def test_photos_of_one_name_that_differ(folder: Path) -> None:
    save_photo(folder / "again" / f"{image_id(1)}.jpg", draw_photo(seed=99))
    found = open_challenge(folder)
    assert "2 files that differ" in found.issues.problems[0]
    assert "none is used" in found.issues.problems[0]
    assert image_id(1) not in found.photos
    assert found.issues.left_out["images"] == 1


def test_listed_suffix_decides_between_photos_of_one_name(folder: Path) -> None:
    save_photo(folder / TRAIN / f"{image_id(1)}.png", draw_photo(seed=99))
    found = open_challenge(folder)
    only_problem(found, f"{image_id(1)}.jpg: got 2 files that differ", "this one is used")
    assert Path(found.photos[image_id(1)]).suffix == ".jpg"


def test_masks_of_one_annotator_that_differ(folder: Path) -> None:
    save_mask(folder / "again" / f"{image_id(1)}_mask_ann1.tiff", draw_lesion(shift=5))
    found = open_challenge(folder)
    only_problem(found, f"{image_id(1)}_mask_ann1.tiff: got 2 files that differ")
    assert sorted(found.masks[image_id(1)]) == ["ann0"]


def test_fifth_annotator(folder: Path) -> None:
    save_mask(folder / MASKS / f"{image_id(1)}_mask_ann4.tiff", draw_lesion())
    found = open_challenge(folder)
    only_problem(found, "got ann4, expected ann0 to ann3")
    assert sorted(found.masks[image_id(1)]) == ["ann0", "ann1"]


def test_encounter_twice_in_a_split(folder: Path) -> None:
    edit(folder / "train.json", lambda rows: rows.append(rows[0] | {"query_title_en": "later"}))
    found = open_challenge(folder)
    only_problem(found, "train.json:ENC00001: got this encounter twice")
    assert found.cases["ENC00001"].question.startswith("Rash number 1")
    assert found.issues.left_out["cases"] == 1


def test_encounter_in_two_splits_is_kept_where_it_is_scored(folder: Path) -> None:
    edit(folder / "test.json", lambda rows: rows.append(read_json(folder / "train.json")[0]))
    found = open_challenge(folder)
    only_problem(found, "test.json:ENC00001: got also in train", "test keeps it")
    assert found.cases["ENC00001"].split == "test"
    assert splits(found) == {"train": 2, "valid": 2, "test": 3}
    assert image_id(1) in found.photos


def test_photo_of_two_encounters_belongs_to_the_later_split(folder: Path) -> None:
    edit(folder / "test.json", lambda rows: rows[0]["image_ids"].append(f"{image_id(1, 2)}.jpg"))
    edit(folder / "train.json", lambda rows: rows[2]["image_ids"].append(f"{image_id(2)}.jpg"))
    found = open_challenge(folder)
    assert len(found.issues.problems) == 2
    assert "test.json:ENC00006: got IMG_ENC00001_00002, also of ENC00001" in found.issues.problems[1]
    assert found.owner[image_id(1, 2)].case_id == "ENC00006"
    assert found.cases["ENC00001"].image_ids == (image_id(1),)
    assert found.owner[image_id(2)].case_id == "ENC00002"  # the first, within a split
    assert found.cases["ENC00003"].image_ids == (image_id(3),)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda row: row.pop("encounter_id"), "train.json:0: got no encounter_id"),
        (lambda row: row.update(encounter_id=7), "train.json:0: encounter_id is a number (7), expected text"),
        (lambda row: row.update(encounter_id=True), "train.json:0: encounter_id is true or false, expected text"),
        (lambda row: row.update(encounter_id=" "), "train.json:0: got no encounter_id"),
        (lambda row: row.update(encounter_id="ENC\x1b[2J"), "control characters"),
        (lambda row: row.pop("image_ids"), "train.json:0:image_ids: got no such key"),
        (lambda row: row.update(image_ids=None), "train.json:0:image_ids: got null, expected a list"),
        (lambda row: row.update(image_ids="IMG_1.jpg"), "train.json:0:image_ids: got 'IMG_1.jpg', expected a list"),
        (lambda row: row.update(image_ids=[1]), "train.json:0:image_ids: got 1 in the list, expected a list of file"),
        *(
            (lambda row, name=name: row.update(image_ids=[name]), "expected file names of photos in the list")
            for name in ("..", "..jpg", "images/", "/", "x" * 201 + ".jpg", "IMG\x1b.jpg", "itches w/o fever")
        ),
        (lambda row: row.update(responses=["text"]), "train.json:0:responses: got another type"),
    ],
)
def test_rows_that_are_no_encounter(change: Callable[[Any], object], expected: str, folder: Path) -> None:
    edit(folder / "train.json", lambda rows: change(rows[0]))
    found = open_challenge(folder)
    assert expected in found.issues.problems[0]
    assert found.issues.left_out["cases"] == 1
    assert splits(found)["train"] == 2


def test_row_that_is_not_an_object_and_encounter_without_photos(folder: Path) -> None:
    edit(folder / "train.json", lambda rows: rows.extend([None, encounter_row(50, [])]))
    found = open_challenge(folder)
    assert "train.json:3: got no encounter_id" in found.issues.problems[0]
    assert "train.json:ENC00050:image_ids: got no photo" in found.issues.problems[1]
    assert found.cases["ENC00050"].image_ids == ()


def test_photo_twice_in_one_row_is_used_once(folder: Path) -> None:
    edit(folder / "train.json", lambda rows: rows[0]["image_ids"].append(rows[0]["image_ids"][0].lower()))
    found = open_challenge(folder)
    assert found.issues.problems == []
    assert found.issues.notes == ["train.json:ENC00001:image_ids: got a photo twice, expected once; used once"]
    assert found.cases["ENC00001"].image_ids == (image_id(1), image_id(1, 2))


def test_texts_null_missing_and_half_a_surrogate(folder: Path) -> None:
    edit(folder / "train.json", lambda rows: rows[0].update(query_title_en=None, responses=None))
    edit(folder / "train.json", lambda rows: [rows[1].pop(key) for key in list(rows[1]) if key.startswith("query")])
    text = (folder / "train.json").read_text(encoding="utf-8").replace("Rash number 3", "\\ud83d rash")
    (folder / "train.json").write_text(text, encoding="utf-8")
    found = open_challenge(folder)
    assert found.issues.problems == []
    assert found.cases["ENC00001"].question.startswith("皮疹 It itches")
    assert found.cases["ENC00001"].responses == ()
    assert found.cases["ENC00002"].question == ""
    assert found.cases["ENC00003"].text("title")["en"] == "\ufffd rash"


def test_responses_can_be_left_out_altogether(folder: Path) -> None:
    found = open_challenge(folder, responses=False).cases["ENC00001"]
    assert (found.answer, found.responses) == ("", ())
    assert found.question
    with pytest.raises(ConfigError, match="--no-responses"):
        open_challenge(folder, prompt="answer", responses=False)


@pytest.mark.parametrize(
    ("names", "used"),
    [
        (["valid.json", "valid_ht.json"], "valid.json"),
        (["test_ht.json", "test_ht_spanishtestsetcorrected.json"], "test_ht_spanishtestsetcorrected.json"),
        (["test.json", "test_ht_v2.json", "test_corrected.json"], "test_corrected.json"),
        (["valid.json", "valid_v2.json"], "valid_v2.json"),
        (["valid_ht_v2.json", "valid_ht_v3.json", "valid_ht.json"], "valid_ht_v3.json"),
    ],
)
def test_best_of_several_versions(names: list[str], used: str, folder: Path) -> None:
    split = used[:5].rstrip("_.")
    rows = read_json(folder / f"{split}.json")
    (folder / f"{split}.json").unlink()
    for name in names:
        write_json(folder / name, [row | {"query_title_en": name} for row in rows])
    found = open_challenge(folder)
    assert found.issues.problems == []
    assert used in found.inputs
    assert len(found.issues.notes) == len(names) - 1
    assert all(f"another version of {used}; not used" in note for note in found.issues.notes)
    assert found.cases[rows[0]["encounter_id"]].question.startswith(used)


def test_encounters_that_only_a_passed_over_version_has(folder: Path) -> None:
    write_json(folder / "valid_ht.json", [*read_json(folder / "valid.json"), encounter_row(70, [])])
    only_problem(open_challenge(folder), "valid_ht.json: got 1 encounters that valid.json lacks (ENC00070)")


def test_parts_of_a_split_are_united(folder: Path) -> None:
    rows = read_json(folder / "train.json")
    (folder / "train.json").unlink()
    write_json(folder / "train_part1.json", rows[:1])
    write_json(folder / "train_part2.json", rows[1:])
    found = open_challenge(folder)
    assert (found.issues.problems, found.issues.notes) == ([], [])
    assert splits(found)["train"] == 3


def test_split_from_the_folder_where_the_name_tells_none(folder: Path) -> None:
    (folder / "2025_dataset" / "train").mkdir(parents=True)
    (folder / "train.json").rename(folder / "2025_dataset" / "train" / "encounters.json")
    assert splits(open_challenge(folder))["train"] == 3
    shutil.move(folder / "2025_dataset" / "train" / "encounters.json", folder / "latest.json")
    found = open_challenge(folder)
    assert "latest.json: got no split in its name" in found.issues.problems[0]
    assert found.issues.left_out["cases"] == 3


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda rows: rows[0].update({"CQID010-001": "0"}), "train_cvqa.json:ENC00001:CQID010-001: got \"'0'\""),
        (lambda rows: rows[0].update({"CQID010-001": 4}), "got 4, expected an integer in 0..3"),
        (lambda rows: rows[0].pop("CQID036-001"), "CQID036-001: missing"),
        (lambda rows: rows.append(rows[0] | {"CQID010-001": 1}), "train_cvqa.json:ENC00001: got rows that differ"),
    ],
)
def test_answers_with_a_fault_are_left_out(change: Callable[[Any], object], expected: str, folder: Path) -> None:
    edit(folder / "train_cvqa.json", change)
    found = open_challenge(folder)
    only_problem(found, expected.replace('"', ""))
    assert found.cases["ENC00001"].answers is None
    assert found.cases["ENC00002"].answers is not None
    assert found.issues.left_out["answers"] == 1


def test_answers_as_strings_are_one_line_a_row(folder: Path) -> None:
    edit(folder / "train_cvqa.json", lambda rows: rows[0].update({k: str(v) for k, v in rows[0].items()}))
    line = only_problem(open_challenge(folder), "write the 0-based option index", "(and 26 more in this row)")
    assert line.startswith("train_cvqa.json:ENC00001:CQID010-001")


def test_answers_of_nobody_and_twice_the_same(folder: Path) -> None:
    edit(folder / "valid_cvqa.json", lambda rows: rows.extend([answers_row(88), rows[0], {"CQID010-001": 1}, 5]))
    found = open_challenge(folder)
    assert [line.split(",")[0] for line in found.issues.problems] == [
        "valid_cvqa.json:2: got answers for 'ENC00088'",
        "valid_cvqa.json:4: got answers for None",
        "valid_cvqa.json:5: got answers for None",
    ]
    assert found.cases["ENC00004"].answers is not None


def test_definitions_with_a_missing_key(folder: Path) -> None:
    edit(folder / DEFINITIONS, lambda rows: rows[4].pop("options_en"))
    with pytest.raises(DataError, match=f"^{DEFINITIONS}:4: 'options_en' is a required property"):
        open_challenge(folder)


def test_definitions_that_are_not_json(folder: Path) -> None:
    (folder / DEFINITIONS).write_text("[", encoding="utf-8")
    with pytest.raises(DataError, match=f"^{DEFINITIONS}:1:2: not valid JSON"):
        open_challenge(folder)


def test_definitions_are_found_by_content_and_may_be_other_questions(folder: Path) -> None:
    (folder / DEFINITIONS).unlink()
    rows = load_questions(None).as_json()[:2]
    write_json(folder / "my_questions.json", rows)
    found = open_challenge(folder)
    assert len(found.questions.slots) == 2
    assert len(found.issues.problems) == 5  # the answers have keys that these questions do not know


def test_fallback_of_the_definitions_is_a_note(tmp_path: Path) -> None:
    found = open_challenge(make_challenge(tmp_path / "d", definitions=False))
    assert found.issues.problems == []
    assert found.issues.notes == [
        "no closedquestions_definitions*.json found: the 27 questions of the 2025 challenge are used"
    ]


def test_damaged_table_is_a_problem_and_foreign_json_is_not(folder: Path) -> None:
    (folder / "valid.json").write_text('[{"encounter_id": "ENC', encoding="utf-8")
    (folder / "settings.json").write_text("{", encoding="utf-8")
    found = open_challenge(folder)
    assert any(line.startswith("valid.json:1:") and "not valid JSON" in line for line in found.issues.problems)
    assert not any("settings" in line for line in found.issues.problems)
    assert not any(str(folder) in line for line in found.issues.problems)
    assert splits(found) == {"train": 3, "test": 2}


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may read every folder")
def test_folder_without_permission(folder: Path) -> None:
    (folder / TRAIN).chmod(0)
    try:
        assert any("folder cannot be read" in line for line in open_challenge(folder).issues.problems)
    finally:
        (folder / TRAIN).chmod(0o755)


@pytest.mark.parametrize("make", [lambda _: None, lambda path: path.mkdir(), lambda path: path.write_text("x")])
def test_nothing_usable(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / "data")
    with pytest.raises(DataError) as caught:
        open_challenge(tmp_path / "data")
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(f"{tmp_path / 'data'}: got ")
    assert "--data" in caught.value.problems[0]


def test_archive_and_prepared_dataset_have_their_own_remedy(tmp_path: Path, prepared: Path) -> None:
    (tmp_path / "images_final.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"unpack images_final\.zip first"):
        open_challenge(tmp_path)
    with pytest.raises(DataError, match="got a prepared dataset, expected the raw folder of the dataset"):
        open_challenge(prepared)


def test_only_damaged_tables_are_all_listed(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text("[", encoding="utf-8")
    (tmp_path / "valid.json").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError) as caught:
        open_challenge(tmp_path)
    assert len(caught.value.problems) == 3


def test_no_patient_text_in_messages(folder: Path) -> None:
    edit(folder / "train.json", lambda rows: [row.update(image_ids=None, query_title_en="secret") for row in rows])
    assert "secret" not in json.dumps(open_challenge(folder).issues.problems)


def test_masks_may_be_png(folder: Path) -> None:
    for path in (folder / MASKS).glob(f"{image_id(1)}_mask_ann0.tiff"):
        path.unlink()
    from PIL import Image

    Image.fromarray(draw_lesion() * np.uint8(255)).save(folder / MASKS / f"{image_id(1)}_mask_ann0.png")
    found = open_challenge(folder)
    assert found.issues.problems == []
    assert Path(found.masks[image_id(1)]["ann0"]).suffix == ".png"


# ---- data under other names: found, or one line that names it


def renamed(folder: Path, change: Callable[[str], str], pattern: str = "IMG_*") -> None:
    for path in sorted(folder.rglob(pattern)):
        path.rename(path.with_name(change(path.name)))


@pytest.mark.parametrize("how", ["unpacked", "photos packed", "one split packed", "masks packed", "table packed"])
@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".7z", ".rar", ".zip.001"])
def test_packed_archives_are_named_where_something_is_missing(folder: Path, how: str, suffix: str) -> None:
    name = f"valid{suffix}" if how == "table packed" else f"data{suffix}"
    (folder / name).write_bytes(b"packed")
    lost = {
        "photos packed": folder / "images_final",
        "one split packed": folder / "images_final/images_test",
        "masks packed": folder / "dermavqa-seg-trainvalid",
    }.get(how)
    if lost:
        shutil.rmtree(lost)
    if how == "table packed":
        (folder / "valid.json").unlink()
    lines = [line for line in open_challenge(folder).issues.problems if "packed archive, expected" in line]
    assert lines == [] if how == "unpacked" else [f"{name}: got a packed archive, expected the files in it; unpack it"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda row: row.update(encounter_id=int(row["encounter_id"][3:])), "encounter_id is a number (1), expected"),
        (lambda row: row.update(encounter_id=None), "got no encounter_id"),
        (lambda row: row.update(image_ids=None), "got null, expected a list"),
        (lambda row: row.update(image_ids="IMG_1.jpg"), "got 'IMG_1.jpg', expected a list"),
    ],
)
def test_no_row_is_an_encounter(folder: Path, change: Callable[[Any], object], expected: str) -> None:
    for split in ("train", "valid", "test"):
        edit(folder / f"{split}.json", lambda rows: [change(row) for row in rows])
    with pytest.raises(DataError) as caught:
        open_challenge(folder)
    [line] = caught.value.problems
    assert line.startswith("7 items: train.json:0")
    assert expected in line
    assert line.endswith("; no encounter is left of train.json, valid.json, test.json")


@pytest.mark.parametrize(
    "name",
    [
        "images_train/{}.jpg",
        "C:\\data\\{}.JPG",
        "./{}.jpg",
        " {}.jpg ",
        "{}",
        "http://host/a/{}.png",
        "{} .jpg",
        "{}%2Ejpg",
    ],
)
def test_photos_are_found_by_the_name_in_an_entry(folder: Path, name: str) -> None:
    edit(folder / "train.json", lambda rows: rows[1].update(image_ids=[name.format(image_id(2))]))
    found = open_challenge(folder)
    assert found.issues.problems == []
    assert len(found.photos) == 10
    assert [len(case.image_ids) for case in found.cases.values()][:3] == [2, 1, 1]


@pytest.mark.parametrize(
    "change",
    [
        lambda name: unicodedata.normalize("NFD", name),
        lambda name: unicodedata.normalize("NFC", name),
        lambda name: unicodedata.normalize("NFD", name).upper(),
        lambda name: name.replace("\u00e4", "%C3%A4") if name.endswith(".jpg") else name,
        lambda name: name.replace(".jpg", " (1).jpg"),
        lambda name: name.replace(".jpg", ".jpg.jpg"),
    ],
)
def test_names_are_compared_composed(folder: Path, change: Callable[[str], str]) -> None:
    """macOS decomposes names, and copies and downloads change them; tables keep what was typed."""
    renamed(folder, lambda name: change(name.replace("IMG_ENC", "L\u00e4sion")))
    for split in ("train", "valid", "test"):
        text = (folder / f"{split}.json").read_text(encoding="utf-8")
        (folder / f"{split}.json").write_text(text.replace("IMG_ENC", "L\u00e4sion"), encoding="utf-8")
    found = open_challenge(folder)
    assert found.issues.problems == []
    assert (len(found.photos), len(found.masks)) == (10, 7)
    assert all(unicodedata.is_normalized("NFC", image_id) for image_id in found.photos)


@pytest.mark.parametrize(
    "change",
    [
        "{}_mask.png",
        "{}_segmentation.png",
        "{}_seg.tif",
        "{}_lesion.bmp",
        "{}-mask.tiff",
        "mask_{}.gif",
        "{}.png",
        "{}.tif",
    ],
)
def test_masks_of_other_tools(folder: Path, change: str) -> None:
    shutil.move(folder / "dermavqa-seg-trainvalid", folder / "masks")
    for path in sorted((folder / "masks").rglob("*_ann1.tiff")):
        path.unlink()
    renamed(folder / "masks", lambda name: change.format(name.partition("_mask_")[0]))
    found = open_challenge(folder)
    assert found.issues.problems == []
    assert (len(found.photos), len(found.masks)) == (10, 7)
    assert {tuple(masks) for masks in found.masks.values()} == {("ann0",)}
    [note] = found.issues.notes
    such = found.name(found.masks[image_id(1)]["ann0"])
    assert note == (f"7 masks are not named IMG_..._mask_ann0.tiff (such as {such}): taken as ann0, by name or folder")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["{}_mask_ann0.jpg"], "a mask as .jpg file, expected TIFF or PNG"),
        (["{}_mask.webp"], "a mask as .webp file, expected TIFF or PNG"),
        (["{}_mask_1.png"], "a mask with a number in another form"),
        (["{}_mask.png", "{}_seg.png"], "2 files that look like its mask"),
    ],
)
def test_masks_that_cannot_be_taken_are_one_line_a_kind(folder: Path, names: list[str], expected: str) -> None:
    for path in sorted(folder.rglob("*_ann?.tiff")):
        for number, name in enumerate(names):
            path.with_name(name.format(path.name.partition("_mask_")[0])).write_bytes(b"x" * number)
        path.unlink()
    [line] = by_kind(line for line in open_challenge(folder).issues.problems)
    assert line.startswith("7 items: ")
    assert expected in line


def test_a_broken_link_is_called_one(folder: Path) -> None:
    for path in (folder / TRAIN / f"{image_id(2)}.jpg", folder / MASKS / f"{image_id(3)}_mask_ann0.tiff"):
        path.unlink()
        path.symlink_to(folder / "gone" / path.name)
    lines = open_challenge(folder).issues.problems
    assert [line.split(", expected")[0] for line in lines[:2]] == [
        f"{MASKS}/{image_id(3)}_mask_ann0.tiff: got a broken link",
        f"{image_id(2)}: got no photo for ENC00002, but a broken link ({TRAIN}/{image_id(2)}.jpg)",
    ]


@pytest.mark.parametrize(
    "kind", ["lines", "lines in .json", "upper case", "BOM", "dev", "validation", "list in .jsonl"]
)
def test_tables_of_other_forms(folder: Path, kind: str) -> None:
    path, rows = folder / "valid.json", read_json(folder / "valid.json")
    path.unlink()
    lines = "\n".join(json.dumps(row) for row in rows)
    name, text = {
        "lines": ("valid.jsonl", lines),
        "lines in .json": ("valid.json", lines),
        "upper case": ("VALID.JSON", json.dumps(rows)),
        "BOM": ("valid.json", "\ufeff" + json.dumps(rows)),
        "dev": ("dev.json", json.dumps(rows)),
        "validation": ("validation.json", json.dumps(rows)),
        "list in .jsonl": ("valid.ndjson", json.dumps(rows)),
    }[kind]
    (folder / name).write_text(text, encoding="utf-8")
    found = open_challenge(folder)
    assert found.issues.problems == []
    assert splits(found)["valid"] == 2


def test_table_that_is_no_json_is_named(folder: Path) -> None:
    (folder / "valid.json").rename(folder / "valid.csv")
    assert any(line.startswith("valid.csv: got a .csv table") for line in open_challenge(folder).issues.problems)


@pytest.mark.parametrize("change", [str.lower, lambda eid: f" {eid} "])
def test_ids_of_answers_in_other_capitals_are_the_encounters(folder: Path, change: Callable[[str], str]) -> None:
    edit(
        folder / "train_cvqa.json", lambda rows: [row.update(encounter_id=change(row["encounter_id"])) for row in rows]
    )
    found = open_challenge(folder)
    assert found.issues.problems == []
    assert sum(case.answers is not None for case in found.cases.values()) == 5


def test_answers_as_whole_floats_are_indices(folder: Path) -> None:
    edit(folder / "train_cvqa.json", lambda rows: rows[0].update({"CQID010-001": 1.0}))
    found = open_challenge(folder)
    assert found.issues.problems == []
    answers = found.cases["ENC00001"].answers
    assert answers is not None
    assert (answers["CQID010-001"], type(answers["CQID010-001"])) == (1, int)


@pytest.mark.parametrize("name", ["Thumbs.db", "desktop.ini", "._IMG_ENC00001_00001.jpg", "IMG_ENC00001_00001 (1).jpg"])
def test_what_a_system_added_is_passed_over(folder: Path, name: str) -> None:
    (folder / TRAIN / name).write_bytes(b"junk")
    (folder / MASKS / f"{image_id(1)}_mask_ann0 (1).tiff").write_bytes(b"junk")
    found = open_challenge(folder)
    assert (found.issues.problems, found.issues.notes, len(found.photos)) == ([], [], 10)


def test_photos_of_other_names_are_counted_by_suffix(folder: Path) -> None:
    renamed(folder / "images_final", lambda name: f"picture{name[7:]}")
    line = next(line for line in open_challenge(folder).issues.problems if line.startswith("image_ids"))
    assert "got 0 of 10 photos (10 .jpg files of other names), expected a file for each listed photo" in line


def test_texts_under_odd_keys_are_noted(folder: Path) -> None:
    edit(folder / "train.json", lambda rows: rows[0].update({"query_title_\u00e9\u00e9": "x", "query_title": "x"}))
    found = open_challenge(folder)
    assert len(found.issues.notes) == 1
    assert found.issues.notes[0].startswith("1 text is not read")
