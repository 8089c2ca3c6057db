"""A second look at small lesions: which part of a photo is seen again, and what both looks give together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from run_options import predict_options, train_options

from magic_cli.commands.predict import predict, predictions
from magic_cli.commands.train import train
from magic_cli.config import resolve
from magic_cli.data.imaging.images import Box, open_record
from magic_cli.data.imaging.probability_maps import resize_map
from magic_cli.data.prepared import open_prepared
from magic_cli.errors import ConfigError
from magic_cli.records import ImageRecord, Prediction, Sample
from magic_cli.tasks import get
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.tasks.seg.decide import MaskPrediction, full_map
from magic_cli.tasks.seg.model import SegModel
from magic_cli.tasks.seg.second_look import both_looks, closer
from magic_cli.training.devices import accelerator_for
from magic_cli.training.inference import Look, look_again
from magic_cli.training.restoring import restored
from magic_cli.training.task import of_class
from magic_cli.training.task_model import Batch

seg = get("seg")

MIDDLE = (0.25, 0.25, 0.75, 0.75)


@dataclass(frozen=True)
class Ids(Batch):
    ids: list[str]


def photo(path: Path, size: tuple[int, int]) -> ImageRecord:
    """Return a photo of (width, height) whose red tells the column, and whose green tells the row."""
    width, height = size
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    Image.fromarray(np.stack([columns, rows, 0 * rows], -1).astype(np.uint8)).save(path)
    return ImageRecord("i", "c", "test", str(path), height, width)


def found(rows: slice, columns: slice, size: int = 64) -> MaskPrediction:
    probability = np.full((size, size), 0.1, np.float32)
    probability[rows, columns] = 0.9
    return MaskPrediction("i", probability, shape=(100, 200))


def test_the_part_is_around_the_first_mask_and_has_the_proportions_of_the_photo(tmp_path: Path) -> None:
    box = closer(found(slice(24, 40), slice(8, 24)), 2.0)  # a quarter of both sides
    assert box == (0.0, 0.25, 0.5, 0.75)
    pixels = np.asarray(open_record(replace(photo(tmp_path / "i.png", (200, 100)), box=box)))
    assert pixels.shape == (50, 100, 3)
    assert pixels[0, 0].tolist() == [0, 25, 0]
    assert pixels[-1, -1].tolist() == [99, 74, 0]


def test_a_part_at_the_border_is_moved_inside() -> None:
    assert closer(found(slice(0, 16), slice(50, 64)), 2.0) == (0.5, 0.0, 1.0, 0.5)


@pytest.mark.parametrize(
    ("rows", "columns"),
    [(slice(0, 0), slice(0, 0)), (slice(4, 60), slice(30, 34)), (slice(0, 64), slice(0, 64))],
    ids=["nothing found", "long", "everything"],
)
def test_one_look_is_enough_for_nothing_and_for_large_lesions(rows: slice, columns: slice) -> None:
    assert closer(found(rows, columns), 2.0) is None


def test_the_smallest_part_is_no_blur() -> None:
    left, top, right, bottom = closer(found(slice(31, 32), slice(31, 32)), 2.0) or ()
    assert right - left == bottom - top == pytest.approx(0.15, abs=0.01)
    assert left < 31.5 / 64 < right


def test_a_part_of_a_photo_has_a_cache_key_of_its_own(tmp_path: Path) -> None:
    whole = photo(tmp_path / "i.png", (200, 100))
    keys = {
        replace(whole, sha256="abc", box=box).content_key for box in (None, (0.0, 0.0, 0.5, 0.5), (0.5, 0.5, 1.0, 1.0))
    }
    assert len(keys) == 3
    assert replace(whole, box=(0.0, 0.0, 0.5, 0.5)).content_key == ""  # nothing identifies it


def test_both_looks_are_averaged_where_both_looked() -> None:
    first, box = found(slice(24, 40), slice(8, 24)), (0.0, 0.25, 0.5, 0.75)
    first = replace(first, shape=(128, 256))
    both = both_looks(first, MaskPrediction("i", np.full((64, 64), 0.5, np.float32)), box)
    assert both.probability is not None
    assert both.probability.shape == (128, 128)  # as fine as the part was seen
    assert both.probability[:32].max() == pytest.approx(0.1)
    assert both.probability[32:96, :64].min() == pytest.approx((0.1 + 0.5) / 2)
    assert both.probability[60:68, 28:36] == pytest.approx((0.9 + 0.5) / 2)
    assert full_map(both).shape == (128, 256)
    assert first.probability is not None
    assert first.probability.shape == (64, 64)  # the first look is left alone


@pytest.mark.parametrize(("shape", "finer"), [((64, 64), 1), ((100, 200), 1), ((130, 500), 2), ((4000, 3000), 4)])
def test_the_map_of_both_looks_is_no_finer_than_the_photo(shape: tuple[int, int], finer: int) -> None:
    first, box = replace(found(slice(24, 40), slice(8, 24)), shape=shape), (0.25, 0.25, 0.45, 0.45)
    both = both_looks(first, MaskPrediction("i", np.zeros((64, 64), np.float32)), box)
    assert both.probability is not None
    assert both.probability.shape == (64 * finer, 64 * finer)


@pytest.fixture(scope="module")
def run(drawn_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("zoom")
    train("seg", drawn_prepared, out, train_options(out / "cache", "epochs=1", "batch_size=4", "zoom=2", "tta=flips"))
    return out / "best.pt"


def middle(row: Sample) -> Sample:
    return replace(row, images=(replace(row.images[0], box=MIDDLE),))


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Every other photo is seen again in the middle (what a tiny model finds is chance); those asked for."""
    asked: dict[str, int] = {}

    def of_middle(_: SegModel, first: Prediction, factor: float) -> Box | None:
        assert factor == 2.0
        return None if asked.setdefault(first.id, len(asked)) % 2 else MIDDLE

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
        shape = row.images[0].height, row.images[0].width
        first, part = MaskPrediction(row.id, once[row.id], shape=shape), middle(row)
        if number % 2:
            assert np.array_equal(twice[row.id], once[row.id])
            continue
        with torch.inference_mode():
            views = [of_class(model.predict(model.collate([part], [v]), v)[0], MaskPrediction) for v in range(4)]
        expected = both_looks(first, MaskPrediction.mean_of(views), MIDDLE)
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


def test_each_model_reads_its_own_text_in_both_looks(
    run: Path, drawn_prepared: Path, tmp_path: Path, parts: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("epochs=1", "batch_size=4", "zoom=2", "tta=flips", "prompt=p9")
    train("seg", drawn_prepared, tmp_path / "told", train_options(None, *settings))
    told = tmp_path / "told" / "best.pt"
    forth, back = maps([run, told], drawn_prepared), maps([told, run], drawn_prepared)
    assert all(np.allclose(forth[name], back[name], atol=1e-6) for name in parts)
    alone = [maps([path], drawn_prepared) for path in (run, told)]
    for name, number in parts.items():
        if number % 2 == 0:
            assert np.allclose(forth[name], np.mean([own[name] for own in alone], 0), atol=1e-6)


def test_who_learned_from_a_photo_does_not_look_at_it_again(drawn_prepared: Path) -> None:
    """Unless all did; and nobody does where the only model that did not learn from it looks once."""
    once, twice = resolve(SegConfig, "tiny"), resolve(SegConfig, "tiny", ["zoom=2"])
    rows = seg.prediction_samples(open_prepared(drawn_prepared), "valid", twice)[:3]

    def looked(*known: tuple[float, SegConfig, set[str]]) -> list[float]:
        looks = [Look(Constant(value), config, rows, (0,), learned) for value, config, learned in known]
        firsts = [MaskPrediction(row.id, np.zeros((4, 4), np.float32)) for row in rows]
        found = look_again(firsts, looks, accelerator_for(twice, "cpu"))
        return [float(of_class(row, MaskPrediction).probability.max()) for row in found]  # type: ignore[union-attr]

    a, b = rows[0].id, rows[1].id
    assert looked((0.2, twice, {a}), (0.6, twice, {b})) == pytest.approx([0.3, 0.1, 0.2])  # halves of 0.6, 0.2, 0.4
    assert looked((0.2, twice, {a}), (0.6, once, {b})) == pytest.approx([0.0, 0.1, 0.1])
    assert looked((0.2, twice, {a}), (0.6, twice, {a})) == pytest.approx([0.2, 0.2, 0.2])


class Constant(SegModel):
    """A model that finds the same probability everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__(resolve(SegConfig, "tiny"))
        self.value = value

    def closer(self, *_: object) -> Box | None:
        return MIDDLE

    def collate(self, samples: Sequence[Sample], *_: object) -> Ids:
        return Ids([sample.id for sample in samples])

    def predict(self, batch: Batch, *_: object) -> list[MaskPrediction]:
        return [MaskPrediction(name, np.full((4, 4), self.value, np.float32)) for name in of_class(batch, Ids).ids]


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("cvqa", {"zoom": 2.0}, r"^--zoom: of another task than 'cvqa'"),
        ("seg", {"zoom": 2.0, "zero_shot": "lesion"}, r"^--zoom: of another task than 'seg', or of other options"),
    ],
)
def test_what_has_no_second_look_says_so(run: Path, task: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        predict(task, run, options=predict_options(None, **options))


@pytest.mark.parametrize("zoom", [float("nan"), -1.0, 0.5, 1.0, 17.0])
def test_a_zoom_out_of_range_is_one_line(zoom: float) -> None:
    with pytest.raises(ConfigError, match=r"^--zoom: got .*, expected 0 for one look, or a number above 1 to 16"):
        predict_options(None, zoom=zoom)
