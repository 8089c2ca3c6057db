"""SkinCon and SkinCAP: concepts and captions for photos of Fitzpatrick17k and DDI, and what their authors dropped."""

from pathlib import Path

import pytest
from raw_folder import make_folder, read_folder
from raw_tables import write_csv

from magic_cli.commands.prepare import prepare
from magic_cli.data.issues import by_kind
from magic_cli.data.prepared import open_prepared
from magic_cli.data.sources.clinical.skincon import CONCEPTS
from magic_cli.errors import DataError

HASH, DROPPED, WRONG = f"{1:032x}", f"{2:032x}", f"{3:032x}"

NO = dict.fromkeys(CONCEPTS, "0")


def annotation(number: int, image: str, **concepts: str) -> dict[str, str]:
    return {"": str(number), "ImageID": image, **NO, "Do not consider this image": "0", **concepts}


def label(name: str, qc: str = "") -> dict[str, str]:
    levels = {"nine_partition_label": "inflammatory", "three_partition_label": "non-neoplastic"}
    return {"md5hash": name, "fitzpatrick_scale": "5", "label": "psoriasis", **levels, "qc": qc, "url": "http://a.b/c"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "skincon"
    rows = [
        annotation(0, f"{HASH}.jpg", Plaque="1", **{"Brown(Hyperpigmentation)": "1", "Scale": "1"}),
        annotation(1, f"{DROPPED}.jpg", **{"Do not consider this image": "1"}),
        annotation(2, f"{WRONG}.jpg"),
    ]
    write_csv(root / "annotations_fitzpatrick17k.csv", rows)
    write_csv(root / "annotations_ddi.csv", [annotation(0, "000001.png", Papule="1", Scale="")])
    return make_folder(root, {}, [*(f"f17k/{name}.jpg" for name in (HASH, DROPPED, WRONG)), "ddi/000001.png"])


def test_48_concepts_are_listed_and_kept(folder: Path) -> None:
    dataset, cases = read_folder(folder)
    first, none, ddi = (cases[name].case.attributes for name in (HASH, WRONG, "000001"))
    assert len(CONCEPTS) == len(set(CONCEPTS)) == 48
    assert dataset.source == "skincon"
    assert first["concepts"] == "Plaque; Scale; Brown(Hyperpigmentation)"
    assert (first["Plaque"], first["Papule"]) == ("1", "0")
    assert none["concepts"] == ""
    assert ddi["concepts"] == "Papule"
    assert "Scale" not in ddi  # not said
    assert all(raw.case.label is None and raw.photos for raw in cases.values())


def test_what_the_annotators_dropped_is_left_out_and_counted(folder: Path) -> None:
    dataset, cases = read_folder(folder)
    assert list(cases) == ["000001", HASH, WRONG]
    assert dataset.issues.left_out["cases"] == len(dataset.issues.problems) == 1
    assert dataset.issues.problems[0].startswith("annotations_fitzpatrick17k.csv:3: got 'Do not consider this image'")


def test_labels_are_joined_by_the_photos_name_and_the_source_is_chosen(folder: Path) -> None:
    write_csv(folder / "labels/fitzpatrick17k.csv", [label(HASH), label(WRONG, "3 Wrongly labelled")])
    write_csv(folder / "labels/ddi_metadata.csv", [{"DDI_file": "000001.png", "skin_tone": "34", "disease": "nevus"}])
    with pytest.raises(DataError, match="--source"):
        read_folder(folder)
    dataset, cases = read_folder(folder, "skincon")
    assert {name: raw.case.label for name, raw in cases.items()} == {"000001": "nevus", HASH: "psoriasis", WRONG: None}
    attributes = cases[HASH].case.attributes
    assert attributes["label_path"] == "non-neoplastic > inflammatory > psoriasis"
    assert (attributes["skin_type"], cases["000001"].case.attributes["skin_type"]) == ("5", "34")
    assert cases[HASH].case.licence == "CC BY-NC-SA 3.0"
    assert len(dataset.inputs) == 4
    assert dataset.issues.notes[-1].startswith("cases without label: 1;")


def test_the_concept_folder_of_make_is_read(tmp_path: Path) -> None:
    write_csv(tmp_path / "meta.csv", [{"ImageID": "000001.png", "Papule": "1.0", "Plaque": "0.0", "Unheard of": "1"}])
    make_folder(tmp_path, {}, ["final_images/000001.png"])
    dataset, cases = read_folder(tmp_path)
    assert cases["000001"].case.attributes["concepts"] == "Papule"
    assert dataset.issues.notes == ["meta.csv: 1 column is not used (Unheard of)"]


CAPTION = {
    "id": "1",
    "skincap_file_path": "1.png",
    "ori_file_path": f"{HASH}.jpg",
    "disease": "psoriasis",
    "caption_zh": "红色斑块",
    "caption_zh_polish": "红色斑块，银屑病。",
    "caption_zh_polish_en": "A red plaque with scale. It is psoriasis.",
    "source": "fitzpatrick17k",
    "Do not consider this image": "0",
}


def test_captions_are_raw_texts_in_two_languages(tmp_path: Path) -> None:
    rows = [CAPTION, {**CAPTION, "id": "2", "skincap_file_path": "2.png", "Do not consider this image": "1"}]
    write_csv(tmp_path / "skincap_v240623.csv", rows)
    make_folder(tmp_path, {}, ["skincap/1.png", "skincap/2.png"])
    dataset, cases = read_folder(tmp_path)
    case = cases["1"].case
    assert list(cases) == ["1"]
    assert dataset.source == "skincap"
    assert dict(case.texts["raw"]) == {"en": CAPTION["caption_zh_polish_en"], "zh": CAPTION["caption_zh_polish"]}
    assert (case.label, case.attributes["source"], case.question) == ("psoriasis", "fitzpatrick17k", "")
    assert case.licence == "CC BY-NC-SA 4.0"
    assert by_kind(dataset.issues.problems) == [
        "skincap_v240623.csv:3: got 'Do not consider this image' = 1, expected 0; left out, as the annotators say"
    ]
    assert dataset.issues.left_out["cases"] == 1


def test_makes_copy_of_skincap_calls_the_path_filename(tmp_path: Path) -> None:
    write_csv(tmp_path / "skincap.csv", [{"filename": "skincap/7.png", "caption_zh_polish_en": "A wheal."}])
    make_folder(tmp_path, {}, ["skincap/7.png"])
    case = read_folder(tmp_path)[1]["7"].case
    assert (dict(case.texts["raw"]), case.label) == ({"en": "A wheal."}, None)


def test_both_are_prepared(folder: Path, tmp_path: Path) -> None:
    prepare(folder, tmp_path / "concepts")
    assert len(open_prepared(tmp_path / "concepts").images) == 3
    write_csv(tmp_path / "captions/skincap.csv", [CAPTION])
    prepare(make_folder(tmp_path / "captions", {}, ["1.png"]), tmp_path / "prepared")
    case = open_prepared(tmp_path / "prepared").cases["1"]
    assert case.texts["raw"]["zh"] == CAPTION["caption_zh_polish"]
