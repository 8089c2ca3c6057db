"""The ISIC challenges 2016 to 2020 in miniature, as they are distributed, with what is odd about each."""

from pathlib import Path

import pytest
from raw_folder import make_folder, read_folder

from magic_cli.commands.prepare import prepare
from magic_cli.data.issues import IssueLog
from magic_cli.data.prepared import open_prepared
from magic_cli.data.sources.files import SourceFiles
from magic_cli.data.sources.isic.challenge import SOURCE
from magic_cli.data.sources.source import RawCase
from magic_cli.errors import DataError

ISIC2017 = Path(__file__).resolve().parents[4] / "shared" / "data" / "isic2017"
FIRST, SECOND, THIRD = "ISIC_0000001", "ISIC_0000002", "ISIC_0000003"


def labels(cases: dict[str, RawCase]) -> dict[str, str | None]:
    return {case_id: raw.case.label for case_id, raw in cases.items()}


def splits(cases: dict[str, RawCase]) -> dict[str, str]:
    return {case_id: raw.case.split for case_id, raw in cases.items()}


def make_2017(root: Path, part: str = "Training", ids: tuple[str, ...] = (FIRST, SECOND, THIRD)) -> Path:
    """Write a part of ISIC 2017: a melanoma, a seborrheic keratosis and a nevus, with superpixels and features."""
    truth = ["0.0,0.0", "1.0,0.0", "0.0,1.0"]
    rows = "".join(f"{image_id},{truth[int(image_id[-1]) % 3]}\n" for image_id in ids)
    about = "".join(f"{image_id},{age},{sex}\n" for image_id, age, sex in zip(ids, AGES, SEXES, strict=False))
    data = f"ISIC-2017_{part}_Data"
    tables = {
        f"ISIC-2017_{part}_Part3_GroundTruth.csv": f"image_id,melanoma,seborrheic_keratosis\n{rows}",
        f"{data}/ISIC-2017_{part}_Data_metadata.csv": f"image_id,age_approximate,sex\n{about}",
        f"ISIC-2017_{part}_Part2_GroundTruth/{ids[0]}_features.json": '{"milia_like_cyst": [0, 1], "streaks": [0, 0]}',
    }
    masks = [f"ISIC-2017_{part}_Part1_GroundTruth/{image_id}_segmentation.png" for image_id in ids]
    masks += [f"{data}/{image_id}_superpixels.png" for image_id in ids]
    return make_folder(root, tables, [f"{data}/{image_id}.jpg" for image_id in ids], masks)


AGES, SEXES = ("55", "unknown", "85"), ("female", "unknown", "male")


def test_2017(tmp_path: Path) -> None:
    dataset, cases = read_folder(make_2017(tmp_path))
    assert dataset.source == "isic-challenge"
    assert dataset.total == 3
    assert not dataset.issues.problems
    assert labels(cases) == {FIRST: "melanoma", SECOND: "seborrheic_keratosis", THIRD: "nevus"}
    assert set(splits(cases).values()) == {""}
    assert any("official training part" in note for note in dataset.issues.notes)
    assert any("3 superpixel files" in note for note in dataset.issues.notes)
    assert any("1 features" in note for note in dataset.issues.notes)
    assert cases[FIRST].case.attributes == {
        "age_approximate": "55",
        "age": "55",
        "sex": "female",
        "source": "ISIC 2017",
        "label_path": "melanoma",
    }
    assert "sex" not in cases[SECOND].case.attributes
    assert "age" not in cases[SECOND].case.attributes
    assert cases[SECOND].case.licence == "CC0 1.0"
    (photo,) = cases[FIRST].photos
    assert photo.path.endswith(f"{FIRST}.jpg")
    assert photo.masks["ann0"].endswith(f"{FIRST}_segmentation.png")  # type: ignore[union-attr]
    assert set(dataset.inputs) == {
        "ISIC-2017_Training_Part3_GroundTruth.csv",
        "ISIC-2017_Training_Data/ISIC-2017_Training_Data_metadata.csv",
    }


def test_prepared(tmp_path: Path) -> None:
    data = make_2017(tmp_path / "data")
    prepare(data, tmp_path / "out")
    prepared = open_prepared(tmp_path / "out")
    assert len(prepared.cases) == len(prepared.images) == 3
    assert all(image.annotators for image in prepared.images.values())


def test_a_row_without_its_photo_is_one_line(tmp_path: Path) -> None:
    data = make_2017(tmp_path / "data")
    (data / "ISIC-2017_Training_Data" / f"{SECOND}.jpg").unlink()
    result = prepare(data, tmp_path / "out").to_json()
    (line, alone) = sorted(result["problems"])
    assert alone.startswith(f"ISIC-2017_Training_Part3_GroundTruth.csv:3: got no photo {SECOND}")
    assert line.startswith(
        f"ISIC-2017_Training_Part1_GroundTruth/{SECOND}_segmentation.png: got 1 mask without its photo"
    )
    assert len(open_prepared(tmp_path / "out").cases) == 2


@pytest.mark.parametrize(
    ("mark", "delimiter", "encoding"), [("\ufeff", ",", "utf-8"), ("", ";", "latin-1"), ("", "\t", "utf-16")]
)
def test_tables_as_excel_saves_them(tmp_path: Path, mark: str, delimiter: str, encoding: str) -> None:
    make_2017(tmp_path)
    for path in tmp_path.rglob("*.csv"):
        text = mark + path.read_text(encoding="utf-8").replace(",", delimiter).replace("\n", "\r\n")
        path.write_bytes(text.encode(encoding))
    dataset, cases = read_folder(tmp_path)
    assert dataset.source == "isic-challenge"
    assert list(labels(cases).values()) == ["melanoma", "seborrheic_keratosis", "nevus"]
    assert cases[FIRST].case.attributes["sex"] == "female"


def test_official_parts_are_honoured(tmp_path: Path) -> None:
    make_2017(tmp_path)
    make_2017(tmp_path, "Validation", ("ISIC_0000011", "ISIC_0000012"))
    make_2017(tmp_path, "Test_v2", ("ISIC_0000021",))
    dataset, cases = read_folder(tmp_path)
    assert list(splits(cases).values()) == ["train"] * 3 + ["valid"] * 2 + ["test"]
    assert not dataset.issues.problems


def test_attributes_beside_are_joined(tmp_path: Path) -> None:
    rows = f"{FIRST},1,1,0,1,0,anterior torso\n{SECOND},,,,,,\n{THIRD},0,0,0,0,0,\nISIC_0000099,1,1,1,1,1,head/neck\n"
    columns = "globules,milia_like_cyst,negative_network,pigment_network,streaks,anatom_site_general"
    make_folder(make_2017(tmp_path), {"attributes.csv": f"image_id,{columns}\n{rows}"})
    dataset, cases = read_folder(tmp_path)
    assert "ISIC_0000099" not in cases
    first, second, third = (cases[image_id].case.attributes for image_id in (FIRST, SECOND, THIRD))
    assert first["globules"] == "1"
    assert first["streaks"] == "0"
    assert first["site"] == first["anatom_site_general"] == "anterior torso"
    assert first["concepts"] == "globules; milia-like cysts; pigment network"
    assert not {"globules", "site", "concepts"} & second.keys()
    assert third["concepts"] == ""
    assert "attributes.csv: 1 row is about another image" in dataset.issues.notes


@pytest.mark.parametrize(
    ("row", "got"),
    [
        (f"{FIRST},1.0,1.0", "1 for both classes"),
        (f"{FIRST},0.5,0", "a number between for melanoma"),
        (f"{FIRST},0.0,", "no value for seborrheic_keratosis"),
        (f"{FIRST},0,__import__('os')", "text for seborrheic_keratosis"),
        (",0.0,0.0", "no image id"),
        (f"{FIRST},0.0", "2 cells"),
    ],
)
def test_a_damaged_row_of_truth_is_one_line(tmp_path: Path, row: str, got: str) -> None:
    name = "ISIC-2017_Training_Part3_GroundTruth.csv"
    make_folder(
        tmp_path, {name: f"image_id,melanoma,seborrheic_keratosis\n{SECOND},0.0,1.0\n{row}\n"}, [f"{SECOND}.jpg"]
    )
    dataset, cases = read_folder(tmp_path)
    assert list(cases) == [SECOND]
    (line,) = dataset.issues.problems
    assert line.startswith(f"{name}:3: got {got}, expected")
    assert dataset.issues.left_out["cases"] == 1


def test_truth_without_a_value_is_no_nevus(tmp_path: Path) -> None:
    rows = f"{FIRST},nan,NaN\n{SECOND},0,0\n"
    name = "ISIC-2017_Training_Part3_GroundTruth.csv"
    make_folder(tmp_path, {name: f"image_id,melanoma,seborrheic_keratosis\n{rows}"}, [f"{FIRST}.jpg", f"{SECOND}.jpg"])
    dataset, cases = read_folder(tmp_path)
    assert labels(cases) == {FIRST: None, SECOND: "nevus"}
    assert "1 image has no class" in dataset.issues.notes


def test_2016_has_no_header_and_two_vocabularies(tmp_path: Path) -> None:
    tables = {
        "ISBI2016_ISIC_Part3_Training_GroundTruth.csv": f"{FIRST},benign\n{SECOND},malignant\n",
        "ISBI2016_ISIC_Part3B_Training_GroundTruth.csv": f"{FIRST},benign\n{SECOND},malignant\n",
        "ISBI2016_ISIC_Part3_Test_GroundTruth.csv": f"{THIRD},0.0\nISIC_0000004,1.0\n",
    }
    training = [f"ISBI2016_ISIC_Part{part}_Training_Data/{image}.jpg" for part in "13" for image in (FIRST, SECOND)]
    test = [f"ISBI2016_ISIC_Part1_Test_Data/{image}.jpg" for image in (THIRD, "ISIC_0000004")]
    masks = [f"ISBI2016_ISIC_Part1_Training_GroundTruth/{FIRST}_Segmentation.png"]
    masks += [f"ISBI2016_ISIC_Part3B_Training_Data/{FIRST}_Segmentation.png"]
    masks += [f"ISBI2016_ISIC_Part2B_Training_GroundTruth/{FIRST}_globules.png"]
    dataset, cases = read_folder(make_folder(tmp_path, tables, training + test, masks))
    assert not dataset.issues.problems
    assert list(labels(cases).values()) == ["benign", "malignant", "benign", "malignant"]
    assert list(splits(cases).values()) == ["train", "train", "test", "test"]
    assert {raw.case.attributes["source"] for raw in cases.values()} == {"ISIC 2016"}
    assert cases[FIRST].photos[0].masks
    assert any("2 photos are there again" in note for note in dataset.issues.notes)
    assert any("1 globules" in note for note in dataset.issues.notes)


def test_2018_has_lesions_as_groups(tmp_path: Path) -> None:
    task = "ISIC2018_Task3_Training"
    tables = {
        f"{task}_GroundTruth/{task}_GroundTruth.csv": "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\n"
        "ISIC_0024306,0.0,1.0,0.0,0.0,0.0,0.0,0.0\nISIC_0024307,0.0,0.0,0.0,1.0,0.0,0.0,0.0\n",
        f"{task}_LesionGroupings.csv": "image,lesion_id,diagnosis_confirm_type\n"
        "ISIC_0024306,HAM_0000550,follow-up\nISIC_0024307,HAM_0003577,histopathology\n",
    }
    photos = [f"{task}_Input/ISIC_0024306.jpg", f"{task}_Input/ISIC_0024307.jpg"]
    photos += [f"ISIC2018_Task1-2_Training_Input/{FIRST}.jpg", "ISIC2018_Task1-2_Test_Input/ISIC_0012345.jpg"]
    masks = [f"ISIC2018_Task1_Training_GroundTruth/{FIRST}_segmentation.png"]
    masks += [f"ISIC2018_Task2_Training_GroundTruth_v3/{FIRST}_attribute_streaks.png"]
    dataset, cases = read_folder(make_folder(tmp_path, tables, photos, masks))
    assert dataset.source == "isic-challenge"
    assert not dataset.issues.problems
    assert labels(cases) == {FIRST: None, "ISIC_0012345": None, "ISIC_0024306": "NV", "ISIC_0024307": "AKIEC"}
    assert splits(cases)["ISIC_0012345"] == "test"
    assert cases["ISIC_0024306"].case.group_id == "HAM_0000550"
    assert cases["ISIC_0024306"].case.attributes["label_path"] == "melanocytic nevus"
    assert cases["ISIC_0024307"].case.attributes["diagnosis_confirm_type"] == "histopathology"
    assert cases[FIRST].photos[0].masks


def test_2018_task_1_alone_is_known_by_its_folders(tmp_path: Path) -> None:
    photo, mask = (
        f"ISIC2018_Task1{name}" for name in (f"-2_Training_Input/{FIRST}.jpg", f"_Training_GroundTruth/{FIRST}")
    )
    dataset, cases = read_folder(make_folder(tmp_path, {}, [photo], [f"{mask}_segmentation.png"]))
    assert dataset.source == "isic-challenge"
    assert cases[FIRST].photos[0].masks


def test_2019_has_unknowns_weights_and_downsampled_names(tmp_path: Path) -> None:
    codes = "MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK"
    tables = {
        "ISIC_2019_Training_GroundTruth.csv": f"image,{codes}\n{FIRST}_downsampled,1.0,0,0,0,0,0,0,0,0\n"
        f"{SECOND},0,0,0,0,0,0,0,1.0,0\n",
        "ISIC_2019_Training_Metadata.csv": "image,age_approx,anatom_site_general,lesion_id,sex\n"
        f"{FIRST}_downsampled,55.0,anterior torso,MSK4_0011169,female\n{SECOND},,,,\n",
        "ISIC_2019_Test_GroundTruth.csv": f"image,{codes},score_weight,validation_weight\n"
        f"{THIRD},0,0,0,0,0,0,0,0,1.0,1.0,0.0\n",
    }
    photos = [f"ISIC_2019_Training_Input/ISIC_2019_Training_Input/{FIRST}_downsampled.jpg"]
    photos += [f"ISIC_2019_Training_Input/ISIC_2019_Training_Input/{SECOND}.jpg", f"ISIC_2019_Test_Input/{THIRD}.jpg"]
    dataset, cases = read_folder(make_folder(tmp_path, tables, photos))
    assert not dataset.issues.problems
    first = cases[f"{FIRST}_downsampled"]
    assert first.photos
    assert first.case.group_id == "MSK4_0011169"
    assert first.case.attributes["age"] == "55.0"
    assert list(labels(cases).values()) == ["MEL", "SCC", "UNK"]
    assert list(splits(cases).values()) == ["train", "train", "test"]
    assert any("(score_weight, validation_weight)" in note for note in dataset.issues.notes)


def test_2020_groups_by_patient_as_kaggle_has_it(tmp_path: Path) -> None:
    about = "image_name,patient_id,sex,age_approx,anatom_site_general_challenge"
    tables = {
        "train.csv": f"{about},diagnosis,benign_malignant,target\n"
        f"{FIRST},IP_7279968,male,45.0,head/neck,unknown,benign,0\n"
        f"{SECOND},IP_7279968,male,45.0,upper extremity,melanoma,malignant,1\n{THIRD},IP_1,,,,nevus,malignant,0\n",
        "test.csv": f"{about}\nISIC_0000004,IP_3579794,female,50.0,torso\n",
        "sample_submission.csv": "image_name,target\nISIC_0000004,0\n",
        "ISIC_2020_Training_Duplicates.csv": f"image_name_1,image_name_2\n{FIRST},{SECOND}\n",
    }
    photos = [f"jpeg/train/{image}.jpg" for image in (FIRST, SECOND, THIRD)] + ["jpeg/test/ISIC_0000004.jpg"]
    make_folder(tmp_path, tables, photos)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / f"{FIRST}.dcm").write_bytes(b"DICM")
    dataset, cases = read_folder(tmp_path)
    assert dataset.source == "isic-challenge"
    assert labels(cases) == {FIRST: "benign", SECOND: "malignant", "ISIC_0000004": None}
    assert splits(cases) == {FIRST: "train", SECOND: "train", "ISIC_0000004": "test"}
    assert [raw.case.group_id for raw in cases.values()] == ["IP_7279968", "IP_7279968", "IP_3579794"]
    assert cases[FIRST].case.attributes["label_path"] == "benign"
    assert cases[SECOND].case.attributes["label_path"] == "malignant > melanoma"
    assert cases[SECOND].case.attributes["site"] == "upper extremity"
    (line,) = dataset.issues.problems  # of the row whose target and word differ
    assert line.startswith("train.csv:4: got target 0 for malignant")
    assert any(
        "2 tables are not used (ISIC_2020_Training_Duplicates.csv, sample_submission.csv)" in note
        for note in dataset.issues.notes
    )
    assert any("1 DICOM file is" in note for note in dataset.issues.notes)


def test_several_challenges_are_one_dataset(tmp_path: Path) -> None:
    make_2017(tmp_path / "2017", "Test_v2")
    row = f"{FIRST},1,0,0,0,0,0,0,0,0\n"
    name = "ISIC_2019_Training_GroundTruth.csv"
    make_folder(tmp_path / "2019", {name: f"image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK\n{row}"})
    dataset, cases = read_folder(tmp_path)
    assert labels(cases)[FIRST] == "MEL"
    assert splits(cases)[FIRST] == "test"
    assert any("several official parts" in note for note in dataset.issues.notes)
    assert any("class in several challenges" in note for note in dataset.issues.notes)


def test_predictions_are_no_truth(tmp_path: Path) -> None:
    rows = f"image_id,melanoma,seborrheic_keratosis\n{FIRST},0.93,0.01\n"
    dataset, cases = read_folder(make_folder(make_2017(tmp_path), {"mine/predictions.csv": rows}))
    assert labels(cases)[FIRST] == "melanoma"
    assert any("1 table is not used (mine/predictions.csv)" in note for note in dataset.issues.notes)


def test_an_image_twice_is_told(tmp_path: Path) -> None:
    rows = f"{FIRST},1,0\n{FIRST},0,0\n"
    name = "ISIC-2017_Training_Part3_GroundTruth.csv"
    make_folder(tmp_path, {name: f"image_id,melanoma,seborrheic_keratosis\n{rows}"}, [f"{FIRST}.jpg"])
    dataset, cases = read_folder(tmp_path)
    assert labels(cases) == {FIRST: "melanoma"}
    (line,) = dataset.issues.problems
    assert line.startswith(f"{name}:3: got {FIRST} twice") or "twice" in line


def test_masks_without_photos_are_lost(tmp_path: Path) -> None:
    make_folder(make_2017(tmp_path), {}, (), ["more/ISIC_0000077_segmentation.png"])
    dataset, cases = read_folder(tmp_path)
    assert "ISIC_0000077" not in cases
    assert dataset.issues.left_out["masks"] == 1


def test_archives_that_are_still_packed_are_named(tmp_path: Path) -> None:
    (make_2017(tmp_path) / "ISIC-2017_Validation_Data.zip").touch()
    dataset, _ = read_folder(tmp_path)
    line = "1 archive is not read (ISIC-2017_Validation_Data.zip); unpack what photos are missing from"
    assert line in dataset.issues.notes


def test_the_jpeg_counts_where_another_format_has_its_name(tmp_path: Path) -> None:
    make_folder(make_2017(tmp_path), {}, [f"predictions/{FIRST}.png"])
    _, cases = read_folder(tmp_path)
    assert cases[FIRST].photos[0].path.endswith(f"ISIC-2017_Training_Data/{FIRST}.jpg")


@pytest.mark.realdata
def test_isic_2017_as_it_is(tmp_path: Path) -> None:
    if not ISIC2017.is_dir():
        pytest.skip(f"{ISIC2017} is not here")
    dataset, cases = read_folder(ISIC2017)
    assert not dataset.issues.problems
    found = list(labels(cases).values())
    assert {label: found.count(label) for label in set(found)} == {
        "nevus": 871,
        "melanoma": 235,
        "seborrheic_keratosis": 95,
    }
    assert sum(bool(raw.photos[0].masks) for raw in cases.values()) == 1201
    assert all("globules" in raw.case.attributes for raw in cases.values())


@pytest.mark.parametrize(
    "text",
    [
        f"image,diagnosis,target\n{FIRST},eczema,1\n",
        f"{FIRST},eczema\n{SECOND},psoriasis\n",
        f"image_id,sex,age_approx\n{FIRST},male,50\n",
        f"image_name,MEL,NV\n{FIRST},0,1\n",
    ],
)
def test_other_tables_about_isic_images_are_no_challenge(tmp_path: Path, text: str) -> None:
    files = SourceFiles(make_folder(tmp_path, {"mine.csv": text}, [f"images/{FIRST}.jpg"]), IssueLog())
    assert SOURCE.find(files) == ""


def test_nothing_of_a_challenge(tmp_path: Path) -> None:
    make_folder(tmp_path, {"a.csv": "image,text\nx.jpg,y\n"}, ["x.jpg"])
    with pytest.raises(DataError, match="no image of a challenge"):
        read_folder(tmp_path, "isic-challenge")
