"""Masks in words, presence and grounding: from a pretraining on drawn photos to official masks and their scores."""

from pathlib import Path

import numpy as np
import pytest
from run_options import predict_options, train_options
from small_models import save_clip, save_sam

from magic_cli.commands.predict import PredictOptions, predict
from magic_cli.commands.rerun import rerun
from magic_cli.commands.score import ScoreOptions, score
from magic_cli.commands.train import train
from magic_cli.data.imaging.masks import read_mask
from magic_cli.data.prepared import open_prepared
from magic_cli.errors import CheckpointError, ConfigError, WeightsError
from magic_cli.io import schema
from magic_cli.io.json_files import read_json
from magic_cli.records import TaskScores
from magic_cli.report.score_report import ScoreReport

FEW = ScoreOptions(resamples=100)


@pytest.fixture(scope="module")
def run(drawn_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A best.pt of pretraining, for one epoch, on drawn photos with masks and texts."""
    out = tmp_path_factory.mktemp("words") / "pretrain"
    train("pretrain", drawn_prepared, out, train_options(None, "epochs=1"))
    return out / "best.pt"


def words(text: str = "a red spot", **more: object) -> PredictOptions:
    return predict_options(None, zero_shot=text, **more)


def masks_in(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: read_mask(path) for path in sorted((folder / "masks_preds").iterdir())}


def scores_of(report: ScoreReport, task: str) -> TaskScores:
    found = report.systems[0].of(task)
    assert found is not None
    return found


def test_masks_in_words_are_official_masks(run: Path, drawn_prepared: Path, tmp_path: Path) -> None:
    result = predict("seg", run, drawn_prepared, "valid", tmp_path / "words", words(background="skin"))
    photos = open_prepared(drawn_prepared).images_of("valid")
    assert result.files == len(photos)
    for record, mask in zip(photos, masks_in(tmp_path / "words").values(), strict=True):
        assert mask.shape == (record.height, record.width)
        assert 0 < mask.sum() < mask.size
    report = score(tmp_path / "words", drawn_prepared, FEW)
    assert 0 < scores_of(report, "seg").scores["dice_meanofmax"] < 1
    record = read_json(tmp_path / "words" / "run.json")
    assert record["settings"].items() >= {"zero_shot_text": "a red spot", "zero_shot_background": "skin"}.items()
    again = rerun(tmp_path / "words", tmp_path / "again")
    assert masks_in(Path(again.out)).keys() == masks_in(tmp_path / "words").keys()


def test_what_is_said_and_how_it_is_looked_for_matters(run: Path, drawn_prepared: Path, tmp_path: Path) -> None:
    options = {
        "spot": words(),
        "other": words("something else entirely"),
        "gradient": words(saliency="gradient"),
        "half": words(threshold=0.5),
        "high": words(threshold=0.9),
        "views": words(tta=True),
    }
    found = {}
    for name, each in options.items():
        predict("seg", run, drawn_prepared, "valid", tmp_path / name, each)
        found[name] = masks_in(tmp_path / name)
    for name in options.keys() - {"spot"}:
        assert any(not np.array_equal(found["spot"][k], found[name][k]) for k in found["spot"]), name
    assert all((found["high"][k] <= found["half"][k]).all() for k in found["half"])


def test_sam_makes_masks_of_the_boxes(run: Path, drawn_prepared: Path, tmp_path: Path) -> None:
    save_sam(tmp_path / "dir" / "sam-vit-base")
    options = words(sam="facebook/sam-vit-base", weights=tmp_path / "dir")
    predict("seg", run, drawn_prepared, "valid", tmp_path / "sam", options)
    predict("seg", run, drawn_prepared, "valid", tmp_path / "plain", words())
    boxed, plain = masks_in(tmp_path / "sam"), masks_in(tmp_path / "plain")
    assert boxed.keys() == plain.keys()
    assert any(not np.array_equal(boxed[name], plain[name]) for name in plain)
    save_clip(tmp_path / "wrong" / "sam-vit-base")
    with pytest.raises(WeightsError, match="a model of type 'clip'"):
        predict("seg", run, drawn_prepared, "valid", tmp_path / "x", words(sam=options.sam, weights=tmp_path / "wrong"))
    with pytest.raises(WeightsError, match=r"^--sam /nowhere: got no such name, expected owner/model"):
        predict("seg", run, drawn_prepared, "valid", tmp_path / "x", words(sam="/nowhere", weights=tmp_path / "dir"))


def test_own_photos_in_words(run: Path, drawn_prepared: Path, tmp_path: Path) -> None:
    photo = next(image.path for image in open_prepared(drawn_prepared).images_of("valid"))
    assert photo is not None
    result = predict("seg", run, out=tmp_path / "own", options=words(images=[photo]))
    assert result.photos is not None
    assert result.photos.predicted == 1
    assert len(masks_in(tmp_path / "own")) == 1


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"background": "skin", "sam": "a/b"}, r"got --background, --sam without --zero-shot"),
        ({"zero_shot": " "}, r"^--zero-shot: got no words"),
        ({"zero_shot": "skin", "background": "skin "}, r"^--background: got the same text"),
        ({"zero_shot": "spot", "saliency": "magic"}, r"^--saliency: got magic, expected similarity or gradient"),
    ],
)
def test_what_is_asked_wrongly_is_refused(options: dict[str, str], line: str, run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=line):
        predict("seg", run, tmp_path, "valid", tmp_path / "out", predict_options(None, **options))


def test_models_of_other_tasks_are_refused(run: Path, drawn_prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="pretrain"):
        predict("seg", run, drawn_prepared, "valid", tmp_path / "out", predict_options(None))
    with pytest.raises(ConfigError, match="--zero-shot: of another task than 'pretrain'"):
        predict("pretrain", run, drawn_prepared, "valid", tmp_path / "out", words())


def test_presence_and_grounding_are_scored(run: Path, drawn_prepared: Path, tmp_path: Path) -> None:
    options = predict_options(None, presence=True, classes="melanoma, nevus")
    predict("pretrain", run, drawn_prepared, "valid", tmp_path / "pairs", options)
    lines = (tmp_path / "pairs" / "presence.csv").read_text().splitlines()
    assert lines[0] == "image_id,melanoma,nevus"
    values = np.array([[float(cell) for cell in line.split(",")[1:]] for line in lines[1:]])
    assert (np.abs(values) <= 1).all()
    report = score(tmp_path / "pairs", drawn_prepared, FEW)
    scores = scores_of(report, "pretrain")
    names = ("grounding_cnr", "grounding_abs_cnr", "grounding_miou")
    assert scores.extra.keys() >= set(names)
    assert scores.extra["grounding_abs_cnr"] >= abs(scores.extra["grounding_cnr"])
    for trivial in ("training mean mask", "another photo's map"):
        assert scores.baselines[trivial].keys() >= set(names)
    assert scores.intervals.keys() >= set(names)
    assert schema.problems("report", {"schema": 1, **report.to_json()}, "report") == []
