"""A second look at small lesions: which part of a photo is seen again, and what both looks give together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from run_options import predict_options, train_options

from magic_cli.commands.predict import predictions
from magic_cli.commands.train import train
from magic_cli.config import resolve
from magic_cli.data.imaging.images import open_record
from magic_cli.data.imaging.probability_maps import resize_map
from magic_cli.data.prepared import open_prepared
from magic_cli.errors import ConfigError
from magic_cli.records import Case, ImageRecord, Prediction, Sample
from magic_cli.tasks import get
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.tasks.seg.decide import MaskPrediction, full_map
from magic_cli.tasks.seg.model import SegModel
from magic_cli.tasks.seg.second_look import both_looks, closer
from magic_cli.training.restoring import restored
from magic_cli.training.task import of_class

seg = get("seg")


def photo(path: Path, size: tuple[int, int]) -> ImageRecord:
    """Return a photo of (width, height) whose red tells the column, and whose green tells the row."""
    width, height = size
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    Image.fromarray(np.stack([columns, rows, 0 * rows], -1).astype(np.uint8)).save(path)
    return ImageRecord("i", "c", "test", str(path), height, width)


def sample(record: ImageRecord) -> Sample:
    return Sample(record.image_id, Case(record.case_id, record.split, (record.image_id,)), (record,))


def found(rows: slice, columns: slice, size: int = 64) -> MaskPrediction:
    probability = np.full((size, size), 0.1, np.float32)
    probability[rows, columns] = 0.9
    return MaskPrediction("i", probability, shape=(100, 200))


def test_the_part_is_around_the_first_mask_and_has_the_proportions_of_the_photo(tmp_path: Path) -> None:
    whole = sample(photo(tmp_path / "i.png", (200, 100)))
    part = closer(whole, found(slice(24, 40), slice(8, 24)), 2.0)  # a quarter of both sides
    assert part is not None
    assert part.images[0].box == (0.0, 0.25, 0.5, 0.75)
    pixels = np.asarray(open_record(part.images[0]))
    assert pixels.shape == (50, 100, 3)
    assert pixels[0, 0].tolist() == [0, 25, 0]
    assert pixels[-1, -1].tolist() == [99, 74, 0]
    assert part.id == whole.id


def test_a_part_at_the_border_is_moved_inside(tmp_path: Path) -> None:
    whole = sample(photo(tmp_path / "i.png", (200, 100)))
    part = closer(whole, found(slice(0, 16), slice(50, 64)), 2.0)
    assert part is not None
    assert part.images[0].box == (0.5, 0.0, 1.0, 0.5)


@pytest.mark.parametrize(
    ("rows", "columns"),
    [(slice(0, 0), slice(0, 0)), (slice(4, 60), slice(30, 34)), (slice(0, 64), slice(0, 64))],
    ids=["nothing found", "long", "everything"],
)
def test_one_look_is_enough_for_nothing_and_for_large_lesions(tmp_path: Path, rows: slice, columns: slice) -> None:
    whole = sample(photo(tmp_path / "i.png", (200, 100)))
    assert closer(whole, found(rows, columns), 2.0) is None


def test_the_smallest_part_is_no_blur(tmp_path: Path) -> None:
    part = closer(sample(photo(tmp_path / "i.png", (200, 100))), found(slice(31, 32), slice(31, 32)), 2.0)
    assert part is not None
    left, top, right, bottom = part.images[0].box or ()
    assert right - left == bottom - top == pytest.approx(0.15, abs=0.01)
    assert left < 31.5 / 64 < right


def test_a_part_of_a_photo_has_a_cache_key_of_its_own(tmp_path: Path) -> None:
    whole = photo(tmp_path / "i.png", (200, 100))
    keyed = replace(whole, sha256="abc")
    assert replace(keyed, box=(0.0, 0.0, 0.5, 0.5)).content_key not in (
        "abc",
        replace(keyed, box=(0, 0, 1, 1)).content_key,
    )
    assert replace(whole, box=(0.0, 0.0, 0.5, 0.5)).content_key == ""  # nothing identifies it


def test_both_looks_are_averaged_where_both_looked(tmp_path: Path) -> None:
    whole, first = sample(photo(tmp_path / "i.png", (200, 100))), found(slice(24, 40), slice(8, 24))
    part = closer(whole, first, 2.0)
    assert part is not None
    second = MaskPrediction("i", np.full((64, 64), 0.5, np.float32), shape=(100, 200))
    both = both_looks(first, second, part)
    assert both.probability is not None
    assert both.probability.shape == (128, 128)  # as fine as the part was seen
    assert both.probability[:32].max() == pytest.approx(0.1)
    assert both.probability[32:96, :64].min() == pytest.approx((0.1 + 0.5) / 2)
    assert both.probability[60:68, 28:36] == pytest.approx((0.9 + 0.5) / 2)
    assert full_map(both).shape == (100, 200)
    assert first.probability is not None
    assert first.probability.shape == (64, 64)  # the first look is left alone


@pytest.fixture(scope="module")
def run(drawn_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("zoom")
    train("seg", drawn_prepared, out, train_options(out / "cache", "epochs=1", "batch_size=4", "zoom=2", "tta=flips"))
    return out / "best.pt"


def middle(row: Sample) -> Sample:
    return replace(row, images=(replace(row.images[0], box=(0.25, 0.25, 0.75, 0.75)),))


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Every other photo is seen again in the middle (what a tiny model finds is chance); those asked for."""
    asked: dict[str, int] = {}

    def of_middle(_: SegModel, row: Sample, first: Prediction, factor: float) -> Sample | None:
        assert (row.id, factor) == (first.id, 2.0)
        return None if asked.setdefault(row.id, len(asked)) % 2 else middle(row)

    monkeypatch.setattr(SegModel, "closer", of_middle)
    return asked


def maps(ckpts: list[Path], data: Path, **options: object) -> dict[str, np.ndarray]:
    made = predictions("seg", ckpts, open_prepared(data), "valid", predict_options(None, **options))
    return {row.id: row.probability for row in made if isinstance(row, MaskPrediction) and row.probability is not None}


def test_prediction_is_the_mean_of_views_of_photo_and_part(
    run: Path, drawn_prepared: Path, parts: dict[str, int]
) -> None:
    prepared = open_prepared(drawn_prepared)
    once, twice = maps([run], drawn_prepared, zoom=0.0), maps([run], drawn_prepared)
    assert list(once) == list(twice)
    assert list(once) == list(parts)
    model, config = restored(run, seg, prepared)
    model.eval()
    for number, row in enumerate(seg.prediction_samples(prepared, "valid", config)):
        first, part = MaskPrediction(row.id, once[row.id]), middle(row)
        if number % 2:
            assert np.array_equal(twice[row.id], once[row.id])
            continue
        with torch.inference_mode():
            views = [of_class(model.predict(model.collate([part], [v]), v)[0], MaskPrediction) for v in range(4)]
        expected = both_looks(first, MaskPrediction.mean_of(views), part)
        assert expected.probability is not None
        assert np.allclose(twice[row.id], expected.probability, atol=1e-5)
        assert np.abs(twice[row.id] - enlarged(once[row.id])).max() > 1e-4


def enlarged(once: np.ndarray) -> np.ndarray:
    return resize_map(once, (2 * once.shape[0], 2 * once.shape[1]))


def test_of_several_models_those_that_look_twice_do(
    run: Path, drawn_prepared: Path, tmp_path: Path, parts: dict[str, int]
) -> None:
    train("seg", drawn_prepared, tmp_path / "other", train_options(None, "epochs=1", "batch_size=4", "seed=3"))
    other = tmp_path / "other" / "best.pt"
    assert {array.shape for array in maps([other], drawn_prepared).values()} == {(64, 64)}
    assert parts == {}
    both, once = maps([other, run], drawn_prepared), maps([other, run], drawn_prepared, zoom=0.0)
    twice, alone = maps([run], drawn_prepared), maps([run], drawn_prepared, zoom=0.0)
    for number, name in enumerate(both):
        if number % 2:
            assert np.array_equal(both[name], once[name])
            continue
        seen, first = slice(32, 96), enlarged(once[name])
        assert np.allclose(np.delete(both[name], seen, 0), np.delete(first, seen, 0), atol=1e-6)
        second = 2 * twice[name][seen, seen] - enlarged(alone[name])[seen, seen]
        assert np.allclose(both[name][seen, seen], (first[seen, seen] + second) / 2, atol=1e-5)


@pytest.mark.parametrize("zoom", ["0.5", "1", "-1", "17"])
def test_a_part_smaller_than_the_lesion_is_refused(zoom: str) -> None:
    with pytest.raises(ConfigError, match=r"^zoom: got .*expected"):
        resolve(SegConfig, "tiny", [f"zoom={zoom}"])
