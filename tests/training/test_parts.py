"""Training on several datasets: each scored by itself, the best epoch by their mean, stopped, resumed and repeated."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from run_options import train_options
from stopped_runs import stop_after
from typer.testing import CliRunner

import magic_cli
from magic_cli.cli.app import app
from magic_cli.commands.prepare import prepare
from magic_cli.config import resolve
from magic_cli.data.datasets import open_datasets
from magic_cli.data.prepared import open_prepared
from magic_cli.data.sources.synthetic.dataset import draw_dataset
from magic_cli.errors import CheckpointError, DataError, Interrupted
from magic_cli.io import schema
from magic_cli.io.json_files import read_jsonl, write_jsonl
from magic_cli.tasks import get
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.training.parts import data_of, groups, mean_scores, split_train_valid

seg = get("seg")
SETTINGS = ("lr=0.01", "threshold_for=dice")
WEIGHTS = (0.5, 2)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset whose cases and photos have the same ids as those of `drawn_prepared`, and are others."""
    root = tmp_path_factory.mktemp("other")
    draw_dataset(root / "DermaVQA", {"train": 3, "valid": 2, "test": 1}, seed=7)
    prepare(root / "DermaVQA", root / "small")
    return root / "small"


def train(data: Any, out: Path, *settings: str, task: str = "seg", **options: Any) -> Any:
    given = train_options(out.parent / "cache", "epochs=3", "batch_size=4", *settings, **options)
    return magic_cli.train(task, data, out, given)


@pytest.fixture(scope="module")
def together(drawn_prepared: Path, other: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The folder of a run on both datasets, and its result."""
    out = tmp_path_factory.mktemp("together") / "seg"
    return out, train([drawn_prepared, other], out, *SETTINGS, data_weights=WEIGHTS)


def test_each_dataset_has_its_scores_and_the_mean_chooses(
    together: tuple[Path, Any], drawn_prepared: Path, other: Path
) -> None:
    out, result = together
    rows = read_jsonl(out / "metrics.jsonl")
    names = [dataset.name for dataset in result.datasets]
    assert names == ["prepared", "small"]
    for row in rows:
        for score in ("dice", "dice_meanofmax", "jaccard"):
            assert row[score] == pytest.approx(sum(row[f"{name}/{score}"] for name in names) / 2)
        counts = [row[f"{name}/number_segmentation_instances"] for name in names]
        assert counts == [dataset.valid_samples for dataset in result.datasets]
        assert row["number_segmentation_instances"] == sum(counts)
    best = max(rows, key=lambda row: row["dice_meanofmax"])
    assert result.best["epoch"] == best["epoch"]
    assert [dataset.best["dice"] for dataset in result.datasets] == [best[f"{name}/dice"] for name in names]
    assert [dataset.drawn for dataset in result.datasets] == [
        round(weight * len(seg.training_samples(open_prepared(data), "train", resolve(SegConfig, "tiny"))))
        for data, weight in zip((drawn_prepared, other), WEIGHTS, strict=True)
    ]
    assert result.chosen["after"] >= result.chosen["before"]
    record = json.loads((out / "run.json").read_text())
    assert record["arguments"]["data"] == [str(drawn_prepared), str(other)]
    for data in (drawn_prepared, other):
        assert str(data / "prepare.json") in record["inputs"]
        assert any(name.startswith(str(data / "masks")) for name in record["inputs"])
    assert "datasets" in json.loads((out / "review.json").read_text())
    assert any(line.split() == ["all", *names] for line in result.lines())


def test_a_stopped_run_ends_as_an_unbroken_one_and_other_datasets_are_refused(
    together: tuple[Path, Any], drawn_prepared: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, both = tmp_path / "seg", [drawn_prepared, other]
    with monkeypatch.context() as patch:
        stop_after(patch, 4, signal.SIGINT)
        with pytest.raises(Interrupted, match="--resume"):
            train(both, out, *SETTINGS, data_weights=WEIGHTS)
    for data, weights in ((drawn_prepared, ()), (both, ()), (both[::-1], WEIGHTS[::-1])):
        with pytest.raises(CheckpointError, match="data changed since, or --data or --data-weight is another"):
            train(data, out, resume=True, data_weights=weights)
    train(both, out, resume=True, data_weights=WEIGHTS)
    for name in ("best.pt", "metrics.jsonl", "review.json"):
        assert (out / name).read_bytes() == (together[0] / name).read_bytes(), name


def test_a_run_is_repeated(together: tuple[Path, Any], tmp_path: Path) -> None:
    again = magic_cli.rerun(together[0], tmp_path / "again")
    assert (again.identical, again.compared) == (True, 4)


def test_one_dataset_in_a_list_is_one_dataset(drawn_prepared: Path, tmp_path: Path) -> None:
    one, listed = (train(data, tmp_path / name) for data, name in ((drawn_prepared, "one"), ([drawn_prepared], "list")))
    assert (one.best, one.datasets) == (listed.best, listed.datasets) == (one.best, ())
    for name in ("best.pt", "metrics.jsonl", "review.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "list" / name).read_bytes()


def test_the_command(drawn_prepared: Path, other: Path, tmp_path: Path) -> None:
    """Closed questions of both; the result fits its schema, and has a table of questions for each dataset."""
    words = ["train", "cvqa", "--data", str(drawn_prepared), "--data", str(other), "--preset", "tiny", "--no-cache"]
    words += ["--set", "epochs=1", "--modality", "text", "--device", "cpu", "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert schema.problems("trained", found, "--json") == []
    assert [(row["name"], row["weight"]) for row in found["datasets"]] == [("prepared", 1), ("small", 1)]
    assert found["best"]["accuracy_all"] == pytest.approx(
        sum(row["best"]["accuracy_all"] for row in found["datasets"]) / 2
    )
    assert [found["review"]["datasets"][row["name"]]["encounters"] for row in found["datasets"]] == [3, 2]
    for more, line in ((["--folds", "2"], "--folds"), (["--data-weight", "2"], "got 1 weights, expected none or 2")):
        refused = CliRunner().invoke(app, [*words, *more, "--overwrite"])
        assert refused.exit_code != 0
        assert line in refused.output + str(refused.exception)


def test_other_closed_questions_are_refused(drawn_prepared: Path, other: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(other, other.with_name("changed"))
    questions = json.loads((changed / "questions.json").read_text())
    (changed / "questions.json").write_text(json.dumps(questions).replace("Not mentioned", "Not said"))
    (changed / "prepare.json").write_text((changed / "prepare.json").read_text() + "\n")
    with pytest.raises(DataError, match=r"--data .*changed: got other closed questions, expected those of .*prepared"):
        train([drawn_prepared, changed], tmp_path / "run", task="cvqa")


def test_what_one_dataset_is_scored_on_is_not_learned_from_another(drawn_prepared: Path, other: Path) -> None:
    """A photo of a's split valid among b's training photos would be scored after it was learned."""
    copy = shutil.copytree(other, other.with_name("leaking"))
    valid = {image.sha256 for image in open_prepared(drawn_prepared).images_of("valid")}
    rows = read_jsonl(copy / "images.jsonl")
    leaked = next(row for row in rows if row["split"] == "train")
    leaked["sha256"] = sorted(valid)[0]
    write_jsonl(copy / "images.jsonl", rows)
    (copy / "prepare.json").write_text((copy / "prepare.json").read_text() + "\n")
    config = resolve(SegConfig, "tiny")
    data = data_of(seg, open_datasets([drawn_prepared, copy], (), (), masks=False), config)
    clean = data_of(seg, open_datasets([drawn_prepared, other], (), (), masks=False), config)
    assert (len(data.parts[1].train), clean.notes) == (len(clean.parts[1].train) - 1, [])
    assert leaked["image_id"] not in {sample.id for sample in data.parts[1].train}
    [line] = data.notes
    assert f"leaking: 1 of {len(clean.parts[1].train)} training samples left out ({leaked['image_id']})" in line


def test_held_out_groups_are_whole(drawn_prepared: Path, tmp_path: Path) -> None:
    """Without gold in split valid, all cases of a patient are held out, or none of them."""
    copy = shutil.copytree(drawn_prepared, drawn_prepared.with_name("grouped"))
    cases = read_jsonl(copy / "cases.jsonl")
    for number, case in enumerate(cases):
        case["group_id"] = f"patient {number // 3}"
    write_jsonl(copy / "cases.jsonl", cases)
    images = read_jsonl(copy / "images.jsonl")
    for image in images:
        if image["split"] == "valid":
            image |= {"mask": None, "annotators": {}}
    write_jsonl(copy / "images.jsonl", images)
    part = split_train_valid(seg, open_prepared(copy), resolve(SegConfig, "tiny", ["holdout_fraction=0.4"]))
    held, learned = ({sample.case.group_id for sample in samples} for samples in (part.valid, part.train))
    assert held
    assert not held & learned
    first = {case["group_id"]: case["case_id"] for case in reversed(cases)}
    assert groups(part.train) == {s.case.case_id: first[s.case.group_id] for s in part.train}


def test_scores_of_one_dataset_are_its_own() -> None:
    assert mean_scores({"": {"dice": 0.3, "number": 3}}, "number") == {"dice": 0.3, "number": 3}
    both = mean_scores({"a": {"dice": 0.3, "number": 3, "only": 1.0}, "b": {"dice": 0.5, "number": 1}}, "number")
    assert both == {
        "dice": 0.4,
        "number": 4,
        "a/dice": 0.3,
        "a/number": 3,
        "a/only": 1.0,
        "b/dice": 0.5,
        "b/number": 1,
    }
