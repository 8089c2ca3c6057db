"""A dataset of photos and masks alone, or of photos and labels: what every verb does with it, or the line it says."""

from pathlib import Path

import pytest
from raw_folder import make_folder
from run_options import predict_options, train_options

import magic_cli
from magic_cli.data.prepared import open_prepared
from magic_cli.errors import DataError, EmptySplit

IDS = [f"ISIC_{number:07}" for number in range(1, 17)]
PHOTOS = [f"ISIC-2017_Training_Data/{name}.jpg" for name in IDS]
MASKS = [f"ISIC-2017_Training_Part1_GroundTruth/{name}_segmentation.png" for name in IDS]
TRUTH = "image_id,melanoma,seborrheic_keratosis\n" + "".join(f"{name},0.0,0.0\n" for name in IDS)
TABLES = {"ISIC-2017_Training_Part3_GroundTruth.csv": TRUTH}
SETTINGS = ("epochs=2", "batch_size=4")


@pytest.fixture(scope="module")
def masks_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared dataset with masks and labels, without anybody's words and closed questions."""
    root = tmp_path_factory.mktemp("isic")
    magic_cli.prepare(make_folder(root / "raw", TABLES, PHOTOS, MASKS), root / "isic")
    return root / "isic"


@pytest.fixture(scope="module")
def labels_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without masks."""
    root = tmp_path_factory.mktemp("labels")
    magic_cli.prepare(make_folder(root / "raw", TABLES, PHOTOS), root / "labels")
    return root / "labels"


@pytest.fixture(scope="module")
def checkpoint(masks_only: Path, drawn_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on it, together with a dataset that has texts and questions."""
    out = tmp_path_factory.mktemp("run")
    options = train_options(out / "cache", *SETTINGS, data_weights=[1, 0.5])
    result = magic_cli.train("seg", [masks_only, drawn_prepared], out / "seg", options)
    assert [dataset.name for dataset in result.datasets] == ["isic", "prepared"]
    return out / "seg" / "best.pt"


def test_masks_are_learned_predicted_scored_and_packed(masks_only: Path, checkpoint: Path, tmp_path: Path) -> None:
    prepared = open_prepared(masks_only)
    assert not prepared.questions.slots
    assert all(case.answers is None and not case.answer for case in prepared.cases.values())
    alone = magic_cli.train("seg", masks_only, tmp_path / "seg", train_options(tmp_path / "cache", *SETTINGS))
    assert alone.following.startswith(f"magic predict seg --ckpt {alone.checkpoint} --data {masks_only} ")
    for split in ("valid", "test"):
        out, options = tmp_path / split, predict_options(tmp_path / "cache")
        predicted = magic_cli.predict("seg", [alone.checkpoint or "", checkpoint], masks_only, split, out, options)
        assert predicted.files == len(prepared.images_of(split)) > 0
        assert predicted.following == f"magic score {out} {masks_only} --split {split}"
        report = magic_cli.score(out, masks_only, magic_cli.ScoreOptions(split=split, out=tmp_path / f"{split}-report"))
        [scores] = report.systems[0].tasks
        assert (scores.task, scores.scores["number_segmentation_instances"]) == ("seg", predicted.files)
    packed = magic_cli.package(seg=tmp_path / "test", data=masks_only, out=tmp_path / "masks.zip")
    assert packed.notes == [
        f"{masks_only} has no closed questions: no submission to the challenge, but masks in its layout."
    ]
    assert not any("upload" in line for line in packed.lines())


def test_folds_of_masks_alone(masks_only: Path, tmp_path: Path) -> None:
    options = train_options(tmp_path / "cache", "epochs=1")
    result = magic_cli.cross_validate("seg", 2, masks_only, tmp_path / "folds", options)
    assert result.scores is not None
    assert result.scores.encounters == len(open_prepared(masks_only).cases_of("train"))


def test_closed_questions_are_refused(masks_only: Path, drawn_prepared: Path, tmp_path: Path) -> None:
    options = train_options(None, "epochs=1", modality="text")
    for data in (masks_only, [masks_only, drawn_prepared]):
        with pytest.raises(DataError, match=r"no closed questions|other closed questions"):
            magic_cli.train("cvqa", data, tmp_path / "run", options)
    made = magic_cli.train("cvqa", drawn_prepared, tmp_path / "cvqa", options)
    with pytest.raises(
        DataError, match=r"isic: got no closed questions, expected those that .*best\.pt was trained on"
    ):
        magic_cli.predict(
            "cvqa", made.checkpoint or "", masks_only, out=tmp_path / "out", options=predict_options(None)
        )


def test_labels_alone_are_predicted_and_neither_learned_nor_scored(
    labels_only: Path, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(EmptySplit, match="got none in split 'train', expected photos with masks; prepare"):
        magic_cli.train("seg", labels_only, tmp_path / "run", train_options(None, "epochs=1"))
    predicted = magic_cli.predict("seg", checkpoint, labels_only, out=tmp_path / "test", options=predict_options(None))
    assert (predicted.files, predicted.following) == (len(open_prepared(labels_only).images_of("test")), "")
    with pytest.raises(DataError, match="no masks and no answers for split 'test', expected gold; no split has any"):
        magic_cli.score(tmp_path / "test", labels_only, magic_cli.ScoreOptions(split="test"))
