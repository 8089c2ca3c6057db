"""tasks/seg/__init__.py: samples, decisions from probabilities, the official figures, the files."""

import dataclasses
import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tiny_dataset import blob, image_id, images_of, make_prepared, tiff, write_folder

from magic_cli.data.gold import GoldImage, MaskGold, mask_gold
from magic_cli.data.imaging.probability_maps import resize_map
from magic_cli.data.prepared import Prepared, open_prepared
from magic_cli.errors import DataError, EmptySplit, SubmissionError
from magic_cli.io.run_record import Call, running
from magic_cli.io.staging import replace_results
from magic_cli.metrics import mask_scores
from magic_cli.records import TaskScores
from magic_cli.submission.lint import mask_faults
from magic_cli.submission.reader import SubmittedMask, open_predictions
from magic_cli.tasks import get
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.tasks.seg.decide import MaskPrediction, mean_mask, to_mask
from magic_cli.tasks.seg.score import score

seg = get("seg")

CONFIG = SegConfig()
VALID = images_of("valid")
VALID_FIRST = next(iter(VALID))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return open_prepared(make_prepared(tmp_path_factory.mktemp("seg")))


@pytest.fixture(scope="module")
def gold(prepared: Prepared) -> MaskGold:
    return mask_gold(prepared, "valid")


def perfect() -> list[MaskPrediction]:
    """The second of three annotators, which is their majority too."""
    return [MaskPrediction(image, mask=blob(size, 1), shape=size) for image, size in VALID.items()]


def test_samples_of_each_split(prepared: Prepared) -> None:
    assert [s.id for s in seg.training_samples(prepared, "train", CONFIG)] == list(images_of("train"))
    assert [s.id for s in seg.prediction_samples(prepared, "test", CONFIG)] == list(images_of("test"))
    for sample in seg.training_samples(prepared, "valid", CONFIG):
        assert sample.images[0].image_id == sample.id
        assert sample.case.case_id == sample.images[0].case_id


def test_merge_each_gives_a_train_sample_an_annotator(tmp_path: Path) -> None:
    prepared = open_prepared(make_prepared(tmp_path, merge="each"))
    train = seg.training_samples(prepared, "train", CONFIG)
    assert [s.id for s in seg.prediction_samples(prepared, "train", CONFIG)] == list(images_of("train"))
    assert [s.id for s in train[:3]] == [image_id("ENC00001", 1)] * 3
    assert [s.images[0].mask[-9:] for s in train[:3] if s.images[0].mask] == [
        "ann0.tiff",
        "ann1.tiff",
        "ann2.tiff",
    ]
    assert len(seg.training_samples(prepared, "valid", CONFIG)) == len(VALID)


@pytest.mark.parametrize("split", ["train", "valid"])
def test_photos_without_a_mask_are_predicted_but_not_learned_from(prepared: Prepared, split: str) -> None:
    name, *others = images_of(split)
    bare = dataclasses.replace(prepared.images[name], mask=None, annotators={})
    some = dataclasses.replace(prepared, images={**prepared.images, name: bare})
    assert [s.id for s in seg.training_samples(some, split, CONFIG)] == others
    predicted = seg.prediction_samples(some, split, CONFIG)
    assert [s.id for s in predicted] == [name, *others]
    assert seg.prediction_warnings(some, split, predicted, CONFIG) == []
    none = {n: dataclasses.replace(i, mask=None, annotators={}) for n, i in prepared.images.items()}
    assert seg.prediction_samples(dataclasses.replace(prepared, images=none), split, CONFIG)


def test_masks_of_maps_without_any_difference_are_named(
    prepared: Prepared, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat, other = (np.full((8, 8), 0.0, np.float32) for _ in range(2))
    other[2:4, 2:4] = 1.0
    rows = [MaskPrediction(name, each, shape=(8, 8)) for name, each in (("IMG_FLAT", flat), ("IMG_OTHER", other))]
    get("seg").write(rows, prepared, tmp_path / "out")
    assert "note: 1 mask is the whole photo" in (told := capsys.readouterr().err)
    assert "IMG_FLAT" in told
    assert "IMG_OTHER" not in told


def test_photos_that_are_listed_but_cannot_be_predicted_are_named(prepared: Prepared) -> None:
    """Absent, or left out by `magic prepare`: one is recorded without a file, the other is not recorded."""
    gone, lost, *others = images_of("train")
    images = {name: image for name, image in prepared.images.items() if name != lost}
    images[gone] = dataclasses.replace(images[gone], path=None)
    some = dataclasses.replace(prepared, images=images)
    predicted = seg.prediction_samples(some, "train", CONFIG)
    assert [s.id for s in predicted] == others
    [line] = seg.prediction_warnings(some, "train", predicted, CONFIG)
    assert line.startswith(f"2 of {len(others) + 2} listed photos of split train are absent or unusable")
    assert f"({gone}, {lost})" in line


def test_no_photos(tmp_path: Path) -> None:
    prepared = open_prepared(make_prepared(tmp_path, photos=False))
    for split in ("train", "valid", "test"):
        with pytest.raises(DataError, match="photos"):
            seg.training_samples(prepared, split, CONFIG)
        with pytest.raises(EmptySplit, match="photos"):
            seg.prediction_samples(prepared, split, CONFIG)


def test_probabilities_are_resized_before_they_are_cut() -> None:
    """Between 0.1 and 0.9 the border lies where the ramp crosses 0.5, not on the coarse grid."""
    small = np.array([[0.1, 0.9]], np.float32)
    mask = to_mask(MaskPrediction("i", small, shape=(2, 12)))
    assert mask.dtype == np.uint8
    assert mask.tolist() == [[0] * 6 + [1] * 6] * 2
    shifted = to_mask(MaskPrediction("i", np.array([[0.1, 0.6]], np.float32), shape=(1, 12)))
    assert shifted.sum() == 4


def test_threshold_and_same_size() -> None:
    array = np.array([[0.2, 0.5, 0.51]])
    assert to_mask(MaskPrediction("i", array)).tolist() == [[0, 0, 1]]
    assert to_mask(MaskPrediction("i", array), threshold=0.1).tolist() == [[1, 1, 1]]


def test_nothing_above_the_threshold_keeps_the_likeliest_pixels() -> None:
    array = np.array([[0.2, 0.4, 0.4 - 1e-7], [0.1, 0.3, 0.0]])
    assert to_mask(MaskPrediction("i", array)).tolist() == [[0, 1, 1], [0, 0, 0]]
    assert to_mask(MaskPrediction("i", np.zeros((3, 3), np.float16))).all()


@given(arrays(np.float32, (3, 5), elements=st.floats(0, 1, width=32)), st.integers(1, 20), st.integers(1, 20))
def test_a_mask_is_never_empty_and_always_passes_the_linter(array: np.ndarray, height: int, width: int) -> None:
    mask = to_mask(MaskPrediction("i", array, shape=(height, width)))
    assert mask.shape == (height, width)
    import io

    assert list(mask_faults(io.BytesIO(tiff(mask)), (height, width))) == []


@settings(deadline=None)
@given(
    arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.floats(0, 1, width=16)),
    st.integers(1, 40),
    st.integers(1, 40),
)
def test_mean_mask_is_decided_like_any_other_map(prior: np.ndarray, height: int, width: int) -> None:
    """All pixels but those that lie on the threshold, where single precision decides."""
    found = mean_mask(prior, (height, width))
    slow = to_mask(MaskPrediction("i", prior, shape=(height, width)))
    full = resize_map(prior, (height, width))
    threshold = min(0.5, float(full.max()))
    sure = abs(full - threshold) > 1e-5
    assert found.dtype == np.uint8
    assert found.any()
    np.testing.assert_array_equal(found[sure], slow[sure])


def test_a_faint_mean_mask_keeps_its_likeliest_pixels() -> None:
    prior = np.zeros((8, 8), np.float32)
    prior[2:5, 3:6] = 0.2
    assert np.array_equal(mean_mask(prior, (64, 80)), to_mask(MaskPrediction("i", prior, shape=(64, 80))))


def test_decisions_pass_unchanged() -> None:
    mask = np.array([[0, 7]], np.int16)
    assert to_mask(MaskPrediction("i", mask=mask, shape=(9, 9))) is mask


def test_nan_says_that_training_diverged() -> None:
    with pytest.raises(DataError, match="training diverged"):
        to_mask(MaskPrediction("i", np.array([[0.1, np.nan]])))


def plain(report: TaskScores) -> TaskScores:
    """A report without its sums, which are an array and do not compare."""
    return dataclasses.replace(report, encounter_sums=None, agreement_sums=None)


def test_figures_of_a_perfect_majority(gold: MaskGold) -> None:
    report = score(gold, perfect())
    assert list(report.scores) == [
        "jaccard_meanofmax",
        "jaccard_meanofmean",
        "dice_meanofmax",
        "dice_meanofmean",
        "jaccard",
        "dice",
        "number_segmentation_instances",
    ]
    assert report.scores["dice_meanofmax"] == report.scores["jaccard"] == report.scores["dice"] == 1.0
    assert report.scores["dice_meanofmean"] < 1.0
    assert report.scores["number_segmentation_instances"] == 3
    assert report.official == report.scores
    assert (report.notes, report.official_errors, report.differences, report.rejected) == ((), (), (), ())
    assert [row["image"] for row in report.per_item] == list(VALID)
    assert report.scores["dice_meanofmean"] == pytest.approx(np.mean([row["dice_mean"] for row in report.per_item]))


def test_items_and_rows(gold: MaskGold) -> None:
    report = score(gold, perfect())
    first = report.per_item[0]
    height, width = VALID[first["image"]]
    assert list(first)[:6] == ["image", "encounter", "annotators", "fault", "pixels", "lesion"]
    assert list(first)[6:] == ["predicted"] + ["dice_max", "dice_mean", "jaccard_max", "jaccard_mean"] + [
        f"{name}_ann{k}" for k in range(3) for name in ("dice", "jaccard")
    ]
    assert (first["encounter"], first["annotators"], first["fault"]) == ("ENC00011", 3, "")
    assert first["pixels"] == height * width
    assert first["lesion"] == first["predicted"] == blob((height, width)).mean()
    assert first["dice_ann1"] == first["dice_max"] == 1.0
    assert first["jaccard_mean"] == pytest.approx(np.mean([first[f"jaccard_ann{k}"] for k in range(3)]))
    assert [row["annotator"] for row in report.summary_rows] == ["ann0", "ann1", "ann2"]
    assert [row["images"] for row in report.summary_rows] == [3, 3, 3]
    for row in report.summary_rows:
        for name in ("dice", "jaccard"):
            mean = np.mean([item[f"{name}_{row['annotator']}"] for item in report.per_item])
            assert row[name] == pytest.approx(mean)


def test_clusters_are_encounters_and_their_sums_give_the_figures(gold: MaskGold) -> None:
    clusters = score(gold, [dataclasses.replace(p, mask=blob(p.shape, 2)) for p in perfect()]).encounter_sums
    assert clusters is not None
    assert clusters.ids == ("ENC00011", "ENC00012")
    one, both = clusters.scores(clusters.sums)
    for number, encounter in enumerate(clusters.ids):
        ids = {image for image in VALID if encounter in image}
        part = [dataclasses.replace(p, mask=blob(p.shape, 2)) for p in perfect() if p.id in ids]
        figures = score(gold.only(ids), part).scores
        assert (one, both)[number] == pytest.approx([figures[name] for name in clusters.names], abs=1e-12)
    whole = clusters.scores(np.stack([clusters.sums.sum(0)] * 4).reshape(2, 2, -1))
    assert whole.shape == (2, 2, 6)


def dice_of(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * int((one & other).sum()) / int(one.sum() + other.sum())


def test_agreement_of_each_annotator_with_the_others(gold: MaskGold) -> None:
    found = score(gold, perfect()).agreement
    assert found is not None
    assert found["images"] == 3
    sides: dict[str, dict[str, list[float]]] = {"human": {}, "system": {}}
    for image, size in VALID.items():
        masks = [blob(size, k) for k in range(3)]
        for k in range(3):
            rest = masks[:k] + masks[k + 1 :]
            for side, mask in (("human", masks[k]), ("system", blob(size, 1))):
                sides[side].setdefault(image, []).append(max(dice_of(mask, other) for other in rest))
                sides[side].setdefault(f"{image} mean", []).append(float(np.mean([dice_of(mask, o) for o in rest])))
    for side, values in sides.items():
        for key, mark in (("dice_meanofmax", False), ("dice_meanofmean", True)):
            expected = np.mean([np.mean(list_) for name, list_ in values.items() if name.endswith("mean") == mark])
            assert found[side][key] == pytest.approx(expected)
        assert list(found[side]) == list(mask_scores.MASK_SCORES)
    first = found["annotators"][0]
    assert (first["annotator"], first["images"]) == ("ann0", 3)
    assert first["dice_meanofmax"] == pytest.approx(np.mean([sides["human"][image][0] for image in VALID]))
    pooled = [(blob(size, k), rest) for size in VALID.values() for k, rest in enumerate(_unions(size))]
    both = sum(int((mask & rest).sum()) for mask, rest in pooled)
    assert found["human"]["dice"] == pytest.approx(2 * both / sum(int(m.sum() + r.sum()) for m, r in pooled))


def _unions(size: tuple[int, int]) -> list[np.ndarray]:
    """The majority of two annotators is their union."""
    masks = [blob(size, k) for k in range(3)]
    return [masks[1] | masks[2], masks[0] | masks[2], masks[0] | masks[1]]


def test_agreement_can_be_resampled_by_encounter(gold: MaskGold) -> None:
    scored = score(gold, perfect())
    assert scored.agreement is not None
    assert scored.agreement_sums is not None
    for sums, name in zip(scored.agreement_sums, ("system", "human"), strict=True):
        assert set(sums.ids) <= {image.case_id for image in gold.images.values()}
        values = dict(zip(sums.names, sums.over(range(len(sums.ids))).tolist(), strict=True))
        assert values == pytest.approx(scored.agreement[name], abs=1e-12, nan_ok=True)


def test_no_agreement_without_a_second_annotator(gold: MaskGold) -> None:
    single = {i: GoldImage(t.case_id, {"ann0": t.annotators["ann0"]}) for i, t in gold.images.items()}
    assert score(dataclasses.replace(gold, images=single), perfect()).agreement is None
    some = {**single, VALID_FIRST: gold.images[VALID_FIRST]}
    found = score(dataclasses.replace(gold, images=some), perfect()).agreement
    assert found is not None
    assert found["images"] == 1
    assert [row["images"] for row in found["annotators"]] == [1, 1, 1]


def test_a_missing_prediction_is_zero_beside_agreeing_annotators(gold: MaskGold) -> None:
    whole, part = score(gold, perfect()), score(gold, perfect()[1:])
    assert whole.agreement is not None
    assert part.agreement is not None
    assert part.agreement["human"] == whole.agreement["human"]
    assert part.agreement["system"]["dice_meanofmax"] < whole.agreement["system"]["dice_meanofmax"]
    assert part.scores["dice_meanofmax"] == pytest.approx(2 / 3)
    assert part.baselines == whole.baselines


def test_baselines_of_a_report(gold: MaskGold) -> None:
    prior = np.zeros((8, 8), np.float32)
    prior[1:4, 1:5] = 0.9
    report = score(dataclasses.replace(gold, prior=prior), perfect())
    assert list(report.baselines) == ["empty", "full", "training mean mask"]
    for name, value in (("empty", 0), ("full", 1)):
        constant = [MaskPrediction(i, mask=np.full(size, value, np.uint8), shape=size) for i, size in VALID.items()]
        assert report.baselines[name] == score(gold, constant).scores
    mean = [MaskPrediction(i, prior, shape=size) for i, size in VALID.items()]
    assert report.baselines["training mean mask"] == pytest.approx(score(gold, mean).scores)
    assert report.scores == score(gold, perfect()).scores
    assert 0 < report.baselines["training mean mask"]["dice"] < 1
    faint = score(dataclasses.replace(gold, prior=prior / 10), perfect())
    assert faint.baselines["training mean mask"]["dice"] > 0


def test_probabilities_score_like_their_decisions(gold: MaskGold) -> None:
    soft = [MaskPrediction(p.id, p.mask * np.float32(0.8), shape=p.shape) for p in perfect()]
    assert plain(score(gold, soft)) == plain(score(gold, perfect()))


def test_order_does_not_matter_and_predictions_may_be_lazy(gold: MaskGold) -> None:
    assert plain(score(gold, iter(perfect()[::-1]))) == plain(score(gold, perfect()))


def test_nothing_is_kept_of_a_mask(gold: MaskGold) -> None:
    alive: list[weakref.ref[np.ndarray]] = []

    def one_by_one() -> Iterator[MaskPrediction]:
        for prediction in perfect():
            gc.collect()
            assert [ref() for ref in alive[:-1]] == [None] * len(alive[:-1])
            mask = prediction.mask.copy()
            alive.append(weakref.ref(mask))
            yield dataclasses.replace(prediction, mask=mask)

    score(gold, one_by_one())


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (None, "unreadable"),
        (blob((24, 32)).T, "another shape: transposed, (32, 24) for (24, 32)"),
        (np.zeros((24, 31), np.uint8), "another shape: (24, 31) for (24, 32)"),
        (np.zeros((2, 24, 32), np.uint8), "another shape: (2, 24, 32) for (24, 32)"),
        (-blob((24, 32)).astype(np.int16), "other values: "),
        (blob((24, 32)) * 255, "values {0, 255}"),
    ],
)
def test_one_bad_prediction_counts_as_zero(gold: MaskGold, mask: np.ndarray | None, text: str) -> None:
    good, *rest = perfect()
    bad = SubmittedMask(good.id, "no TIFF") if mask is None else dataclasses.replace(good, mask=mask)
    report = score(gold, [bad, *rest])
    assert report.per_item[0]["fault"].startswith(text)
    assert [report.per_item[0][name] for name in ("dice_max", "dice_ann1", "jaccard_mean")] == [0.0] * 3
    assert len(report.rejected) == 1
    assert report.scores["dice_meanofmax"] == pytest.approx(2 / 3)
    assert report.scores["number_segmentation_instances"] == 3


def test_two_predictions_of_one_photo(gold: MaskGold) -> None:
    with pytest.raises(SubmissionError, match="two predictions"):
        score(gold, [*perfect(), perfect()[0]])


def test_extra_predictions_are_left_out_with_a_note(gold: MaskGold) -> None:
    extra = MaskPrediction("IMG_ENC00099_00001", mask=np.ones((2, 2), np.uint8))
    report = score(gold, [*perfect(), extra])
    assert report.scores == score(gold, perfect()).scores
    assert report.notes == ("1 predicted images have no gold and are left out, as the official scorer does.",)


def test_no_gold(prepared: Prepared) -> None:
    with pytest.raises(DataError, match="no gold masks"):
        score(MaskGold("g"), [])


def test_baselines(prepared: Prepared, gold: MaskGold) -> None:
    train, valid = (seg.training_samples(prepared, split, CONFIG) for split in ("train", "valid"))
    found = seg.baseline_scores(train, gold)
    assert list(found) == ["all foreground", "training mean mask"]
    assert 0 < found["all foreground"] < 0.6
    assert found["all foreground"] == score(gold, perfect()).baselines["full"]["dice_meanofmax"]
    of_the_other_part = seg.baseline_predictions((train, valid), prepared.questions)["training mean mask"]
    assert found["training mean mask"] == score(gold, of_the_other_part).scores["dice_meanofmax"]


def test_written_masks_read_back_as_predicted(prepared: Prepared, gold: MaskGold, tmp_path: Path) -> None:
    soft = [MaskPrediction(p.id, p.mask.astype(np.float32), shape=p.shape) for p in perfect()]
    paths = seg.write(iter(soft), prepared, tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        f"masks_preds/{i}_mask_sys.tiff" for i in VALID
    ]
    for path, (image, size) in zip(paths, VALID.items(), strict=True):
        stored = tifffile.imread(path)
        assert stored.dtype == np.uint8
        assert stored.shape == size == VALID[image]
    with open_predictions(tmp_path) as found:
        assert plain(score(gold, found.submitted_masks())) == plain(score(gold, perfect()))


def test_masks_of_an_earlier_split_do_not_stay_and_those_of_others_do(prepared: Prepared, tmp_path: Path) -> None:
    older, mine = "IMG_OLD_1_mask_sys.tiff", ("IMG_MINE_1_mask_sys.tiff", "mine.txt")
    with running(Call("predict", {"task": "seg"})):
        with replace_results(tmp_path / "out") as folder:
            write_folder(folder / "masks_preds", {older: b""})
        write_folder(tmp_path / "out" / "masks_preds", dict.fromkeys(mine, b""))
        seg.write(perfect(), prepared, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out" / "masks_preds").iterdir()}
    assert names == {*(f"{image}_mask_sys.tiff" for image in VALID), *mine}
