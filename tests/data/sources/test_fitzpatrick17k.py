"""Fitzpatrick17k and DDI: unknown and paired skin types, levels of classes, photos without url or at other places."""

from pathlib import Path

import pytest
from raw_folder import make_folder, read_folder
from raw_tables import write_csv

from magic_cli.commands.prepare import prepare
from magic_cli.data.prepared import open_prepared
from magic_cli.errors import DataError

FIRST, SECOND, WRONG = "5e82a45bc5d78bd24ae9202d194423f8", "fa2911a9b13b6f8af79cb700937cc14f", f"{7:032}"

ROW = {
    "md5hash": FIRST,
    "fitzpatrick_scale": "3",
    "fitzpatrick_centaur": "-1",
    "label": "basal cell carcinoma",
    "nine_partition_label": "malignant epidermal",
    "three_partition_label": "malignant",
    "qc": "1 Diagnostic",
    "url": "https://www.dermaamin.com/site/images/clinical-pic/b/bcc1.jpg",
    "url_alphanum": "httpwwwdermaamincomsiteimagesclinicalpicbbcc1jpg",
}

NO_URL = {**ROW, "md5hash": SECOND, "fitzpatrick_scale": "-1", "qc": "", "url": "", "url_alphanum": ""}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    wrong = {**ROW, "md5hash": WRONG, "qc": "3 Wrongly labelled"}
    write_csv(tmp_path / "f17k/fitzpatrick17k.csv", [ROW, NO_URL, wrong])
    return make_folder(tmp_path / "f17k", {}, [f"images/{name}.jpg" for name in (FIRST, WRONG)])


def test_three_levels_of_classes_and_the_atlas(folder: Path) -> None:
    dataset, cases = read_folder(folder)
    case = cases[FIRST].case
    assert (dataset.source, case.label, case.split) == ("fitzpatrick17k", "basal cell carcinoma", "")
    assert case.licence == "CC BY-NC-SA 3.0"
    assert case.attributes["label_path"] == "malignant > malignant epidermal > basal cell carcinoma"
    assert case.attributes["source"] == "dermaamin.com"
    assert case.attributes["qc"] == "1 Diagnostic"
    assert [Path(photo.path).name for photo in cases[FIRST].photos] == [f"{FIRST}.jpg"]


def test_minus_one_is_no_skin_type(folder: Path) -> None:
    _, cases = read_folder(folder)
    known, unknown = (cases[name].case.attributes for name in (FIRST, SECOND))
    assert (known["skin_type"], known["fitzpatrick_scale"]) == ("3", "3")
    assert "fitzpatrick_centaur" not in known
    assert not {"skin_type", "fitzpatrick_scale"} & unknown.keys()


def test_wrongly_labelled_rows_are_left_out_and_counted(folder: Path) -> None:
    dataset, cases = read_folder(folder)
    assert WRONG not in cases
    assert dataset.issues.left_out["cases"] == 1
    expected = "got qc 3 Wrongly labelled, expected a label that can be trusted; left out"
    assert dataset.issues.problems == [f"fitzpatrick17k.csv:4: {expected}"]


def test_rows_without_url_are_noted_and_missing_photos_listed(folder: Path, tmp_path: Path) -> None:
    dataset, cases = read_folder(folder)
    assert not cases[SECOND].photos
    assert "rows without url: 1; 1 of their photos are missing" in dataset.issues.notes[0]
    prepare(folder, tmp_path / "prepared")
    prepared = open_prepared(tmp_path / "prepared")
    assert list(prepared.cases) == [FIRST]


def test_photos_may_be_named_by_url_and_the_skin_type_as_in_older_tables(tmp_path: Path) -> None:
    row = {name: cell for name, cell in ROW.items() if not name.startswith("fitzpatrick")}
    write_csv(tmp_path / "table.csv", [{**row, "fitzpatrick": "6"}])
    make_folder(tmp_path, {}, [f"data/{ROW['url_alphanum']}.jpg"])
    _, cases = read_folder(tmp_path)
    assert cases[FIRST].photos[0].image_id == FIRST
    assert cases[FIRST].case.attributes["skin_type"] == "6"


def test_a_folder_is_not_recognized_by_its_photos(folder: Path) -> None:
    (folder / "fitzpatrick17k.csv").unlink()
    write_csv(folder / "ddi_metadata.csv", [{"": 0, "DDI_file": f"{FIRST}.jpg", "skin_tone": 12, "malignant": True}])
    assert read_folder(folder)[0].source == "ddi"


DDI = {"": "0", "DDI_ID": "1", "DDI_file": "000001.png", "skin_tone": "56", "malignant": "True", "disease": "melanoma"}


@pytest.mark.parametrize("place", ["", "images/"])
def test_skin_tones_of_ddi_are_pairs(tmp_path: Path, place: str) -> None:
    rows = [DDI, {**DDI, "DDI_file": "000002.png", "skin_tone": "12.0", "malignant": "False", "disease": "nevus"}]
    write_csv(tmp_path / "ddi_metadata.csv", rows)
    make_folder(tmp_path, {}, [f"{place}00000{number}.png" for number in (1, 2)])
    dataset, cases = read_folder(tmp_path)
    first, second = (raw.case for raw in cases.values())
    assert dataset.source == "ddi"
    assert (first.attributes["skin_type"], second.attributes["skin_type"]) == ("56", "12")
    assert (first.label, first.attributes["label_path"]) == ("melanoma", "malignant > melanoma")
    assert (second.label, second.attributes["label_path"]) == ("nevus", "benign > nevus")
    assert all(raw.photos for raw in cases.values())
    assert not dataset.issues.problems
    assert not dataset.issues.notes


@pytest.mark.parametrize(("cell", "label"), [("1", "malignant"), ("0", "benign"), ("", None)])
def test_malignancy_may_be_a_number_and_the_only_label(tmp_path: Path, cell: str, label: str | None) -> None:
    write_csv(tmp_path / "ddi.csv", [{"DDI_file": "000001.png", "skin_tone": "34", "malignancy(malig=1)": cell}])
    make_folder(tmp_path, {}, ["000001.png"])
    case = read_folder(tmp_path)[1]["000001"].case
    assert case.label == label
    assert case.attributes.get("label_path") == label


def test_of_two_copies_of_a_table_the_usual_name_is_read_and_the_other_is_told(folder: Path) -> None:
    write_csv(folder / "cleaned.csv", [{**ROW, "label": "other"}])
    dataset, cases = read_folder(folder)
    assert cases[FIRST].case.label == ROW["label"]
    assert dataset.issues.notes[0] == "fitzpatrick17k.csv is read; tables with the same columns are not: cleaned.csv"


def test_a_folder_without_its_table_is_one_line(tmp_path: Path) -> None:
    make_folder(tmp_path, {}, ["a.jpg"])
    for source in ("pad-ufes-20", "derm7pt", "scin", "fitzpatrick17k", "ddi", "skincon", "skincap"):
        with pytest.raises(DataError, match="got no table with the columns") as caught:
            read_folder(tmp_path, source)
        assert len(caught.value.problems) == 1
