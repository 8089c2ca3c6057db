"""Exports of the ISIC archive, whose header depends on the query, HAM10000 in both spellings, and MILK10k."""

from pathlib import Path

import pytest
from raw_folder import make_folder, read_folder

from magic_cli.commands.prepare import prepare
from magic_cli.data.prepared import open_prepared
from magic_cli.errors import DataError

FIRST, SECOND, THIRD = "ISIC_0000001", "ISIC_0000002", "ISIC_0000003"


def photos(folder: str, *ids: str) -> list[str]:
    return [f"{folder}/{image_id}.jpg" for image_id in ids or (FIRST, SECOND, THIRD)]


EXPORT = (
    "isic_id,attribution,copyright_license,age_approx,anatom_site_general,anatom_site_special,diagnosis_1,diagnosis_2,"
    "diagnosis_3,fitzpatrick_skin_type,lesion_id,new_field,patient_id,sex\n"
    f"{FIRST},Hospital Clínic,CC-BY-NC,85,head/neck,,Malignant,Malignant epidermal proliferations,"
    '"Squamous cell carcinoma, Invasive",III,IL_1,x,IP_1,female\n'
    f"{SECOND},Anonymous,CC-0,,,,Benign,,,,IL_2,,,unknown\n"
    f"{THIRD},Anonymous,CC-0,,,,,,,,,,,\n"
)


def make_archive(root: Path) -> Path:
    return make_folder(root, {"metadata.csv": EXPORT}, photos("images"))


def test_an_export(tmp_path: Path) -> None:
    dataset, cases = read_folder(make_archive(tmp_path))
    assert dataset.source == "isic-archive"
    assert not dataset.issues.problems
    first, second, third = (raw.case for raw in cases.values())
    assert first.label == "Squamous cell carcinoma, Invasive"
    path = "Malignant > Malignant epidermal proliferations > Squamous cell carcinoma, Invasive"
    assert first.attributes["label_path"] == path
    named = {
        name: first.attributes[name] for name in ("age", "sex", "site", "skin_type", "source", "patient", "lesion")
    }
    assert list(named.values()) == ["85", "female", "head/neck", "3", "Hospital Clínic", "IP_1", "IL_1"]
    assert (second.label, third.label) == ("Benign", None)
    assert "sex" not in second.attributes
    assert [case.group_id for case in (first, second, third)] == ["IP_1", "IL_2", ""]
    assert [case.licence for case in (first, second, third)] == ["CC-BY-NC", "CC-0", "CC-0"]
    assert "metadata.csv: 1 column is not used (new_field)" in dataset.issues.notes
    assert all(raw.photos for raw in cases.values())


def test_an_export_of_few_columns_and_an_old_one(tmp_path: Path) -> None:
    few = f"isic_id,attribution,copyright_license\n{FIRST},A,CC-0\n"
    _, cases = read_folder(make_folder(tmp_path / "few", {"f.csv": few}, photos("images", FIRST)))
    assert cases[FIRST].case.label is None
    old = f"isic_id,benign_malignant,diagnosis\n{FIRST},benign,nevus\n{SECOND},malignant,\n"
    _, cases = read_folder(make_folder(tmp_path / "old", {"f.csv": old}, photos("images", FIRST, SECOND)))
    assert [raw.case.label for raw in cases.values()] == ["nevus", "malignant"]
    assert cases[FIRST].case.attributes["label_path"] == "benign > nevus"


def test_the_challenge_of_2024_has_columns_of_its_own(tmp_path: Path) -> None:
    header = "isic_id,target,attribution,copyright_license,iddx_full,iddx_1,iddx_2,iddx_3"
    row = f"{FIRST},1,A,CC-BY,Malignant::x,Malignant,Malignant melanocytic proliferations,Melanoma in situ"
    data = make_folder(tmp_path, {"train-metadata.csv": f"{header}\n{row}\n"}, photos("train-image/image", FIRST))
    _, cases = read_folder(data)
    assert cases[FIRST].case.label == "Melanoma in situ"
    assert cases[FIRST].case.attributes["label_path"].startswith("Malignant > Malignant melanocytic")


def test_masks_beside_an_export_are_used(tmp_path: Path) -> None:
    mask = f"masks/{FIRST}_segmentation.png"
    _, cases = read_folder(make_folder(make_archive(tmp_path), {}, (), [mask]))
    assert [len(raw.photos[0].masks) for raw in cases.values()] == [1, 0, 0]


def test_collections_overlap(tmp_path: Path) -> None:
    header = "isic_id,copyright_license,diagnosis_1\n"
    tables = {
        "collection-61.csv": f"{header}{FIRST},CC-0,Benign\n{SECOND},CC-0,Benign\n",
        "collection-74.csv": f"{header}{SECOND},CC-0,Malignant\n{FIRST},CC-0,Benign\n,CC-0,Benign\n",
    }
    dataset, cases = read_folder(make_folder(tmp_path, tables, photos("images", FIRST, SECOND)))
    assert cases[SECOND].case.label == "Benign"
    overlap = (
        "2 rows are of images that came before, as collections overlap: the first is used; 1 has another diagnosis"
    )
    assert overlap in dataset.issues.notes
    (line,) = dataset.issues.problems
    assert line.startswith("collection-74.csv:4: got no isic_id")


HAM = (
    "lesion_id,image_id,dx,dx_type,age,sex,localization\n"
    f"HAM_0000118,{FIRST},bkl,histo,80.0,male,scalp\n"
    f"HAM_0000118,{SECOND},bkl,histo,80.0,male,scalp\n"
    f"HAM_0002730,{THIRD},mel,follow_up,,unknown,unknown\n"
)
DATAVERSE = "".join(
    f"{line},{'dataset' if number == 0 else 'vidir_modern'}\n" for number, line in enumerate(HAM.splitlines())
)


def make_ham(root: Path, name: str = "HAM10000_metadata.csv", text: str = HAM) -> Path:
    # Kaggle's archive holds both folders of photos twice, in other capitals
    folders = ("HAM10000_images_part_1", "more/ham10000_images_part_1")
    masks = [f"HAM10000_segmentations_lesion_tschandl/{FIRST}_segmentation.png"]
    return make_folder(root, {name: text}, [path for folder in folders for path in photos(folder)], masks)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("HAM10000_metadata.csv", HAM),
        ("HAM10000_metadata", DATAVERSE),
        ("HAM10000_metadata.tab", DATAVERSE.replace(",", "\t")),
        ("renamed.csv", DATAVERSE.replace(",", ";")),
    ],
)
def test_ham10000(tmp_path: Path, name: str, text: str) -> None:
    dataset, cases = read_folder(make_ham(tmp_path, name, text))
    assert dataset.source == "ham10000"
    assert not dataset.issues.problems
    assert [raw.case.group_id for raw in cases.values()] == ["HAM_0000118", "HAM_0000118", "HAM_0002730"]
    first, third = cases[FIRST], cases[THIRD].case
    assert (first.case.label, third.label) == ("bkl", "mel")
    assert third.attributes["label_path"] == "melanoma"
    assert first.case.attributes["site"] == "scalp"
    assert first.case.attributes["age"] == "80.0"
    assert not {"age", "sex", "site", "localization"} & third.attributes.keys()
    assert first.case.attributes.get("source", "vidir_modern") == "vidir_modern"
    assert ("source" in first.case.attributes) == (text is not HAM)
    assert first.photos[0].path.endswith(f"HAM10000_images_part_1/{FIRST}.jpg")
    assert first.photos[0].masks["ann0"].endswith(f"{FIRST}_segmentation.png")  # type: ignore[union-attr]
    assert not cases[SECOND].photos[0].masks
    assert {(raw.case.split, raw.case.licence) for raw in cases.values()} == {("", "CC BY-NC 4.0")}
    assert any("training part" in note for note in dataset.issues.notes)


def test_ham10000_with_the_test_part_of_2018_and_both_spellings(tmp_path: Path) -> None:
    header, row = HAM.splitlines()[0], "HAM_0007000,ISIC_0034524,nv,histo,40.0,female,back"
    tables = {
        "HAM10000_metadata": DATAVERSE,
        "ISIC2018_Task3_Test_GroundTruth.csv": f"{header}\n{row}\nHAM_1,{FIRST},xx,,,,\n{row}\n,,nv,,,,\n",
    }
    make_folder(make_ham(tmp_path), tables, photos("ISIC2018_Task3_Test_Images", "ISIC_0034524"))
    dataset, cases = read_folder(tmp_path)
    assert [raw.case.split for raw in cases.values()] == ["train", "train", "train", "test"]
    assert cases[FIRST].case.attributes["source"] == "vidir_modern"  # the Dataverse's table says more
    assert any(note.startswith("4 rows are of images that another table has") for note in dataset.issues.notes)
    twice, no_id = dataset.issues.problems
    assert twice.startswith("ISIC2018_Task3_Test_GroundTruth.csv:4: got")
    assert no_id.startswith("ISIC2018_Task3_Test_GroundTruth.csv:5: got no image_id")


def test_ham10000_with_an_unknown_class(tmp_path: Path) -> None:
    dataset, cases = read_folder(make_ham(tmp_path, text=HAM.replace(",mel,", ",lentigo,")))
    assert cases[THIRD].case.label == "lentigo"
    assert "1 row has another dx than the seven of HAM10000: lentigo" in dataset.issues.notes


MILK = (
    "lesion_id,image_type,isic_id,attribution,copyright_license,image_manipulation,age_approx,sex,skin_tone_class,site,"
    "MONET_hair,batch\n"
    f"IL_0000652,clinical: close-up,{FIRST},MILK study team,CC-BY-NC,instrument only,60,male,3,foot,0.25,1\n"
    f"IL_0000652,dermoscopic,{SECOND},MILK study team,CC-BY-NC,instrument only,60,male,3,foot,0.75,1\n"
    f"IL_0006177,dermoscopic,{THIRD},MILK study team,CC-0,,,,,,,\n"
)
CODES = "AKIEC,BCC,BEN_OTH,BKL,DF,INF,MAL_OTH,MEL,NV,SCCKA,VASC"


def milk_truth(**classes: str) -> str:
    rows = (
        f"{lesion}," + ",".join(str(float(code == chosen)) for code in CODES.split(","))
        for lesion, chosen in classes.items()
    )
    return "\n".join((f"lesion_id,{CODES}", *rows, ""))


def make_milk(root: Path) -> Path:
    part = "MILK10k_Training"
    supplement = f"isic_id,diagnosis_full,invasion_thickness_interval\n{FIRST},Verruca,\nISIC_9,x,\n"
    tables = {
        f"{part}_Metadata.csv": MILK,
        f"{part}_GroundTruth.csv": milk_truth(IL_0000652="BEN_OTH", IL_0006177="SCCKA", IL_9="NV"),
        f"{part}_Supplement.csv": supplement,
    }
    folder = f"{part}_Input"
    paths = [*photos(f"{folder}/IL_0000652", FIRST, SECOND), *photos(f"{folder}/IL_0006177", THIRD)]
    return make_folder(root, tables, paths)


def test_milk10k_has_a_case_for_each_lesion(tmp_path: Path) -> None:
    dataset, cases = read_folder(make_milk(tmp_path))
    assert dataset.source == "milk10k"
    assert not dataset.issues.problems
    pair, single = cases["IL_0000652"], cases["IL_0006177"].case
    assert pair.case.image_ids == tuple(photo.image_id for photo in pair.photos) == (FIRST, SECOND)
    assert pair.case.group_id == "IL_0000652"
    assert pair.case.split == ""
    assert (pair.case.label, single.label) == ("BEN_OTH", "SCCKA")
    assert single.attributes["label_path"] == "squamous cell carcinoma or keratoacanthoma"
    assert (pair.case.licence, single.licence) == ("CC-BY-NC", "CC-0")
    assert pair.case.attributes["image_type"] == "clinical: close-up; dermoscopic"
    assert pair.case.attributes["MONET_hair"] == "0.25; 0.75"
    assert pair.case.attributes["diagnosis_full"] == "Verruca"
    assert pair.case.attributes["site"] == "foot"
    assert pair.case.attributes["age"] == "60"
    assert "skin_type" not in pair.case.attributes  # the classes of skin tone are no Fitzpatrick types
    assert "MILK10k_Training_Metadata.csv: 1 column is not used (batch)" in dataset.issues.notes
    assert "1 lesion has another number of photos than two" in dataset.issues.notes
    assert (
        "MILK10k_Training_GroundTruth.csv: 1 row is about no lesion of the metadata, or a repeated one"
        in dataset.issues.notes
    )


def test_milk10k_with_its_test_part_and_damaged_rows(tmp_path: Path) -> None:
    make_milk(tmp_path)
    header = MILK.splitlines()[0]
    pairs = ("IL_5,dermoscopic,ISIC_0000005", "IL_6,dermoscopic,ISIC_0000005", ",dermoscopic,ISIC_7")
    rows = "".join(f"{pair}{',' * 9}\n" for pair in pairs)
    truth = milk_truth(IL_0000652="BEN_OTH") + f"IL_0006177,1,1{',0' * 9}\n"
    tables = {"MILK10k_Test_Metadata.csv": f"{header}\n{rows}", "MILK10k_Training_GroundTruth.csv": truth}
    make_folder(tmp_path, tables, photos("MILK10k_Test_Input/IL_5", "ISIC_0000005"))
    dataset, cases = read_folder(tmp_path)
    assert {case_id: raw.case.split for case_id, raw in cases.items()} == {"IL_5": "test", "IL_0000652": "train"}
    assert cases["IL_5"].case.label is None
    starts = ("MILK10k_Test_Metadata.csv:3: got ISIC_0000005 twice", "MILK10k_Test_Metadata.csv:4: got no id")
    for start in (*starts, "MILK10k_Training_GroundTruth.csv:3: got AKIEC, BCC"):
        assert any(line.startswith(start) for line in dataset.issues.problems), dataset.issues.problems


TRUTH_2018 = f"image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\n{FIRST},0.0,1.0,0.0,0.0,0.0,0.0,0.0\n"
TRAIN_2020 = (
    "image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,target\n"
    f"{FIRST},IP_1,male,45.0,head/neck,unknown,benign,0\n"
)


def make_2018(root: Path) -> Path:
    photo = photos("ISIC2018_Task3_Training_Input", FIRST)
    return make_folder(root, {"ISIC2018_Task3_Training_GroundTruth.csv": TRUTH_2018}, photo)


def make_2020(root: Path) -> Path:
    return make_folder(root, {"train.csv": TRAIN_2020}, photos("jpeg/train", FIRST))


MAKERS = {
    "isic-archive": (make_archive,),
    "ham10000": (make_ham,),
    "milk10k": (make_milk,),
    "isic-challenge": (make_2018, make_2020),
}


@pytest.mark.parametrize(("source", "make"), [(name, make) for name, makers in MAKERS.items() for make in makers])
def test_none_takes_the_folder_of_another(tmp_path: Path, source: str, make: object) -> None:
    assert callable(make)
    make(tmp_path)
    dataset, cases = read_folder(tmp_path)
    assert dataset.source == source
    assert all(raw.photos for raw in cases.values())


@pytest.mark.parametrize(
    ("source", "cases", "images", "masks"), [("isic-archive", 3, 3, 0), ("ham10000", 3, 3, 1), ("milk10k", 2, 3, 0)]
)
def test_prepared(tmp_path: Path, source: str, cases: int, images: int, masks: int) -> None:
    data, out = MAKERS[source][0](tmp_path / "data"), tmp_path / "out"
    prepare(data, out)
    prepared = open_prepared(out)
    assert (len(prepared.cases), len(prepared.images)) == (cases, images)
    assert sum(bool(image.annotators) for image in prepared.images.values()) == masks
    groups: dict[str, set[str]] = {}
    for case in prepared.cases.values():
        groups.setdefault(case.group_id, set()).add(case.split)
    assert all(len(splits) == 1 for splits in groups.values())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("ham10000", "isic-challenge"),
        ("milk10k", "isic-archive"),
        ("isic-archive", "isic-challenge"),
        ("milk10k", "isic-challenge"),
    ],
)
def test_source_decides_where_several_are_in_one_folder(tmp_path: Path, first: str, second: str) -> None:
    for name in (first, second):
        MAKERS[name][-1](tmp_path / name)
    with pytest.raises(DataError, match="several datasets") as caught:
        read_folder(tmp_path)
    assert "--source" in str(caught.value)
    for name in (first, second):
        dataset, cases = read_folder(tmp_path, name)
        assert dataset.source == name
        assert {raw.case.case_id for raw in cases.values()} == {*read_folder(tmp_path / name)[1]}


@pytest.mark.parametrize("source", ["ham10000", "milk10k", "isic-archive"])
def test_nothing_of_the_source_is_one_line(tmp_path: Path, source: str) -> None:
    make_folder(tmp_path, {"a.csv": "image,text\nx.jpg,y\n"}, ["x.jpg"])
    with pytest.raises(DataError, match="check --data and --source"):
        read_folder(tmp_path, source)
