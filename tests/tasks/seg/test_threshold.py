"""tasks/seg/threshold.py against scoring every threshold by itself."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magic_cli.data.gold import GoldImage, MaskGold
from magic_cli.data.imaging.masks import write_mask
from magic_cli.data.questions import load_questions
from magic_cli.errors import DataError
from magic_cli.metrics.mask_scores import MASK_SCORES
from magic_cli.tasks.seg.decide import MaskPrediction, to_mask
from magic_cli.tasks.seg.score import score
from magic_cli.tasks.seg.threshold import GRID, best_threshold, scores_at

QUESTIONS = load_questions(None)


def drawn(root: Path, seed: int, photos: int = 4) -> tuple[MaskGold, list[MaskPrediction]]:
    """Photos of different sizes with one to four annotators, some of them empty; maps of half the size."""
    random = np.random.default_rng(seed)
    images, found = {}, []
    for n in range(photos):
        shape = (int(random.integers(8, 30)), int(random.integers(8, 30)))
        annotators = {}
        for k in range(int(random.integers(1, 5))):
            path = root / f"{seed}_{n}_{k}.tiff"
            write_mask(path, (random.random(shape) > random.choice([0.3, 0.6, 1.1])).astype(np.uint8))
            annotators[f"ann{k}"] = path
        images[f"I{n}"] = GoldImage("E", annotators)
        map_ = random.random((max(1, shape[0] // 2), shape[1] // 2)) ** random.choice([0.5, 1, 4]) * 0.9
        found.append(MaskPrediction(f"I{n}", map_.astype(np.float32), shape=shape))
    return MaskGold("drawn", images), found


@settings(deadline=None, derandomize=True, max_examples=20)
@given(st.integers(0, 1000))
def test_every_threshold_scores_as_if_it_were_alone(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    gold, found = drawn(tmp_path_factory.mktemp("t"), seed)
    grid = [0.02, 0.3, 0.5, 0.77, 0.95, 0.999]
    swept = scores_at(gold, iter(found), grid)
    for row, threshold in zip(swept, grid, strict=True):
        decided = [MaskPrediction(p.id, mask=to_mask(p, threshold)) for p in found]
        figures = score(gold, decided).scores
        assert row == pytest.approx([figures[name] for name in MASK_SCORES], abs=1e-12)


def test_pixels_on_a_threshold_are_background(tmp_path: Path) -> None:
    """As in to_mask, in single precision: 0.43 does not lie above 0.43."""
    write_mask(tmp_path / "a.tiff", np.array([[0, 0, 1]], np.uint8))
    gold = MaskGold("g", {"I": GoldImage("E", {"ann0": tmp_path / "a.tiff"})})
    one = MaskPrediction("I", np.array([[0.1, 0.43, 0.6]], np.float32))
    at = scores_at(gold, [one], [0.42, 0.43, 0.6, 0.7])
    assert at[:, MASK_SCORES.index("dice")] == pytest.approx([2 / 3, 1, 1, 1])


@pytest.mark.parametrize("figure", MASK_SCORES)
def test_the_best_is_the_best_of_the_grid(figure: str, tmp_path: Path) -> None:
    gold, found = drawn(tmp_path, 5, photos=6)
    chosen = best_threshold([(gold, iter(found))], figure, 0.5)
    grid = sorted({*GRID, 0.5})
    values = scores_at(gold, found, grid)[:, MASK_SCORES.index(figure)]
    assert chosen.settings["threshold"] in grid
    assert chosen.after == values.max() == values[grid.index(chosen.settings["threshold"])]
    assert chosen.before == values[grid.index(0.5)]
    assert (chosen.score, chosen.fixed) == (figure, 0.5)


def test_of_equals_the_nearest_to_the_fixed_one(tmp_path: Path) -> None:
    write_mask(tmp_path / "a.tiff", np.array([[0, 1]], np.uint8))
    gold = MaskGold("g", {"I": GoldImage("E", {"ann0": tmp_path / "a.tiff"})})
    sure = MaskPrediction("I", np.array([[0.0, 1.0]], np.float32))
    for fixed in (0.5, 0.37, 0.02):
        assert best_threshold([(gold, [sure])], "dice", fixed).settings["threshold"] == fixed


def test_a_calibrated_map_keeps_what_a_shy_one_lowers(tmp_path: Path) -> None:
    """A model that says 0.35 where the lesion is and 0.1 elsewhere is right below 0.35."""
    mask = np.zeros((20, 20), np.uint8)
    mask[5:15, 5:15] = 1
    write_mask(tmp_path / "a.tiff", mask)
    gold = MaskGold("g", {"I": GoldImage("E", {"ann0": tmp_path / "a.tiff"})})
    shy = np.where(mask == 1, 0.35, 0.1).astype(np.float32)
    shy[5, 5] = 0.6
    chosen = best_threshold([(gold, [MaskPrediction("I", shy)])], "dice", 0.5)
    assert 0.1 <= chosen.settings["threshold"] < 0.35
    assert chosen.after == 1
    assert chosen.before == pytest.approx(2 / 101)


def test_other_photos_are_left_out_and_nan_is_named(tmp_path: Path) -> None:
    gold, found = drawn(tmp_path, 1)
    other = MaskPrediction("J", np.ones((2, 2), np.float32))
    assert np.array_equal(scores_at(gold, [other, *found], [0.5]), scores_at(gold, found, [0.5]))
    with pytest.raises(DataError, match="training diverged"):
        scores_at(gold, [MaskPrediction("I0", np.full((2, 2), np.nan, np.float32), shape=found[0].shape)], [0.5])


def test_memory_does_not_grow_with_photos(tmp_path: Path) -> None:
    write_mask(tmp_path / "a.tiff", np.eye(300, dtype=np.uint8))
    images = {f"I{n}": GoldImage("E", {"ann0": tmp_path / "a.tiff"}) for n in range(30)}
    gold = MaskGold("g", images)

    def stream(count: int) -> Iterator[MaskPrediction]:
        for n in range(count):
            yield MaskPrediction(f"I{n}", np.full((300, 300), 0.4, np.float32))

    def peak(count: int) -> int:
        tracemalloc.start()
        scores_at(gold, stream(count), GRID)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(1)
    assert peak(30) < peak(2) + 6 * 300 * 300
