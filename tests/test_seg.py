"""tasks/seg.py: samples, decisions from probabilities, the official figures, the files."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from small import blob, image_id, images_of, make_prepared, tiff, write_folder

from magic_cli.config import SegConfig
from magic_cli.data.gold import Gold, gold_of, open_gold
from magic_cli.data.prepared import Prepared, open_prepared
from magic_cli.errors import DataError, SubmissionError
from magic_cli.linter import mask_faults
from magic_cli.records import Prediction
from magic_cli.submission import open_predictions
from magic_cli.tasks import seg

CONFIG = SegConfig()
VALID = images_of("valid")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return open_prepared(make_prepared(tmp_path_factory.mktemp("seg")))


@pytest.fixture(scope="module")
def gold(prepared: Prepared) -> Gold:
    return gold_of(prepared, "valid")


def perfect() -> list[Prediction]:
    """The second of three annotators, which is their majority too."""
    return [Prediction(image, {"mask": blob(size, 1)}, size) for image, size in VALID.items()]


def test_samples_of_each_split(prepared: Prepared) -> None:
    assert [s.id for s in seg.samples(prepared, "train", CONFIG)] == list(images_of("train"))
    assert [s.id for s in seg.samples(prepared, "test", CONFIG)] == list(images_of("test"))
    for sample in seg.samples(prepared, "valid", CONFIG):
        assert sample.images[0].image_id == sample.id
        assert sample.encounter.encounter_id == sample.images[0].encounter_id


def test_merge_each_gives_a_train_sample_an_annotator(tmp_path: Path) -> None:
    prepared = open_prepared(make_prepared(tmp_path, merge="each"))
    train = seg.samples(prepared, "train", CONFIG)
    assert [s.id for s in train[:3]] == [image_id("ENC00001", 1)] * 3
    assert [s.images[0].mask.name[-9:] for s in train[:3] if s.images[0].mask] == [
        "ann0.tiff",
        "ann1.tiff",
        "ann2.tiff",
    ]
    assert len(seg.samples(prepared, "valid", CONFIG)) == len(VALID)


def test_photos_without_a_mask_are_no_training_samples(prepared: Prepared) -> None:
    name = image_id("ENC00001", 1)
    bare = dataclasses.replace(prepared.images[name], mask=None, annotators={})
    some = dataclasses.replace(prepared, images={**prepared.images, name: bare})
    assert name not in [s.id for s in seg.samples(some, "train", CONFIG)]


def test_no_photos(tmp_path: Path) -> None:
    prepared = open_prepared(make_prepared(tmp_path, photos=False))
    for split in ("train", "valid", "test"):
        with pytest.raises(DataError, match="photos"):
            seg.samples(prepared, split, CONFIG)


def test_probabilities_are_resized_before_they_are_cut() -> None:
    """Between 0.1 and 0.9 the border lies where the ramp crosses 0.5, not on the coarse grid."""
    small = np.array([[0.1, 0.9]], np.float32)
    mask = seg.to_mask(Prediction("i", {"mask": small}, (2, 12)))
    assert mask.dtype == np.uint8
    assert mask.tolist() == [[0] * 6 + [1] * 6] * 2
    shifted = seg.to_mask(Prediction("i", {"mask": np.array([[0.1, 0.6]], np.float32)}, (1, 12)))
    assert shifted.sum() == 4


def test_threshold_and_same_size() -> None:
    array = np.array([[0.2, 0.5, 0.51]])
    assert seg.to_mask(Prediction("i", {"mask": array})).tolist() == [[0, 0, 1]]
    assert seg.to_mask(Prediction("i", {"mask": array}), threshold=0.1).tolist() == [[1, 1, 1]]


def test_nothing_above_the_threshold_keeps_the_likeliest_pixels() -> None:
    array = np.array([[0.2, 0.4, 0.4 - 1e-7], [0.1, 0.3, 0.0]])
    assert seg.to_mask(Prediction("i", {"mask": array})).tolist() == [[0, 1, 1], [0, 0, 0]]
    assert seg.to_mask(Prediction("i", {"mask": np.zeros((3, 3), np.float16)})).all()


@given(arrays(np.float32, (3, 5), elements=st.floats(0, 1, width=32)), st.integers(1, 20), st.integers(1, 20))
def test_a_mask_is_never_empty_and_always_passes_the_linter(array: np.ndarray, height: int, width: int) -> None:
    mask = seg.to_mask(Prediction("i", {"mask": array}, (height, width)))
    assert mask.shape == (height, width)
    import io

    assert list(mask_faults(io.BytesIO(tiff(mask)), (height, width))) == []


def test_decisions_pass_unchanged() -> None:
    mask = np.array([[0, 7]], np.int16)
    assert seg.to_mask(Prediction("i", {"mask": mask}, (9, 9))) is mask


def test_nan_says_that_training_diverged() -> None:
    with pytest.raises(DataError, match="training diverged"):
        seg.to_mask(Prediction("i", {"mask": np.array([[0.1, np.nan]])}))


def test_figures_of_a_perfect_majority(gold: Gold) -> None:
    report = seg.score(gold, perfect())
    assert list(report.figures) == [
        "jaccard_meanofmax",
        "jaccard_meanofmean",
        "dice_meanofmax",
        "dice_meanofmean",
        "jaccard",
        "dice",
        "number_segmentation_instances",
    ]
    assert report.figures["dice_meanofmax"] == report.figures["jaccard"] == report.figures["dice"] == 1.0
    assert report.figures["dice_meanofmean"] < 1.0
    assert report.figures["number_segmentation_instances"] == 3
    assert report.notes == ()
    assert [row["image"] for row in report.rows] == list(VALID)
    assert report.figures["dice_meanofmean"] == pytest.approx(np.mean([row["dice_mean"] for row in report.rows]))


def test_probabilities_score_like_their_decisions(gold: Gold) -> None:
    soft = [dataclasses.replace(p, arrays={"mask": p.arrays["mask"] * np.float32(0.8)}) for p in perfect()]
    assert seg.score(gold, soft).figures == seg.score(gold, perfect()).figures


def test_order_does_not_matter_and_predictions_may_be_lazy(gold: Gold) -> None:
    assert seg.score(gold, iter(perfect()[::-1])) == seg.score(gold, perfect())


def test_what_is_wrong_is_listed_at_once(gold: Gold) -> None:
    first, second, third = perfect()
    turned = dataclasses.replace(first, arrays={"mask": first.arrays["mask"].T})
    bright = dataclasses.replace(second, arrays={"mask": second.arrays["mask"] * 255})
    with pytest.raises(SubmissionError) as error:
        seg.score(gold, [turned, bright])
    lines = error.value.problems
    assert len(lines) == 3
    assert first.id in lines[0]
    assert "(transposed)" in lines[0]
    assert second.id in lines[1]
    assert "values other than 0 and 1" in lines[1]
    assert f"1 of 3 images have no prediction (the official scorer stops with KeyError): {third.id}" == lines[2]


@pytest.mark.parametrize(
    ("arrays_", "text"),
    [
        ({}, "an unreadable file"),
        ({"mask": np.zeros((24, 31), np.uint8)}, r"shape \(24, 31\), expected \(24, 32\)"),
        ({"mask": np.zeros((2, 24, 32), np.uint8)}, r"shape \(2, 24, 32\)"),
        ({"mask": -blob((24, 32)).astype(np.int16)}, "values other than"),
    ],
)
def test_one_bad_prediction(gold: Gold, arrays_: dict[str, np.ndarray], text: str) -> None:
    bad = dataclasses.replace(perfect()[0], arrays=arrays_)
    with pytest.raises(SubmissionError, match=text) as error:
        seg.score(gold, [bad, *perfect()[1:]])
    assert len(error.value.problems) == 1


def test_two_predictions_of_one_photo(gold: Gold) -> None:
    with pytest.raises(SubmissionError, match="two predictions"):
        seg.score(gold, [*perfect(), perfect()[0]])


def test_extra_predictions_are_left_out_with_a_note(gold: Gold) -> None:
    extra = Prediction("IMG_ENC00099_00001", {"mask": np.ones((2, 2), np.uint8)}, (2, 2))
    report = seg.score(gold, [*perfect(), extra])
    assert report.figures == seg.score(gold, perfect()).figures
    assert report.notes == ("1 predicted images have no gold and are left out, as the official scorer does.",)


def test_case_43_one_empty_annotator_and_an_empty_prediction(tmp_path: Path) -> None:
    refs = {f"refs/IMG_E1_1_mask_ann{k}.tiff": tiff(blob((24, 32)) * (k > 0)) for k in range(2)}
    refs["refs/IMG_E2_1_mask_ann0.tiff"] = tiff(blob((24, 32)))
    preds = {"preds/IMG_E1_1_mask_sys.tiff": tiff(np.zeros((24, 32), np.uint8))}
    preds["preds/IMG_E2_1_mask_sys.tiff"] = tiff(blob((24, 32)))
    write_folder(tmp_path, refs | preds)
    gold = open_gold(tmp_path / "refs", "valid")
    with open_predictions(tmp_path / "preds") as found:
        report = seg.score(gold, found.of("seg", gold))
    assert [math.isnan(v) for v in report.figures.values()] == [True] * 4 + [False] * 3
    assert "1 of 2 images are 0/0" in report.notes[0]
    assert "IMG_E1_1" in report.notes[0]


def test_no_gold(prepared: Prepared) -> None:
    with pytest.raises(DataError, match="no gold masks"):
        seg.score(Gold("g", prepared.questions), [])


def test_baselines(prepared: Prepared, gold: Gold) -> None:
    found = seg.baselines(seg.samples(prepared, "train", CONFIG), gold)
    assert list(found) == ["all foreground"]
    assert 0 < found["all foreground"] < 0.6


def test_written_masks_read_back_as_predicted(prepared: Prepared, gold: Gold, tmp_path: Path) -> None:
    soft = [Prediction(p.id, {"mask": p.arrays["mask"].astype(np.float32)}, p.shape) for p in perfect()]
    paths = seg.write(iter(soft), prepared, tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        f"masks_preds/{i}_mask_sys.tiff" for i in VALID
    ]
    for path, (image, size) in zip(paths, VALID.items(), strict=True):
        stored = tifffile.imread(path)
        assert stored.dtype == np.uint8
        assert stored.shape == size == VALID[image]
    with open_predictions(tmp_path) as found:
        assert seg.score(gold, found.of("seg", gold)) == seg.score(gold, perfect())


def test_masks_of_an_earlier_split_do_not_stay(prepared: Prepared, tmp_path: Path) -> None:
    write_folder(tmp_path / "masks_preds", {"IMG_OLD_1_mask_sys.tiff": b"", "mine.txt": b""})
    seg.write(perfect(), prepared, tmp_path)
    names = {path.name for path in (tmp_path / "masks_preds").iterdir()}
    assert names == {f"{image}_mask_sys.tiff" for image in VALID} | {"mine.txt"}
