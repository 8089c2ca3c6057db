"""Folders of photos and masks, as people have them, without any table."""

from pathlib import Path

import numpy as np
import pytest
from challenge_folders import make_challenge
from PIL import Image
from raw_tables import write_photo

from magic_cli.commands.prepare import PrepareOptions, prepare
from magic_cli.data.prepared import open_prepared
from magic_cli.data.sources import open_source
from magic_cli.data.sources.source import RawCase, RawDataset, ReadOptions
from magic_cli.errors import DataError


def write_mask(path: Path, shift: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.zeros((16, 24), np.uint8)
    array[4:9, 3 + shift : 12 + shift] = 255
    Image.fromarray(array).save(path)


def made(root: Path, *names: str) -> Path:
    """Write photos, and masks where a name begins with "m:"."""
    for number, name in enumerate(names):
        if name.startswith("m:"):
            write_mask(root / name[2:], number)
        else:
            write_photo(root / name, number)
    return root


def opened(root: Path, name: str = "") -> tuple[RawDataset, list[RawCase]]:
    raw = open_source(root, ReadOptions(), name)
    return raw, list(raw.cases)


def pairs(root: Path, cases: list[RawCase]) -> dict[str, dict[str, str]]:
    """Return the photo's path to annotator to the mask's path, below the root."""
    return {
        Path(photo.path).relative_to(root).as_posix(): {
            annotator: Path(str(mask)).relative_to(root).as_posix() for annotator, mask in photo.masks.items()
        }
        for case in cases
        for photo in case.photos
    }


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["images/A.jpg", "m:masks/A.png"], {"images/A.jpg": {"ann0": "masks/A.png"}}),
        (["A.jpg", "m:A_mask.png"], {"A.jpg": {"ann0": "A_mask.png"}}),
        (["x/A.jpg", "m:x/A_segmentation.png", "B.jpg"], {"B.jpg": {}, "x/A.jpg": {"ann0": "x/A_segmentation.png"}}),
        (["A.bmp", "m:A_lesion.bmp"], {"A.bmp": {"ann0": "A_lesion.bmp"}}),
        (["images/A.jpg", "m:masks/A_mask.jpg"], {"images/A.jpg": {"ann0": "masks/A_mask.jpg"}}),
        (["images/a_label_3.jpg", "m:masks/a_label_3.png"], {"images/a_label_3.jpg": {"ann0": "masks/a_label_3.png"}}),
        (["lesion_1.jpg", "gt_2.jpg", "m:gt_2_mask.png"], {"gt_2.jpg": {"ann0": "gt_2_mask.png"}, "lesion_1.jpg": {}}),
        (  # PH2
            ["I/I_Dermoscopic_Image/I.bmp", "m:I/I_lesion/I_lesion.bmp"],
            {"I/I_Dermoscopic_Image/I.bmp": {"ann0": "I/I_lesion/I_lesion.bmp"}},
        ),
        (  # numbers from 1
            ["A.jpg", "m:A_mask_1.png", "m:A_mask_2.png", "B.jpg", "m:B_mask_2.png"],
            {"A.jpg": {"ann0": "A_mask_1.png", "ann1": "A_mask_2.png"}, "B.jpg": {"ann1": "B_mask_2.png"}},
        ),
        (  # a folder per annotator
            ["images/A.jpg", "m:masks/annotator2/A.png", "m:masks/annotator1/A.png"],
            {"images/A.jpg": {"ann0": "masks/annotator1/A.png", "ann1": "masks/annotator2/A.png"}},
        ),
        (  # the challenge's names of masks
            ["A.jpg", "m:A_mask_ann0.tiff", "m:A_mask_ann3.tiff"],
            {"A.jpg": {"ann0": "A_mask_ann0.tiff", "ann1": "A_mask_ann3.tiff"}},
        ),
    ],
)
def test_masks_find_their_photos(names: list[str], expected: dict[str, dict[str, str]], tmp_path: Path) -> None:
    raw, cases = opened(made(tmp_path, *names))
    assert raw.source == "mask-pairs"
    assert pairs(tmp_path, cases) == expected
    assert raw.issues.problems == []


def test_folders_are_splits_where_all_of_them_name_one(tmp_path: Path) -> None:
    names = [f"{split}/{kind}/{name}" for split in ("train", "val", "test") for kind, name in (("images", "1.jpg"),)]
    made(tmp_path, *names, "m:train/masks/1.png", "m:val/masks/1.png", "test/images/2.jpg", "m:test/masks/2.png")
    raw, cases = opened(tmp_path)
    assert [(case.case.case_id, case.case.split) for case in cases] == [
        ("1", "test"),
        ("2", "test"),
        ("train_images_1", "train"),
        ("val_images_1", "valid"),
    ]
    assert pairs(tmp_path, cases) == {
        "test/images/1.jpg": {},
        "test/images/2.jpg": {"ann0": "test/masks/2.png"},
        "train/images/1.jpg": {"ann0": "train/masks/1.png"},
        "val/images/1.jpg": {"ann0": "val/masks/1.png"},
    }
    assert raw.issues.notes == ["1 photo has no mask"]


def test_folders_that_name_a_split_now_and_then_are_told(tmp_path: Path) -> None:
    raw, cases = opened(made(tmp_path, "train/A.jpg", "m:train/A_mask.png", "test/B.jpg", "more/C.jpg"))
    assert {case.case.split for case in cases} == {""}
    assert raw.issues.notes[0] == "folders name the split of some photos only: the split of none is taken from them"


def test_a_patient_is_known_from_the_folder(tmp_path: Path) -> None:
    _, cases = opened(made(tmp_path, "patient_07/A.jpg", "m:patient_07/A_mask.png", "patients/B.jpg"))
    assert [(case.case.group_id, dict(case.case.attributes)) for case in cases] == [
        ("patient_07", {"patient": "patient_07"}),
        ("", {}),
    ]


def test_masks_without_photo_and_too_many_masks_are_counted(tmp_path: Path) -> None:
    names = ("A.jpg", "m:A_mask.png", "m:A_segmentation.png", "m:B_mask.png", "C.jpg", "m:C_mask.png")
    raw, cases = opened(made(tmp_path, *names))
    (tmp_path / "C_gt.png").write_bytes((tmp_path / "C_mask.png").read_bytes())  # a copy
    raw, cases = opened(tmp_path)
    assert pairs(tmp_path, cases) == {"A.jpg": {}, "C.jpg": {"ann0": "C_gt.png"}}
    stray, twice = raw.issues.problems
    assert stray.startswith("B_mask.png: got a mask without its photo, or of several photos of this name")
    assert twice.startswith(
        "A_mask.png: got 2 masks of a photo, such as A_segmentation.png, expected one per annotator"
    )
    assert raw.issues.left_out == {"masks": 3}


def test_every_other_adapter_goes_first(tmp_path: Path) -> None:
    made(make_challenge(tmp_path), "images/A.jpg", "m:masks/A.png")
    assert opened(tmp_path)[0].source == "dermavqa"


def test_the_challenge_without_its_tables_is_told_as_such(tmp_path: Path) -> None:
    root = make_challenge(tmp_path)
    for path in root.rglob("*.json"):
        path.unlink()
    with pytest.raises(DataError, match=r"encounter(.|\n)*--source mask-pairs"):
        opened(root)


def test_masks_that_are_no_masks_are_left_out_by_prepare(tmp_path: Path) -> None:
    made(tmp_path / "raw", "images/A.jpg", "m:masks/A.png", "images/B.jpg", "masks/B.png", "images/C.jpg")
    classes = np.zeros((16, 24), np.uint8)
    classes[2:8, 2:8], classes[10:15, 10:15] = 1, 2
    Image.fromarray(classes).save(tmp_path / "raw" / "masks" / "C.png")
    prepare(tmp_path / "raw", tmp_path / "prepared", PrepareOptions())
    prepared = open_prepared(tmp_path / "prepared")
    assert [len(image.annotators) for image in prepared.images.values()] == [1, 0, 0]
    assert prepared.manifest.left_out["masks"] == 2
    lines = prepared.manifest.problems
    assert lines[0].startswith("masks/B.png: got a picture of which ")
    assert lines[1].startswith("masks/C.png: got a map of 3 classes, expected one lesion in a mask; write that class")
