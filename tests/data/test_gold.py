"""data/gold.py: the same gold from every form a user has it in, and one clear line where there is none."""

import json
from pathlib import Path

import challenge_folders
import numpy as np
import pytest
import tifffile
from challenge_folders import make_challenge
from PIL import Image
from tiny_dataset import (
    ENCOUNTERS,
    QUESTIONS,
    answers,
    blob,
    files_of,
    image_id,
    make_prepared,
    row,
    tiff,
    write_folder,
)

from magic_cli.commands.prepare import PrepareOptions, prepare
from magic_cli.data.gold import Gold, gold_of, mask_gold, open_gold
from magic_cli.data.imaging.masks import read_mask
from magic_cli.data.prepared import open_prepared
from magic_cli.errors import DataError
from magic_cli.tasks.seg import TASK as SEG
from magic_cli.tasks.seg.decide import MaskPrediction

VALID = [encounter for encounter, (split, _) in ENCOUNTERS.items() if split == "valid"]


def gold_files(folder: str = "") -> dict[str, bytes]:
    return {
        f"{folder}{image_id(e, n)}_mask_ann{k}.tiff": tiff(blob(size, k))
        for e in VALID
        for n, size in enumerate(ENCOUNTERS[e][1], 1)
        for k in range(3)
    }


def gold_json() -> bytes:
    return json.dumps([row(e) for e in VALID]).encode()


def check_masks(gold: Gold) -> None:
    assert list(gold.masks.images) == [image_id("ENC00011", 1), image_id("ENC00011", 2), image_id("ENC00012", 1)]
    for image, truth in gold.masks.images.items():
        assert truth.case_id == image[4:12]
        assert list(truth.annotators) == ["ann0", "ann1", "ann2"]
        for k, mask in enumerate(truth.masks()):
            assert np.array_equal(mask, blob(mask.shape, k))


def check_answers(gold: Gold) -> None:
    assert gold.answers.answers == {e: answers(e) for e in VALID}


def test_prepared(tmp_path: Path) -> None:
    gold = open_gold(make_prepared(tmp_path), "valid")
    check_masks(gold)
    check_answers(gold)
    assert gold.masks.only({"ENC00012", image_id("ENC00011", 2)}).images.keys() == {image_id("ENC00011", 2)}
    assert gold.answers.only({"ENC00012"}).answers.keys() == {"ENC00012"}


def test_prepared_test_split_has_no_gold(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no masks and no answers for split 'test'.*--split valid"):
        gold_of(open_prepared(make_prepared(tmp_path)), "test")


def test_json_file(tmp_path: Path) -> None:
    path = tmp_path / "gold.json"
    path.write_bytes(gold_json())
    gold = open_gold(path, "valid")
    check_answers(gold)
    assert not gold.masks.images
    assert gold.answers.questions == QUESTIONS


def test_definitions_beside_the_json_are_used(tmp_path: Path) -> None:
    own = [{"qid": "Q1-001", "question_en": "Colour?", "options_en": ["red", "Not mentioned"]}]
    (tmp_path / "closedquestions_definitions_mine.json").write_text(json.dumps(own))
    (tmp_path / "gold.json").write_text(json.dumps([{"encounter_id": "E1", "Q1-001": 1}]))
    gold = open_gold(tmp_path / "gold.json", "valid")
    assert gold.answers.answers == {"E1": {"Q1-001": 1}}
    assert list(gold.answers.questions.parents) == ["Q1"]


@pytest.mark.parametrize("folder", ["", "masks_refs/", "deep (2)/er/"])
def test_folder_of_masks(tmp_path: Path, folder: str) -> None:
    check_masks(open_gold(write_folder(tmp_path, gold_files(folder)), "valid"))


def test_folder_with_one_folder_a_split(tmp_path: Path) -> None:
    write_folder(tmp_path, gold_files("segmentations/valid/"))
    write_folder(tmp_path, {"segmentations/train/IMG_ENC00001_00001_mask_ann0.tiff": tiff(blob((9, 9)))})
    check_masks(open_gold(tmp_path, "valid"))
    assert list(open_gold(tmp_path, "train").masks.images) == ["IMG_ENC00001_00001"]


def test_platform_folder(tmp_path: Path) -> None:
    gold = open_gold(write_folder(tmp_path, {**gold_files("masks_refs/"), "data_cvqa_ref.json": gold_json()}), "test")
    check_masks(gold)
    check_answers(gold)


def test_masks_beside_the_challenges_answers(tmp_path: Path) -> None:
    gold = open_gold(write_folder(tmp_path, {**gold_files(), "valid_cvqa.json": gold_json()}), "valid")
    check_masks(gold)
    check_answers(gold)


def test_raw_challenge_folder(tmp_path: Path) -> None:
    encounters = [
        {
            "encounter_id": e,
            "image_ids": [f"{image_id(e, n)}.jpg" for n in range(1, len(ENCOUNTERS[e][1]) + 1)],
            "query_title_en": "t",
            "query_content_en": "c",
            "responses": [],
        }
        for e in VALID
    ]
    files = gold_files("seg (2)/valid/") | {
        "valid_cvqa.json": gold_json(),
        "valid.json": json.dumps(encounters).encode(),
    }
    gold = open_gold(write_folder(tmp_path, files), "valid")
    check_masks(gold)
    check_answers(gold)
    with pytest.raises(DataError, match="no masks and no answers"):
        open_gold(tmp_path, "test")


def test_every_annotator_is_listed_by_number(tmp_path: Path) -> None:
    extra = {f"IMG_ENC00011_00001_mask_ann{k}.tiff": tiff(blob((24, 32))) for k in (10, 4)}
    gold = open_gold(write_folder(tmp_path, gold_files() | extra), "valid")
    assert list(gold.masks.images["IMG_ENC00011_00001"].annotators) == ["ann0", "ann1", "ann2", "ann4", "ann10"]
    assert list(gold.masks.images["IMG_ENC00012_00001"].annotators) == ["ann0", "ann1", "ann2"]


@pytest.mark.parametrize("name", ["annX", "ann", "ann0b", "mann0"])
def test_other_names_are_no_annotators(tmp_path: Path, name: str) -> None:
    extra = {f"IMG_ENC00011_00001_mask_{name}.tiff": tiff(blob((24, 32)))}
    check_masks(open_gold(write_folder(tmp_path, gold_files() | extra), "valid"))


@pytest.mark.parametrize("suffix", [".tif", ".png", ".TIFF"])
def test_masks_that_prepare_takes_can_be_scored_against(tmp_path: Path, suffix: str) -> None:
    """Seen: a folder of PNG masks became a dataset, and `magic score` found no gold in it."""
    root = make_challenge(tmp_path / "d", splits={"valid": 2})
    for path in sorted(root.rglob("*_mask_*.tiff")):
        target = path.with_name(path.name.removesuffix(".tiff").replace("_ann1", "_ANN1") + suffix)
        mask = read_mask(path, path.name)
        if suffix == ".png":
            Image.fromarray(mask * np.uint8(255)).save(target)
        else:
            tifffile.imwrite(target, mask)
        path.unlink()
    prepare(root, tmp_path / "p", PrepareOptions(strict=True))
    prepared = mask_gold(open_prepared(tmp_path / "p"), "valid")
    assert len(prepared.images) == 3
    for folder in (root, next(root.rglob("*_mask_*")).parent):
        gold = open_gold(folder, "valid")
        assert {image: list(truth.annotators) for image, truth in gold.masks.images.items()} == {
            image: list(truth.annotators) for image, truth in prepared.images.items()
        }
        for image, truth in gold.masks.images.items():
            for one, other in zip(truth.masks(), prepared.images[image].masks(), strict=True):
                assert np.array_equal(one, other)
    full = [
        MaskPrediction(image, mask=next(truth.masks()).view(np.uint8)) for image, truth in gold.masks.images.items()
    ]
    scores = SEG.score(gold.masks, full)
    assert scores.scores["dice_meanofmax"] == 1
    assert not scores.rejected


def train_majority() -> dict[str, int]:
    """Each slot's most frequent option over the two train encounters: the lower of both where they differ."""
    first, second = (answers(e) for e, (split, _) in ENCOUNTERS.items() if split == "train")
    return {qid: min(value, second[qid]) for qid, value in first.items()}


def test_what_train_says_of_a_prepared_dataset(tmp_path: Path) -> None:
    root = make_prepared(tmp_path)
    gold = open_gold(root, "valid")
    assert gold.answers.majority == train_majority()
    assert gold.masks.prior is None
    assert {image: Path(path).name for image, path in gold.masks.photos.items()} == {
        image: f"{image}.jpg" for image in gold.masks.images
    }
    grey = np.arange(64 * 64, dtype=np.uint32).reshape(64, 64) % 256
    Image.fromarray(grey.astype(np.uint8)).save(root / "mean_mask.png")
    gold = open_gold(root, "valid")
    assert gold.masks.prior is not None
    assert gold.masks.prior.dtype == np.float32
    np.testing.assert_allclose(gold.masks.prior, grey / 255, atol=1e-7)
    assert gold.answers.only({"ENC00012"}).majority == train_majority()
    assert gold.masks.only({image_id("ENC00012", 1)}).prior is gold.masks.prior
    assert gold.masks.only({image_id("ENC00012", 1)}).photos == gold.masks.photos
    train = open_gold(root, "train")
    assert (train.answers.majority, train.masks.prior) == (None, None)
    assert len(train.masks.photos) == 3


@pytest.mark.parametrize("image", [Image.new("L", (64, 64)), Image.new("RGB", (64, 64), "white")])
def test_a_mean_mask_that_says_nothing_is_none(tmp_path: Path, image: Image.Image) -> None:
    root = make_prepared(tmp_path)
    image.save(root / "mean_mask.png")
    assert open_gold(root, "valid").masks.prior is None


def test_slots_are_counted_in_canonical_order(tmp_path: Path) -> None:
    """{2, 3} is written in either order: slot 1 is 2 in both, slot 2 is 3."""
    rows = {e: answers(e) for e in ("ENC00001", "ENC00002")}
    for row_, slots in zip(rows.values(), ((2, 3), (3, 2)), strict=True):
        row_["CQID011-001"], row_["CQID011-002"] = slots
    root = make_prepared(tmp_path)
    lines = [json.loads(line) for line in (root / "cases.jsonl").read_text().splitlines()]
    for line in lines:
        line["answers"] = rows.get(line["case_id"], line["answers"])
    (root / "cases.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    majority = open_gold(root, "valid").answers.majority
    assert majority is not None
    assert [majority["CQID011-001"], majority["CQID011-002"]] == [2, 3]


def test_no_train_answers_no_majority(tmp_path: Path) -> None:
    root = make_prepared(tmp_path)
    lines = [json.loads(line) for line in (root / "cases.jsonl").read_text().splitlines()]
    for line in lines:
        line["answers"] = None if line["split"] == "train" else line["answers"]
    (root / "cases.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert open_gold(root, "valid").answers.majority is None


def test_a_challenge_folder_gives_photos_and_the_majority_of_train(challenge: Path) -> None:
    gold = open_gold(challenge, "valid")
    train = [challenge_folders.answers_row(number) for number in (1, 2, 3)]
    assert gold.answers.majority is not None
    assert gold.answers.majority["CQID034-001"] == min(row["CQID034-001"] for row in train)
    assert gold.masks.photos.keys() == gold.masks.images.keys()
    assert all(Path(path).is_file() for path in gold.masks.photos.values())
    assert gold.masks.prior is None
    assert open_gold(challenge, "train").answers.majority is None


@pytest.mark.parametrize(
    "stored",
    [blob((24, 32)) * 255, blob((24, 32)).astype(bool), blob((24, 32)).astype(np.uint16), blob((24, 32))[..., None]],
)
def test_masks_as_people_store_them(tmp_path: Path, stored: np.ndarray) -> None:
    gold = open_gold(write_folder(tmp_path, {"IMG_ENC00011_00001_mask_ann0.tiff": tiff(stored)}), "valid")
    [mask] = gold.masks.images["IMG_ENC00011_00001"].masks()
    assert np.array_equal(mask, blob((24, 32)))


def test_annotators_of_different_size(tmp_path: Path) -> None:
    files = {f"IMG_ENC00011_00001_mask_ann{k}.tiff": tiff(blob((24, 32 + k))) for k in range(2)}
    gold = open_gold(write_folder(tmp_path, files), "valid")
    with pytest.raises(DataError, match=r"ann1\.tiff: got shape \(24, 33\)"):
        list(gold.masks.images["IMG_ENC00011_00001"].masks())


def test_the_same_mask_twice_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, gold_files("a/") | gold_files("b/"))
    with pytest.raises(DataError, match=r"^9 items: .*a second mask of this annotator and photo") as error:
        open_gold(tmp_path, "valid")
    assert len(error.value.problems) == 1


NAME = "IMG_ENC00011_00001"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "{}_mask_ann0.tif",
            "{}_mask_ann0.bmp",
            "{}_MASK_ANN0.PNG",
            "{}_mask.png",
            "{}_segmentation.gif",
            "{}-seg.tif",
        ),
        *("masks/{}.png", "gt/{}.tiff", "mask_{}.png"),
    ],
)
def test_masks_of_other_names_are_gold(tmp_path: Path, name: str) -> None:
    path = tmp_path / "gold" / name.format(NAME)
    path.parent.mkdir(parents=True)
    Image.fromarray(blob((24, 32)) * np.uint8(255)).save(path)
    (path.parent / f"._{path.name}").write_bytes(b"junk")
    masks = open_gold(tmp_path / "gold", "valid").masks
    images, taken = masks.images, f"1 mask is not named IMG_..._mask_ann0.tiff (such as {path}): taken as ann0,"
    assert [note.partition(" by ")[0] for note in masks.notes] == ([] if "ann0" in name.casefold() else [taken])
    assert [(name, image.case_id, list(image.annotators)) for name, image in images.items()] == [
        (NAME, "ENC00011", ["ann0"])
    ]
    assert next(images[NAME].masks()).sum() == blob((24, 32)).sum()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["{}_mask_ann0.jpg"], "a mask as .jpg file, expected TIFF or PNG"),
        (["{}_mask_3.png"], "a mask with a number in another form"),
        (["{}_mask.png", "{}_seg.png"], "a second mask of its photo"),
        (["{}_mask_ann0.tiff", "{}_seg.png"], "a mask beside those of annotators"),
        (["{}.tif"], "a picture of a photo without a mask"),
        (["{}.bmp"], "a picture of a photo without a mask"),
    ],
)
def test_files_that_may_be_masks_are_never_dropped(tmp_path: Path, names: list[str], expected: str) -> None:
    folder = write_folder(tmp_path / "gold", gold_files("a/"))
    for name in names:
        (folder / name.format("IMG_ENC00099_00001")).write_bytes(b"x")
    with pytest.raises(DataError, match=expected):
        open_gold(folder, "valid")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("IMG_ENC00004_00001_mask_ann0.tiff", "got a broken link, expected a file"),
        ("IMG_ENC00004_00001_mask.png", "got a broken link, expected a file"),
        ("IMG_ENC00004_00001_mask_ann7.tiff", "got ann7, expected ann0 to ann3"),
        ("IMG_ENC00004_00001_mask_3.png", "a mask with a number in another form"),
        ("IMG_ENC00001_00001_mask_ann0.tiff", ""),  # of train
        ("IMG_ENC00099_00001_mask_ann0.tiff", ""),  # of no encounter
    ],
)
def test_masks_of_raw_data_are_never_dropped(tmp_path: Path, name: str, expected: str) -> None:
    root = make_challenge(tmp_path / "d")
    path = next(root.rglob(name), root / "masks" / name)
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    if "link" in expected or not expected:
        path.symlink_to("nowhere")
    else:
        next(root.rglob("IMG_ENC00004_00001_mask_ann0.tiff")).rename(path)
    if expected:
        with pytest.raises(DataError, match=expected):
            open_gold(root, "valid")
    else:
        assert len(open_gold(root, "valid").masks.images) == 3


def test_answers_as_whole_floats_are_gold(tmp_path: Path) -> None:
    path = tmp_path / "gold.json"
    path.write_text(json.dumps([row("ENC00011") | {"CQID010-001": 1.0}]))
    answers = open_gold(path, "valid").answers.answers["ENC00011"]
    assert (answers["CQID010-001"], type(answers["CQID010-001"])) == (1, int)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "no rows"),
        ([], "no rows"),
        ([7, {"encounter_id": 3}], r"gold.json:1: encounter_id is a number \(3\)"),
        ([row("ENC00011")] * 2, "ENC00011 twice"),
        ([row("ENC00011") | {"CQID010-001": "1"}], "gold.json:ENC00011:CQID010-001"),
        ([row("ENC00011") | {"CQID010-001": 99}], "an integer in 0..3"),
        ([{"encounter_id": "ENC00011"}], "missing"),
    ],
)
def test_damaged_json(tmp_path: Path, value: object, text: str) -> None:
    path = tmp_path / "gold.json"
    path.write_text(json.dumps(value))
    with pytest.raises(DataError, match=text):
        open_gold(path, "valid")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nowhere", "no such file"),
        ("a.txt", "a .txt file"),
        ("e", "without gold"),
        ("masks", "got predictions, .*; give them first, and the gold last"),
        ("deep/seg", "got predictions, .*; give them first, and the gold last"),
        ("deep", "got predictions, .*; give them first, and the gold last"),
        ("answers", "got predictions, .*; give them first, and the gold last"),
    ],
)
def test_nothing_there(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "a.txt").write_text("x")
    write_folder(tmp_path / "e", {"readme.md": b"x", **files_of("test")})
    (tmp_path / "e").rename(tmp_path / "masks")
    write_folder(tmp_path / "deep" / "seg", {n: b for n, b in files_of("test").items() if n.endswith(".tiff")})
    (tmp_path / "answers" / "cvqa").mkdir(parents=True)
    (tmp_path / "answers" / "cvqa" / "data_cvqa_sys.json").write_text("[]")
    write_folder(tmp_path / "e", {"readme.md": b"x"})
    with pytest.raises(DataError, match=text):
        open_gold(tmp_path / name, "valid")


def test_more_rows_than_are_read(tmp_path: Path) -> None:
    path = tmp_path / "gold.json"
    path.write_text("[" + "[]," * 200_000 + "[]]")
    with pytest.raises(DataError, match="got 200001 rows, expected at most 200000"):
        open_gold(path, "valid")


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson"])
def test_raw_data_of_json_lines_is_raw_data(tmp_path: Path, suffix: str) -> None:
    """What `prepare` reads as tables is what tells raw data from a folder of masks."""
    root = make_challenge(tmp_path / "d")
    before = open_gold(root, "valid")
    for path in [root / f"{split}.json" for split in ("train", "valid", "test")]:
        path.with_suffix(suffix).write_text("".join(json.dumps(row) + "\n" for row in json.loads(path.read_text())))
        path.unlink()
    assert open_gold(root, "valid") == before
