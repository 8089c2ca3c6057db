"""PAD-UFES-20 as it is published: two kinds of missing answers, lesions numbered within a patient, odd spellings."""

from pathlib import Path

import pytest
from PIL import Image
from raw_folder import make_folder, read_folder
from raw_tables import write_csv

from magic_cli.commands.prepare import prepare
from magic_cli.data.prepared import open_prepared

ASKED = {
    "patient_id": "PAT_46",
    "lesion_id": "881",
    "smoke": "False",
    "drink": "True",
    "background_father": "BRASIL",
    "background_mother": "BRAZIL",
    "age": "55",
    "pesticide": "False",
    "gender": "FEMALE",
    "skin_cancer_history": "True",
    "cancer_history": "UNK",
    "has_piped_water": "True",
    "has_sewage_system": "True",
    "fitspatrick": "3.0",
    "region": "NECK",
    "diameter_1": "6.0",
    "diameter_2": "5.0",
    "diagnostic": "BCC",
    "itch": "True",
    "grew": "UNK",
    "hurt": "False",
    "changed": "True",
    "bleed": "True",
    "elevation": "True",
    "img_id": "PAT_46_881_939.png",
    "biopsed": "True",
}

NOT_ASKED = {
    "patient_id": "PAT_1516",
    "lesion_id": "881",
    "age": "8",
    "region": "ARM",
    "diagnostic": "NEV",
    **dict.fromkeys(("itch", "grew", "hurt", "changed", "bleed", "elevation", "biopsed"), "FALSE"),
    "img_id": "PAT_1516_881_530.png",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "PAD"
    write_csv(root / "metadata.csv", [ASKED, NOT_ASKED])
    photos = ("imgs_part_1/imgs_part_1/PAT_46_881_939.png", "imgs_part_2/imgs_part_2/PAT_1516_881_530.png")
    make_folder(root / "images", {}, photos)
    with Image.open(root / "images" / photos[1]) as photo:
        photo.convert("RGBA").save(root / "images" / photos[1])
    return root


def test_a_row_is_a_case_with_its_code_as_label(folder: Path) -> None:
    dataset, cases = read_folder(folder)
    case = cases["PAT_46_881_939"].case
    assert list(cases) == ["PAT_46_881_939", "PAT_1516_881_530"]
    assert (case.label, case.split, case.licence, case.image_ids) == ("BCC", "", "CC BY 4.0", ("PAT_46_881_939",))
    assert case.attributes["label_path"] == "skin cancer > basal cell carcinoma"
    assert {name: case.attributes[name] for name in ("age", "sex", "site", "skin_type")} == {
        "age": "55",
        "sex": "female",
        "site": "NECK",
        "skin_type": "3",
    }
    assert {"fitspatrick", "biopsed", "img_id", "diameter_1"} <= case.attributes.keys()
    assert not dataset.issues.problems


def test_blank_is_not_asked_and_absent_but_unk_is_an_answer(folder: Path) -> None:
    dataset, cases = read_folder(folder)
    asked, blank = (raw.case.attributes for raw in cases.values())
    assert asked["grew"] == asked["cancer_history"] == "UNK"
    assert not {"sex", "skin_type", "gender", "smoke", "fitspatrick"} & blank.keys()
    assert any("1 of 2 rows, 0 of them cancers" in note for note in dataset.issues.notes)


def test_a_lesion_number_is_unique_within_a_patient_only(folder: Path) -> None:
    first, second = (raw.case for raw in read_folder(folder)[1].values())
    assert first.attributes["lesion_id"] == second.attributes["lesion_id"]
    assert (first.attributes["lesion"], second.attributes["lesion"]) == ("PAT_46_881", "PAT_1516_881")
    assert (first.group_id, second.group_id) == ("PAT_46", "PAT_1516")


def test_one_country_has_one_spelling(folder: Path) -> None:
    dataset, cases = read_folder(folder)
    attributes = cases["PAT_46_881_939"].case.attributes
    assert attributes["background_father"] == attributes["background_mother"] == "BRAZIL"
    assert any("BRASIL" in note for note in dataset.issues.notes)


def test_rows_without_photo_or_name_are_told(folder: Path) -> None:
    write_csv(folder / "metadata.csv", [ASKED, {**NOT_ASKED, "img_id": ""}, {**NOT_ASKED, "img_id": "PAT_9_1_1.png"}])
    dataset, cases = read_folder(folder)
    assert list(cases) == ["PAT_46_881_939", "PAT_9_1_1"]
    assert not cases["PAT_9_1_1"].photos
    assert dataset.issues.problems == [
        "metadata.csv:3: got no img_id, expected PAT_<patient>_<lesion>_<n>.png; complete the row; left out"
    ]
    assert dataset.issues.left_out["cases"] == 1


def test_it_is_prepared_and_its_rgba_photos_are_read(folder: Path, tmp_path: Path) -> None:
    prepare(folder, tmp_path / "prepared")
    prepared = open_prepared(tmp_path / "prepared")
    assert {case.case_id: case.group_id for case in prepared.cases.values()} == {
        "PAT_46_881_939": "PAT_46",
        "PAT_1516_881_530": "PAT_1516",
    }
    assert len(prepared.images) == 2
