"""Derm7pt's release_v0: two photos a row, splits by row number, twenty diagnoses."""

from pathlib import Path

import pytest
from raw_folder import make_folder, read_folder
from raw_tables import write_csv

from magic_cli.commands.prepare import prepare
from magic_cli.data.prepared import open_prepared
from magic_cli.data.sources.clinical.derm7pt import diagnosis_attributes

MELANOMAS = (
    *("melanoma", "melanoma (in situ)", "melanoma (less than 0.76 mm)", "melanoma (0.76 to 1.5 mm)"),
    *("melanoma (more than 1.5 mm)", "melanoma metastasis"),
)

OTHERS = (
    *("basal cell carcinoma", "blue nevus", "clark nevus", "combined nevus", "congenital nevus", "dermal nevus"),
    *("recurrent nevus", "reed or spitz nevus", "dermatofibroma", "lentigo", "melanosis", "miscellaneous"),
    *("vascular lesion", "seborrheic keratosis"),
)


BEYOND = (
    "meta/meta.csv: got row numbers in the official splits beyond its 3 rows: 1, expected the table of the release; "
    "do not sort or cut it"
)


def row(number: int, **cells: str) -> dict[str, str]:
    """Return a row of meta.csv, whose `case_num` is not its row number."""
    return {
        "case_num": str(number),
        "diagnosis": "clark nevus",
        "seven_point_score": "3",
        "pigment_network": "atypical",
        "streaks": "absent",
        "pigmentation": "diffuse irregular",
        "regression_structures": "blue areas",
        "dots_and_globules": "regular",
        "blue_whitish_veil": "present",
        "vascular_structures": "linear irregular",
        "level_of_diagnostic_difficulty": "medium",
        "elevation": "palpable",
        "location": "lower limbs",
        "sex": "female",
        "management": "excision",
        "clinic": f"NEL/Nel{number:03}c.jpg",
        "derm": f"NEL/NEL{number:03}.jpg",
        "case_id": f"NEL{number:03}",
        "notes": "",
        **cells,
    }


def write_indexes(meta: Path, **rows: list[int]) -> None:
    for split, numbers in rows.items():
        write_csv(meta / f"{split}_indexes.csv", [{"": at, "indexes": number} for at, number in enumerate(numbers)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "release_v0"
    rows = [row(11), row(12, diagnosis="melanoma (in situ)", notes="two lines,\nwith a comma"), row(14)]
    write_csv(root / "meta/meta.csv", rows)
    write_indexes(root / "meta", train=[2], valid=[0], test=[1])
    pairs = [(f"NEL/NEL{number:03}.jpg", f"nel/nel{number:03}C.JPG") for number in (11, 12, 14)]  # other capitals
    return make_folder(root, {}, [f"images/{name}" for pair in pairs for name in pair])


def test_a_row_is_a_case_with_its_dermoscopic_photo_first(folder: Path) -> None:
    dataset, cases = read_folder(folder)
    raw = cases["11"]
    assert raw.case.image_ids == ("NEL011", "Nel011c")
    assert [Path(photo.path).name for photo in raw.photos] == ["NEL011.jpg", "nel011C.JPG"]
    assert (raw.case.attributes["derm"], raw.case.attributes["clinic"]) == ("NEL/NEL011.jpg", "NEL/Nel011c.jpg")
    assert (raw.case.group_id, raw.case.attributes["lesion"]) == ("11", "11")
    assert not dataset.issues.problems


def test_official_splits_are_row_numbers(folder: Path) -> None:
    _, cases = read_folder(folder)
    assert {name: raw.case.split for name, raw in cases.items()} == {"11": "valid", "12": "test", "14": "train"}


def test_a_row_that_is_left_out_has_a_number_too(folder: Path) -> None:
    meta = folder / "meta/meta.csv"
    lines = meta.read_text().splitlines(keepends=True)
    meta.write_text("".join([*lines[:1], "13,cut off\n", *lines[1:]]))
    write_indexes(folder / "meta", train=[3], valid=[1], test=[2])
    dataset, cases = read_folder(folder)
    assert {name: raw.case.split for name, raw in cases.items()} == {"11": "valid", "12": "test", "14": "train"}
    assert len(dataset.issues.problems) == dataset.issues.left_out["cases"] == 1


def test_columns_keep_their_names_and_canonical_ones_stand_beside_them(folder: Path) -> None:
    attributes = read_folder(folder)[1]["12"].case.attributes
    own = row(12, diagnosis="melanoma (in situ)", notes="two lines,\nwith a comma")
    assert own.items() <= attributes.items()
    assert (attributes["sex"], attributes["site"]) == ("female", "lower limbs")
    assert attributes["concepts"] == (
        "atypical pigment network; diffuse irregular pigmentation; blue areas regression structures; "
        "regular dots and globules; blue-whitish veil; linear irregular vascular structures"
    )
    assert "age" not in attributes


@pytest.mark.parametrize("diagnosis", MELANOMAS)
def test_six_diagnoses_are_melanoma(diagnosis: str) -> None:
    attributes = diagnosis_attributes(diagnosis)
    assert (attributes["diagnosis_15"], attributes["diagnosis_5"], attributes["diagnosis_3"]) == (
        "melanoma",
        "MEL",
        "mel",
    )
    assert attributes["label_path"] == ("melanoma" if diagnosis == "melanoma" else f"melanoma > {diagnosis}")


def test_twenty_diagnoses_are_fifteen_five_and_three_classes() -> None:
    rows = [diagnosis_attributes(diagnosis) for diagnosis in (*MELANOMAS, *OTHERS)]
    assert len({attributes["diagnosis_15"] for attributes in rows}) == 15
    assert {attributes["diagnosis_5"] for attributes in rows} == {"BCC", "NEV", "MEL", "MISC", "SK"}
    of_three = {name: diagnosis_attributes(name).get("diagnosis_3") for name in OTHERS}
    assert [name for name, three in of_three.items() if three == "bkl"] == ["melanosis", "seborrheic keratosis"]
    assert sum(three == "nevus" for three in of_three.values()) == 7
    assert diagnosis_attributes("vascular lesion")["label_path"] == "miscellaneous > vascular lesion"
    assert diagnosis_attributes("something else") == {}


def test_the_label_is_one_of_fifteen(folder: Path) -> None:
    _, cases = read_folder(folder)
    assert [raw.case.label for raw in cases.values()] == ["clark nevus", "melanoma", "clark nevus"]


def test_odd_values_and_splits_are_told(folder: Path) -> None:
    write_csv(folder / "meta/meta.csv", [row(11, streaks="wavy", diagnosis="wart"), row(12), row(14)])
    write_indexes(folder / "meta", train=[0], valid=[0, 7])
    (folder / "meta/test_indexes.csv").unlink()
    dataset, cases = read_folder(folder)
    assert cases["11"].case.split == "train"
    assert cases["11"].case.label == "wart"
    assert dataset.issues.problems == [
        "meta/meta.csv: got no test_indexes.csv, expected the official splits beside it; copy them there",
        "meta/valid_indexes.csv:2: got row 0, expected it in train alone; it stays in that split",
        BEYOND,
    ]
    assert [note.partition(": ")[2] for note in dataset.issues.notes] == [
        "rows in none of the official splits: 2",
        "values of streaks that the release does not have: 1; they stay as written",
        "values of diagnosis that the release does not have: 1; they stay as written",
    ]


def test_two_photos_of_one_name_stay_two(folder: Path) -> None:
    write_csv(folder / "meta/meta.csv", [row(11, derm="derm/A1.jpg", clinic="clinic/A1.jpg")])
    make_folder(folder / "images", {}, ["derm/A1.jpg", "clinic/A1.jpg"])
    raw = read_folder(folder)[1]["11"]
    assert raw.case.image_ids == ("A1", "A1-2")
    assert [Path(photo.path).parent.name for photo in raw.photos] == ["derm", "clinic"]


def test_it_is_prepared_in_its_splits(folder: Path, tmp_path: Path) -> None:
    prepare(folder, tmp_path / "prepared")
    prepared = open_prepared(tmp_path / "prepared")
    assert {case.case_id: (case.split, len(case.image_ids)) for case in prepared.cases.values()} == {
        "11": ("valid", 2),
        "12": ("test", 2),
        "14": ("train", 2),
    }
