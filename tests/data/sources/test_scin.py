"""SCIN: two tables joined by a signed 64-bit id, dicts as text, empty flags, one to three photos."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from raw_folder import make_folder, read_folder
from raw_tables import write_csv

from magic_cli.commands.prepare import prepare
from magic_cli.data.prepared import open_prepared

FIRST, SECOND = "-1000600354148496558", "9223372036854775807"

LISTS = "dermatologist_skin_condition_on_label_name"

CASES = [
    {
        "case_id": FIRST,
        "source": "SCIN",
        "age_group": "AGE_40_TO_49",
        "sex_at_birth": "FEMALE",
        "fitzpatrick_skin_type": "NONE_SELECTED",
        "race_ethnicity_white": "",
        "textures_raised_or_bumpy": "YES",
        "textures_flat": "",
        "textures_fluid_filled": "YES",
        "body_parts_arm": "YES",
        "body_parts_torso_front": "YES",
        "condition_symptoms_itching": "YES",
        "condition_symptoms_pain": "",
        "image_1_path": "dataset/images/-3205742176803893704.png",  # a .jpg here
        "image_2_path": "dataset/images/77.png",
        "image_3_path": "",
        "image_1_shot_type": "CLOSE_UP",
    },
    {
        "case_id": SECOND,
        "sex_at_birth": "OTHER_OR_UNSPECIFIED",
        "fitzpatrick_skin_type": "FST2",
        "image_1_path": "dataset/images/78.png",
    },
]

LABELS = [
    {
        "case_id": FIRST,
        "dermatologist_gradable_for_skin_condition_1": "DEFAULT_YES_IMAGE_QUALITY_SUFFICIENT",
        LISTS: "['Eczema', 'Allergic Contact Dermatitis']",
        "dermatologist_skin_condition_confidence": "[4, 3]",
        "weighted_skin_condition_label": "{'Insect Bite': 0.27, 'Eczema': 0.41, 'Allergic Contact Dermatitis': 0.32}",
        "dermatologist_fitzpatrick_skin_type_label_1": "FST5",
        "dermatologist_fitzpatrick_skin_type_label_2": "FST3",
        "dermatologist_fitzpatrick_skin_type_label_3": "FST4",
        "monk_skin_tone_label_us": "6.0",
        "monk_skin_tone_label_india": "5.0",
    },
    {
        "case_id": SECOND,
        "dermatologist_gradable_for_skin_condition_1": "DEFAULT_YES_IMAGE_QUALITY_SUFFICIENT",
        LISTS: "[]",
        "weighted_skin_condition_label": "{}",
        "dermatologist_fitzpatrick_skin_type_label_1": "FST6",
    },
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "scin"
    write_csv(root / "dataset/scin_cases.csv", CASES)
    write_csv(root / "dataset/scin_labels.csv", LABELS)
    return make_folder(
        root, {}, [f"dataset/images/{name}" for name in ("-3205742176803893704.jpg", "77.png", "78.png")]
    )


def write_labels(root: Path, **cells: str) -> None:
    write_csv(root / "dataset/scin_labels.csv", [{**LABELS[0], **cells}, LABELS[1]])


def attributes_of(root: Path, case_id: str = FIRST) -> Mapping[str, str]:
    return read_folder(root)[1][case_id].case.attributes


def test_ids_are_text_and_the_tables_are_joined(folder: Path) -> None:
    dataset, cases = read_folder(folder)
    assert list(cases) == [FIRST, SECOND]
    first = cases[FIRST]
    assert first.case.image_ids == ("-3205742176803893704", "77")
    assert [Path(photo.path).name for photo in first.photos] == ["-3205742176803893704.jpg", "77.png"]
    assert (first.case.label, first.case.split, first.case.group_id) == ("Eczema", "", "")
    assert first.case.licence == "SCIN Data Use License"
    assert first.case.attributes[LISTS] == "Eczema; Allergic Contact Dermatitis"
    assert first.case.attributes["dermatologist_skin_condition_confidence"] == "4; 3"
    assert not dataset.issues.problems


def test_a_gradable_case_may_have_no_label(folder: Path) -> None:
    dataset, cases = read_folder(folder)
    assert cases[SECOND].case.label is None
    assert "label_path" not in cases[SECOND].case.attributes
    assert "cases without label: 1; no dermatologist named a condition" in dataset.issues.notes


def test_what_is_chosen_is_there_and_what_is_empty_is_absent(folder: Path) -> None:
    attributes = attributes_of(folder)
    assert (attributes["concepts"], attributes["site"]) == ("raised or bumpy; fluid filled", "arm; torso front")
    assert attributes["condition_symptoms_itching"] == attributes["textures_fluid_filled"] == "YES"
    assert not {"textures_flat", "condition_symptoms_pain", "race_ethnicity_white"} & attributes.keys()
    assert (attributes["age_band"], attributes["sex"]) == ("40-49", "female")
    assert not {"concepts", "site", "sex", "age", "age_band"} & attributes_of(folder, SECOND).keys()


def test_the_skin_type_is_the_volunteers_else_the_dermatologists(folder: Path) -> None:
    assert attributes_of(folder)["skin_type"] == "4"
    assert attributes_of(folder, SECOND)["skin_type"] == "2"
    assert attributes_of(folder)["dermatologist_fitzpatrick_skin_type_label_1"] == "FST5"


def test_of_equal_weights_the_first_is_the_label(folder: Path) -> None:
    write_labels(folder, weighted_skin_condition_label="{'Tinea': 0.5, 'Eczema': 0.5}")
    assert read_folder(folder)[1][FIRST].case.label == "Tinea"


@pytest.mark.parametrize("column", [LISTS, "weighted_skin_condition_label"])
@pytest.mark.parametrize("cell", ["__import__('os').system('true')", "[", "{'Eczema': }", "7"])
def test_a_cell_that_is_no_literal_is_a_line_and_the_case_stays(folder: Path, column: str, cell: str) -> None:
    write_labels(folder, **{column: cell})
    dataset, cases = read_folder(folder)
    assert len(dataset.issues.problems) == 1
    assert dataset.issues.problems[0].startswith("dataset/scin_labels.csv:2: got ")
    assert column not in cases[FIRST].case.attributes
    assert (cases[FIRST].case.label is None) == (column != LISTS)


@pytest.mark.parametrize("case_id", ["-1.0006E+18", "-1000600354148496558.0", ""])
def test_an_id_that_a_spreadsheet_or_a_float_had_is_refused(folder: Path, case_id: str) -> None:
    write_csv(folder / "dataset/scin_cases.csv", [{**CASES[0], "case_id": case_id}, CASES[1]])
    dataset, cases = read_folder(folder)
    assert list(cases) == [SECOND]
    assert dataset.issues.problems[0].startswith("dataset/scin_cases.csv:2: got ")
    assert "labels of cases that are not there: 1" in dataset.issues.problems[1]
    assert dataset.issues.left_out["cases"] == 1


def test_both_tables_may_be_one_and_labels_may_be_missing(folder: Path) -> None:
    (folder / "dataset/scin_labels.csv").unlink()
    dataset, cases = read_folder(folder)
    assert [raw.case.label for raw in cases.values()] == [None, None]
    assert "no scin_labels.csv" in dataset.issues.problems[0]
    write_csv(folder / "dataset/scin_cases.csv", [{**CASES[0], **LABELS[0]}, {**CASES[1], **LABELS[1]}])
    dataset, cases = read_folder(folder)
    assert [raw.case.label for raw in cases.values()] == ["Eczema", None]
    assert cases[FIRST].case.attributes["skin_type"] == "4"
    assert not dataset.issues.problems


def test_it_is_prepared(folder: Path, tmp_path: Path) -> None:
    prepare(folder, tmp_path / "prepared")
    prepared = open_prepared(tmp_path / "prepared")
    assert {case.case_id: case.label for case in prepared.cases.values()} == {FIRST: "Eczema", SECOND: None}
    assert len(prepared.images) == 3
