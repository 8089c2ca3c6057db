"""Cross-validation: whole encounters, nothing learned from what is held out, and nothing lost when it is stopped."""

import gc
import hashlib
import json
import signal
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_options import train_options
from typer.testing import CliRunner

from magic_cli.cli.app import app
from magic_cli.commands import cross_validate, train
from magic_cli.commands.compare_results import without_provenance
from magic_cli.commands.predict import PredictOptions, predict
from magic_cli.commands.score import ScoreOptions, score
from magic_cli.config import resolve
from magic_cli.data.prepared import open_prepared
from magic_cli.errors import CheckpointError, ConfigError, DataError, Interrupted
from magic_cli.io import schema
from magic_cli.io.json_files import write_json
from magic_cli.models.cache.features import FeatureCache
from magic_cli.records import Sample
from magic_cli.tasks import get
from magic_cli.tasks.cvqa.config import CvqaConfig
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.training import checkpoint
from magic_cli.training.parts import unique_samples
from magic_cli.training.runtime import RuntimeOptions
from magic_cli.training.seen import Exposure
from magic_cli.training.trainer import Observer, Trainer

cvqa = get("cvqa")
seg = get("seg")

SETTINGS = ("epochs=2", "batch_size=2", "patience=1")


def cross(data: Path, out: Path, task: str = "cvqa", count: int = 3, **options: Any) -> dict[str, Any]:
    settings = [*SETTINGS, *options.pop("settings", [])]
    given = train_options(data.parent / "cache", *settings, **options)
    return cross_validate.cross_validate(task, count, data, out, given).to_json()


@pytest.fixture(scope="module", params=["cvqa", "seg"])
def done(request: pytest.FixtureRequest, drawn_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished cross-validation of each task. Read it, never write to it."""
    out = tmp_path_factory.mktemp("folds") / str(request.param)
    cross(drawn_prepared, out, str(request.param))
    return out


def found(out: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((out / "folds.json").read_text())
    return read


def files(out: Path) -> dict[str, str]:
    """A digest of everything in a run folder, but for the paths in folds.json and the times on the page."""
    read = {
        p.relative_to(out).as_posix(): p.read_bytes()
        for p in sorted(out.rglob("*"))
        if p.is_file() and p.name != "run.json"
    }
    read["folds.html"] = without_provenance(read["folds.html"].decode()).encode()
    read["folds.json"] = json.dumps({k: v for k, v in found(out).items() if k != "predictions"}).encode()
    return {name: hashlib.sha256(data).hexdigest() for name, data in read.items()}


def test_every_encounter_is_held_out_once(done: Path, drawn_prepared: Path) -> None:
    held = [encounter for part in found(done)["parts"] for encounter in part["encounters"]]
    assert sorted(held) == sorted(e.case_id for e in open_prepared(drawn_prepared).cases_of("train"))
    assert sorted(len(part["encounters"]) for part in found(done)["parts"]) == [2, 3, 3]


def test_no_fold_learns_from_an_encounter_that_it_holds_out(
    drawn_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither training, nor the model's priors, nor the scorer see one; and there is nothing to choose an epoch by."""
    original, seen = Trainer.run, []

    def run(self: Trainer, resume: bool, observers: Sequence[Observer]) -> Any:
        seen.append({sample.case.case_id for sample in self.data.train})
        assert not self.data.valid
        assert [len(part.gold) for part in self.data.parts] == [0]
        return original(self, resume, observers)

    monkeypatch.setattr(Trainer, "run", run)
    parts = cross(drawn_prepared, tmp_path / "cvqa")["parts"]
    everything = set().union(*(part["encounters"] for part in parts))
    assert seen == [everything - set(part["encounters"]) for part in parts]


def test_a_fold_trains_all_epochs_and_keeps_the_last_weights(done: Path, drawn_prepared: Path, tmp_path: Path) -> None:
    """patience=1 stops nothing; best.pt is what a run on the same samples holds after its last step."""
    task = found(done)["task"]
    for fold in (1, 2, 3):
        rows = [json.loads(line) for line in (done / f"fold-{fold}" / "metrics.jsonl").read_text().splitlines()]
        assert [sorted(row) for row in rows] == [["epoch", "loss"]] * 2
        meta, _ = checkpoint.load_best(done / f"fold-{fold}" / "best.pt", task)
        assert meta.score is None
        assert len(meta.history) == 2
    assert not list(done.rglob("state.pt"))


def test_averaged_weights_are_those_that_are_kept(
    drawn_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from magic_cli.training.updates import ModelEma

    last: list[dict[str, Any]] = []
    original = ModelEma.state
    monkeypatch.setattr(ModelEma, "state", lambda self: last.append(original(self)) or last[-1])
    cross(drawn_prepared, tmp_path / "cvqa", count=2, settings=["ema=0.9", "epochs=1"])
    _, kept = checkpoint.load_best(tmp_path / "cvqa" / "fold-2" / "best.pt", "cvqa")
    assert kept
    assert all((last[-1][name] == tensor).all() for name, tensor in kept.items() if name in last[-1])


def test_pooled_figures_are_those_of_magic_score(done: Path, drawn_prepared: Path) -> None:
    words = ["score", str(done / "folds"), str(drawn_prepared), "--split", "train", "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    [scored] = json.loads(result.stdout)["systems"][0]["reports"]
    figures = scored["figures"] | scored["extra"]
    for name, one in found(done)["figures"].items():
        assert one["value"] == figures[name]
        assert [one["low"], one["high"]] == scored["intervals"][name]


def outputs(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "run.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_a_folder_of_folds_predicts_each_encounter_by_the_fold_that_held_it_out(
    done: Path, drawn_prepared: Path, tmp_path: Path
) -> None:
    """Else the folds together would have learned from all that they predict; a single fold says from how many."""
    task = found(done)["task"]
    options = PredictOptions(runtime=RuntimeOptions("cpu", drawn_prepared.parent / "cache"))
    all_folds = predict(task, done, drawn_prepared, "train", tmp_path / "all", options)
    assert outputs(tmp_path / "all") == outputs(done / "folds")
    assert all_folds.exposure is not None
    samples = all_folds.exposure.samples
    assert (all_folds.exposure.learned, all_folds.exposure.held_out) == (0, samples)
    assert any("alone that did not learn" in line for line in all_folds.lines())
    alone = predict(task, done / "fold-1", drawn_prepared, "train", tmp_path / "one", options)
    assert alone.exposure is not None
    assert 0 < alone.exposure.learned < samples
    report = score(tmp_path / "one", drawn_prepared, ScoreOptions(split="train", resamples=10))
    assert f"{alone.exposure.learned} of {samples} samples were learned from" in report.systems[0].notes[-1]
    fresh = predict(task, done, drawn_prepared, "test", tmp_path / "test", options)
    assert fresh.exposure == Exposure(fresh.exposure.samples if fresh.exposure else 0, 0, 0, 0)


def test_figures_of_folds_are_those_of_their_encounters(done: Path, drawn_prepared: Path) -> None:
    """Scored anew, a fold at a time, from the files."""
    from magic_cli.submission.reader import open_predictions

    read, prepared = found(done), open_prepared(drawn_prepared)
    module: Any = {"seg": seg, "cvqa": cvqa}[read["task"]]
    gold, questions = module.gold(prepared, "train"), prepared.questions.by_qid
    values = []
    for part in read["parts"]:
        held = set(part["encounters"])
        ids = held | {image.image_id for image in prepared.images_of("train") if image.case_id in held}
        alone = gold.only(ids)
        with open_predictions(done / "folds") as predictions:
            report_ = module.score(alone, predictions.of(read["task"], questions))
        assert part["figures"][module.monitor] == pytest.approx(report_.scores[module.monitor], abs=1e-12)
        values.append(part["figures"][module.monitor])
    assert read["figures"][module.monitor]["mean"] == pytest.approx(np.mean(values))
    assert read["figures"][module.monitor]["sd"] == pytest.approx(np.std(values, ddof=1))


def test_the_majority_is_that_of_the_other_folds(drawn_prepared: Path) -> None:
    prepared = open_prepared(drawn_prepared)
    samples, questions = cvqa.training_samples(prepared, "train", resolve(CvqaConfig, "tiny")), prepared.questions
    parts = (samples[:3], samples[3:5], samples[5:])
    guessed = {p.id: p.chosen for p in cvqa.baseline_predictions(parts, questions)["training majority"]}
    for part in parts:
        others = [s.case.answers for s in samples if s not in part]
        wanted = questions.majority(row for row in others if row is not None)
        assert all({q: int(v) for q, v in guessed[sample.id].items()} == wanted for sample in part)


def test_the_mean_mask_is_that_of_the_other_folds(drawn_prepared: Path) -> None:
    samples = seg.training_samples(open_prepared(drawn_prepared), "train", resolve(SegConfig, "tiny"))
    questions = open_prepared(drawn_prepared).questions

    def mean_masks(*parts: Any) -> dict[str, Any]:
        return {p.id: p.mask for p in seg.baseline_predictions(parts, questions)["training mean mask"]}

    whole = mean_masks(samples[:4], samples[4:])
    assert [whole[s.id].shape for s in samples] == [(s.images[0].height, s.images[0].width) for s in samples]
    alone = mean_masks(samples[:1], samples[4:])
    assert np.array_equal(whole[samples[0].id], alone[samples[0].id])  # what is held out beside it says nothing


def test_lesion_sizes_are_terciles(drawn_prepared: Path) -> None:
    samples = seg.training_samples(open_prepared(drawn_prepared), "train", resolve(SegConfig, "tiny"))
    sizes = seg.strata(samples, open_prepared(drawn_prepared).questions)
    assert sorted(label for some in sizes.values() for label in some) == ["large"] * 2 + ["medium"] * 3 + ["small"] * 3


def test_answers_are_labels_whatever_slot_they_stand_in(drawn_prepared: Path) -> None:
    prepared = open_prepared(drawn_prepared)
    samples = cvqa.training_samples(prepared, "train", resolve(CvqaConfig, "tiny"))
    labels = cvqa.strata(samples, prepared.questions)
    sets = prepared.questions.to_sets(samples[0].case.answers or {})
    assert set(labels[samples[0].id]) == {f"{parent}={option}" for parent, some in sets.items() for option in some}


def test_two_runs_are_equal_and_another_seed_is_not(done: Path, drawn_prepared: Path, tmp_path: Path) -> None:
    task = found(done)["task"]
    cross(drawn_prepared, tmp_path / "again", task)
    assert files(tmp_path / "again") == files(done)
    other = cross(drawn_prepared, tmp_path / "other", task, seed=1, dry_run=True)
    assert [part["encounters"] for part in other["parts"]] != [part["encounters"] for part in found(done)["parts"]]
    assert not (tmp_path / "other").exists()


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    original, seen = Trainer._step, []

    def step(self: Trainer, *words: Any) -> Any:
        seen.append(1)
        if len(seen) == steps + 1:
            signal.raise_signal(signal.SIGINT)
        return original(self, *words)

    monkeypatch.setattr(Trainer, "_step", step)


@pytest.mark.parametrize("steps", [1, 8])
def test_an_interrupted_run_goes_on_where_it_stopped(
    done: Path, drawn_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Stopped in the first fold or a later one, it ends in the same files; a finished fold is not trained again."""
    out, task = tmp_path / "run", found(done)["task"]
    with monkeypatch.context() as patch:
        stop_after(patch, steps)
        with pytest.raises(Interrupted, match=r"fold-\d.*--resume"):
            cross(drawn_prepared, out, task)
    finished = {path: path.stat().st_mtime_ns for path in out.glob("fold-*/best.pt")}
    assert bool(finished) == (steps == 8)
    assert found(out)["finished"] is False
    cross(drawn_prepared, out, task, resume=True)
    assert files(out) == files(done)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished


def test_nothing_is_encoded_twice(drawn_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, encoded = FeatureCache.fill, []

    def fill(self: FeatureCache, *words: Any) -> int:
        encoded.append(original(self, *words))
        return encoded[-1]

    monkeypatch.setattr(FeatureCache, "fill", fill)
    for task in ("cvqa", "seg"):
        options = train_options(tmp_path / "cache" / task, "epochs=1")
        cross_validate.cross_validate(task, 3, drawn_prepared, tmp_path / task, options)
        assert sum(encoded) == len(list((tmp_path / "cache" / task).rglob("*.safetensors"))) > 0
        encoded.clear()


def test_resume_refuses_what_would_mix_runs(drawn_prepared: Path, prepared: Path, done: Path) -> None:
    task = found(done)["task"]
    with pytest.raises(ConfigError, match=r"--folds 4, expected --folds 3"):
        cross(drawn_prepared, done, task, 4, resume=True)
    with pytest.raises(ConfigError, match="keeps the run's own settings, got epochs=9"):
        cross(drawn_prepared, done, task, resume=True, settings=["epochs=9"])
    with pytest.raises(CheckpointError, match="data changed"):
        cross(prepared, done, task, resume=True)
    other = done.parent / f"{task}-other"
    changed = found(done) | {"parts": list(reversed(found(done)["parts"]))}
    write_json(other / "folds.json", changed)
    with pytest.raises(CheckpointError, match="assigns encounters to other folds"):
        cross(drawn_prepared, other, task, resume=True)


def test_a_run_beside_it_is_left_alone_and_an_earlier_one_is_not_overwritten(
    drawn_prepared: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cvqa"
    options = train_options(tmp_path / "cache", "epochs=1")
    train.train("cvqa", drawn_prepared, out, options)
    single = (out / "best.pt").read_bytes()
    cross(drawn_prepared, out, count=4, settings=["epochs=1"])
    with pytest.raises(DataError, match="--overwrite"):
        cross(drawn_prepared, out)
    cross(drawn_prepared, out, count=2, settings=["epochs=1"], overwrite=True)
    assert sorted(path.name for path in out.glob("fold-*")) == ["fold-1", "fold-2"]
    assert (out / "best.pt").read_bytes() == single
    with pytest.raises(DataError, match="--overwrite"):
        train.train("cvqa", drawn_prepared, out, options)


@pytest.mark.parametrize("task", ["seg", "cvqa"])
def test_more_folds_than_encounters_is_one_line(task: str, drawn_prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--folds: got 9, expected 2 to 8") as caught:
        cross(drawn_prepared, tmp_path / task, task, 9)
    assert len(caught.value.problems) == 1
    assert not (tmp_path / task).exists()


def test_a_start_that_learned_from_what_is_held_out_is_told(
    done: Path, drawn_prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task, run = found(done)["task"], done / "fold-1" / "best.pt"
    again = cross(drawn_prepared, tmp_path / "again", task, 2, settings=["epochs=1"], init=run)
    line = "the runs that this one starts from learned from"
    assert again["notes"][0].startswith(line)
    assert f"note: {line}" in capsys.readouterr().err
    assert not any(line in note for note in found(done)["notes"])


def test_masks_of_each_annotator_and_the_papers_unit_are_held_out_whole(
    drawn: Path, drawn_prepared: Path, tmp_path: Path
) -> None:
    """--merge each gives a photo several samples, sample_unit=question an encounter: predicted once or by slot."""
    from magic_cli.commands.prepare import PrepareOptions, prepare

    prepare(drawn, tmp_path / "each", PrepareOptions(merge="each"))
    result = cross(tmp_path / "each", tmp_path / "seg", "seg", 2, settings=["epochs=1"])
    photos = len({i.image_id for i in open_prepared(tmp_path / "each").images_of("train") if i.annotators})
    assert sum(part["held_samples"] for part in result["parts"]) == photos
    assert [note.split(" of ")[0] for note in result["notes"]] == ["95 % intervals"]  # of eight encounters
    result = cross(
        drawn_prepared,
        tmp_path / "cvqa",
        count=2,
        settings=["epochs=1", "sample_unit=question", "head=options", "batch_size=32"],
    )
    assert sum(part["held_samples"] for part in result["parts"]) == 8 * len(
        open_prepared(drawn_prepared).questions.slots
    )
    assert [note.split(" of ")[0] for note in result["notes"]] == ["95 % intervals"]  # of eight encounters


def test_samples_are_judged_once(drawn_prepared: Path) -> None:
    prepared = open_prepared(drawn_prepared)
    samples: list[Sample] = list(cvqa.training_samples(prepared, "train", CvqaConfig(sample_unit="question")))
    assert unique_samples(samples) == samples
    assert unique_samples([*samples, *samples]) == samples


def test_the_command_prints_a_table_and_the_next_command(drawn_prepared: Path, tmp_path: Path) -> None:
    out = tmp_path / "cvqa"
    words = ["train", "cvqa", "--folds", "2", "--preset", "tiny", "--set", "epochs=1", "--data", str(drawn_prepared)]
    words += ["--out", str(out), "--cache-dir", str(tmp_path / "cache"), "--device", "cpu"]
    planned = CliRunner().invoke(app, [*words, "--dry-run"])
    assert "2 folds over encounters of split train, which hold out 4, 4 of them" in planned.stdout
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "split valid is left alone" in result.stderr
    lines = result.stdout.splitlines()
    assert "training majority" in lines[1]
    assert any(line.lstrip().startswith("accuracy_all") for line in lines)
    next_ = lines[-1].split("next: magic ")[1].split()
    assert CliRunner().invoke(app, next_).exit_code == 0
    assert (out / "report" / "report.html").is_file()
    again = CliRunner().invoke(app, [*words, "--resume", "--json"])
    printed = json.loads(again.stdout)
    assert schema.problems("folds", printed, "--json") == []
    assert {k: v for k, v in printed.items() if k != "command"} == found(out)
    following = CliRunner().invoke(app, [*words, "--resume"]).stdout.splitlines()[-1]
    assert following == lines[-1].replace(f"{out}/report", f"{out}/report-2")  # the first report is there


def test_folds_json_fits_its_schema(done: Path, drawn_prepared: Path, tmp_path: Path) -> None:
    assert schema.problems("folds", found(done), "folds.json") == []
    planned = cross(drawn_prepared, tmp_path / "run", dry_run=True)
    assert schema.problems("folds", planned, "planned") == []
    assert schema.problems("folds", planned | {"finished": True}, "planned")


@pytest.mark.realdata
def test_the_majority_of_folds_on_real_text(tmp_path: Path) -> None:
    """The training majority of five folds scores 0.584: examples/closed-questions.md, "Constants to beat"."""
    data = Path(__file__).resolve().parents[3] / "shared" / "data" / "dermavqa-text"
    if not data.is_dir():
        pytest.skip("../shared/data/dermavqa-text is not here")
    from magic_cli.commands.prepare import PrepareOptions, prepare

    prepare(data, tmp_path / "prepared", PrepareOptions(responses=False))
    settings = ["modality=text", "epochs=1"]
    result = cross(tmp_path / "prepared", tmp_path / "cvqa", count=5, settings=settings)
    assert result["encounters"] == 300
    assert result["baselines"]["training majority"]["accuracy_all"] == pytest.approx(0.584, abs=0.006)


def test_resume_of_nothing_starts_and_of_a_damaged_file_says_so(
    drawn_prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cvqa"
    assert cross(drawn_prepared, out, count=2, settings=["epochs=1"], resume=True)["finished"]
    assert "starting from the beginning" in capsys.readouterr().err
    write_json(out / "folds.json", {key: value for key, value in found(out).items() if key != "task"})
    with pytest.raises(CheckpointError, match=r"folds\.json.*task"):
        cross(drawn_prepared, out, count=2, resume=True)


def test_only_one_model_is_in_memory_at_a_time(
    drawn_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models are freed by the end of their fold, without waiting for the garbage collector."""
    original, models, alive = cvqa.build, [], []

    def build(*words: Any) -> Any:
        alive.append(sum(model() is not None for model in models))
        model = original(*words)
        models.append(weakref.ref(model))
        return model

    monkeypatch.setattr(cvqa, "build", build)
    gc.disable()
    try:
        cross(drawn_prepared, tmp_path / "cvqa", settings=["epochs=1"])
    finally:
        gc.enable()
    assert len(models) == 6
    assert max(alive) <= 1
