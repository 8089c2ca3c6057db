"""benchmarks/stress.py: what a stress does to a photo, turns undone on the mask, and the tables of both tasks."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from benchmark_scripts import benchmark
from PIL import Image
from run_options import predict_options, train_options

from magic_cli import tasks
from magic_cli.commands import train
from magic_cli.commands.predict import predictions
from magic_cli.data.imaging.images import open_record
from magic_cli.data.prepared import open_prepared
from magic_cli.errors import DataError


@pytest.fixture(scope="module")
def stress() -> ModuleType:
    return benchmark("stress")


@pytest.mark.parametrize("size", [(60, 90), (41, 24), (12, 80)])
@pytest.mark.parametrize("name", ["turned by 10°", "turned by 30°", "reflected margins as for 30°", "turned by 90°"])
def test_what_is_turned_comes_back_where_it_was(stress: ModuleType, name: str, size: tuple[int, int]) -> None:
    rows, columns = np.indices(size)
    ramp = (rows * 2 + columns).astype(np.uint8)  # changes slowly, so that interpolation hardly changes it
    turn = stress.TURNS[name]
    there = turn.there(Image.fromarray(np.dstack([ramp] * 3)))
    assert (there.height, there.width) == turn.shape(*size)
    back = turn.back(np.asarray(there)[:, :, 0].astype(np.float32), size)
    assert back.shape == size
    inner = (slice(2, -2),) * 2  # the ramp folds back at its border
    assert np.abs(back - ramp)[inner].max() <= 2
    assert np.abs(back - ramp).max() <= 4


def test_each_stress_changes_the_photos_of_the_split_alone(stress: ModuleType, drawn_prepared: Path) -> None:
    prepared = open_prepared(drawn_prepared)
    record = next(image for image in prepared.images_of("valid") if image.path is not None)
    plain = np.asarray(open_record(record), np.float32)
    keys = set()
    for name in stress.STRESSES:
        altered = stress.stressed(prepared, "valid", name)
        assert altered.images_of("train") == prepared.images_of("train")
        own = altered.images[record.image_id]
        photo = np.asarray(open_record(own), np.float32)
        assert photo.shape == (own.height, own.width, 3)
        assert (name == "none") == np.array_equal(photo, plain)
        keys.add(own.content_key)
    assert len(keys) == len(stress.STRESSES)
    mean = {
        name: np.asarray(open_record(stress.stressed(prepared, "valid", name).images[record.image_id])).mean((0, 1))
        for name in ("none", "brightness -30 %", "warm light")
    }
    assert np.allclose(mean["brightness -30 %"], 0.7 * mean["none"], atol=1)
    assert mean["warm light"][0] > mean["none"][0]
    assert mean["warm light"][2] < mean["none"][2]


@pytest.mark.parametrize("task", ["seg", "cvqa"])
def test_prints_a_table(
    stress: ModuleType, task: str, drawn_prepared: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train.train(task, drawn_prepared, tmp_path / "run", train_options(tmp_path / "cache", "epochs=1"))
    best, names = tmp_path / "run" / "best.pt", ["JPEG, quality 10", "turned by 30°", "turned by 90°"]
    stress.main([task, str(best), str(drawn_prepared), "--tta", "none", "--only", *names])
    lines = capfd.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines if line.startswith("| ")] == [
        "| photos",
        *(f"| {n}" for n in ["none", *names]),
    ]
    assert len({line.count("|") for line in lines[: len(names) + 3]}) == 1
    assert lines[-1].startswith("3 encounters. no 95 % intervals")
    prepared, known = open_prepared(drawn_prepared), tasks.get(task)
    usual = known.score(
        known.gold(prepared, "valid"), predictions(task, [best], prepared, "valid", predict_options(None, tta=False))
    )
    shown = next(iter(stress.SHOWN[task]))
    assert lines[2].split(" | ")[1] == f"{usual.scores[shown]:.3f}"


def test_a_missing_split_is_named(stress: ModuleType, drawn_prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--split"):
        stress.stressed(open_prepared(drawn_prepared), "validation", "none")
