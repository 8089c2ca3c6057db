"""The training loop: what it learns, and that nothing is lost when it is stopped, killed or crashes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from run_options import train_options
from stopped_runs import stop_after

from magic_cli.commands import train as train_command
from magic_cli.config import resolve
from magic_cli.errors import CheckpointError, ConfigError, DataError, EmptySplit, Interrupted, ResourceError
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.training.devices import set_determinism
from magic_cli.training.task_model import TaskModel
from magic_cli.training.trainer import Trainer
from magic_cli.training.updates import rate

SETTINGS = ("epochs=3", "batch_size=4")


def train(data: Path, out: Path, task: str = "seg", **options: Any) -> dict[str, Any]:
    settings = [*SETTINGS, *options.pop("settings", [])]
    return train_command.train(task, data, out, train_options(data.parent / "cache", *settings, **options)).to_json()


def weights(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["weights"]
    return found


def equal(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def unbroken(drawn_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "seg"
    train(drawn_prepared, out)
    return out


@pytest.mark.parametrize(("steps", "number"), [(0, signal.SIGINT), (2, signal.SIGINT), (4, signal.SIGTERM)])
def test_a_signal_loses_nothing(
    drawn_prepared: Path, unbroken: Path, tmp_path: Path, monkeypatch: Any, steps: int, number: signal.Signals
) -> None:
    """Stopped within an epoch and resumed, the run ends in bit-identical weights, moments and history."""
    out = tmp_path / "seg"
    with monkeypatch.context() as patch:
        stop_after(patch, steps, number)
        with pytest.raises(Interrupted, match="--resume") as caught:
            train(drawn_prepared, out)
    assert caught.value.exit_code == 130
    train(drawn_prepared, out, resume=True)
    assert (out / "best.pt").read_bytes() == (unbroken / "best.pt").read_bytes()
    assert (out / "metrics.jsonl").read_bytes() == (unbroken / "metrics.jsonl").read_bytes()
    assert equal(out / "state.pt", unbroken / "state.pt")


def test_a_crash_loses_at_most_one_step(
    drawn_prepared: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from magic_cli.tasks.seg.model import SegModel

    out, original, seen = tmp_path / "seg", SegModel.loss, []

    def loss(self: TaskModel, batch: dict[str, Any]) -> torch.Tensor:
        seen.append(1)
        found = original(self, batch)  # dropout was drawn already: the saved random state has to be the one before
        if len(seen) == 4:
            raise RuntimeError("out of memory")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(SegModel, "loss", loss)
        with pytest.raises(ResourceError, match="out of memory"):
            train(drawn_prepared, out)
    train(drawn_prepared, out, resume=True)
    assert (out / "best.pt").read_bytes() == (unbroken / "best.pt").read_bytes()
    assert equal(out / "state.pt", unbroken / "state.pt")


def test_training_on_the_cache_equals_training_without(drawn_prepared: Path, tmp_path: Path) -> None:
    for task in ("seg", "cvqa"):
        exact = ["cache_dtype=float32"]
        train(drawn_prepared, tmp_path / "with" / task, task, settings=exact)
        train_command.train(task, drawn_prepared, tmp_path / "without" / task, train_options(None, *SETTINGS, *exact))
        assert equal(tmp_path / "with" / task / "best.pt", tmp_path / "without" / task / "best.pt")


def test_accumulated_gradients_equal_the_large_batch(drawn_prepared: Path, tmp_path: Path) -> None:
    """Six samples: batches of 2 x 3 accumulated = one batch of 6, up to the order of float sums."""
    common = ["epochs=1", "dropout=0", "loss=bce", "lr=1e-4"]
    for name, more in (("small", ["batch_size=2", "grad_accum_steps=3"]), ("large", ["batch_size=6"])):
        train(drawn_prepared, tmp_path / name, settings=[*common, *more])
    one, other = weights(tmp_path / "small" / "best.pt"), weights(tmp_path / "large" / "best.pt")
    for name, tensor in one.items():
        assert torch.allclose(tensor, other[name], atol=2e-4), name


def test_tuning_all_moves_the_encoder_and_head_leaves_it(drawn_prepared: Path, tmp_path: Path) -> None:
    train(drawn_prepared, tmp_path / "all", settings=["finetune=all", "encoder_lr=1e-3", "epochs=1"])
    train(drawn_prepared, tmp_path / "head", settings=["epochs=1"])
    assert any(name.startswith("images.") for name in weights(tmp_path / "all" / "best.pt"))
    assert not any(name.startswith("images.") for name in weights(tmp_path / "head" / "best.pt"))


def test_a_diverged_run_stops_with_a_remedy(drawn_prepared: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from magic_cli.tasks.seg.model import SegModel

    original = SegModel.loss
    monkeypatch.setattr(SegModel, "loss", lambda self, batch: original(self, batch) * float("nan"))
    with pytest.raises(DataError, match="lower --set lr="):
        train(drawn_prepared, tmp_path / "seg")


def test_early_stopping_and_patience(drawn_prepared: Path, tmp_path: Path) -> None:
    found = train(drawn_prepared, tmp_path / "seg", settings=["epochs=30", "patience=1", "lr=1e-9"])
    assert found["epochs"] == 2
    assert found["best"]["epoch"] == 1


def test_resume_refuses_other_settings_other_tasks_and_other_data(
    drawn_prepared: Path, prepared: Path, unbroken: Path
) -> None:
    with pytest.raises(ConfigError, match="epochs=9"):
        train(drawn_prepared, unbroken, resume=True, settings=["epochs=9"])
    with pytest.raises(DataError, match="got a result of `magic train seg`"):
        train(drawn_prepared, unbroken, "cvqa", resume=True)
    with pytest.raises(CheckpointError, match="data changed"):
        train(prepared, unbroken, resume=True)


def test_a_run_that_saved_nothing_is_resumed_with_its_own_settings(
    drawn_prepared: Path, unbroken: Path, tmp_path: Path
) -> None:
    row = json.loads((unbroken / "run.json").read_text(encoding="utf-8"))
    (tmp_path / "run.json").write_text(json.dumps(row | {"exit": None, "outputs": {}}), encoding="utf-8")
    options = train_options(None, preset=None, resume=True, dry_run=True)  # type: ignore[arg-type]
    result = train_command.train("seg", drawn_prepared, tmp_path, options)
    assert dict(result.config) == row["settings"]
    with pytest.raises(ConfigError, match=r"run\.json: --resume keeps the run's own settings, got epochs=9"):
        train(drawn_prepared, tmp_path, resume=True, settings=["epochs=9"])


def test_a_finished_run_is_not_overwritten_or_repeated(drawn_prepared: Path, unbroken: Path) -> None:
    before = (unbroken / "best.pt").read_bytes()
    with pytest.raises(DataError, match="--overwrite"):
        train(drawn_prepared, unbroken)
    assert train(drawn_prepared, unbroken, resume=True)["epochs"] == 3
    assert (unbroken / "best.pt").read_bytes() == before


def test_history_is_json_a_line_and_in_the_checkpoint(unbroken: Path) -> None:
    rows = [json.loads(line) for line in (unbroken / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert {"loss", "dice_meanofmax", "jaccard"} <= rows[0].keys()


def test_seeds_repeat_and_differ(drawn_prepared: Path, unbroken: Path, tmp_path: Path) -> None:
    train(drawn_prepared, tmp_path / "same")
    train(drawn_prepared, tmp_path / "other", seed=1)
    assert (tmp_path / "same" / "best.pt").read_bytes() == (unbroken / "best.pt").read_bytes()
    assert not equal(tmp_path / "other" / "best.pt", unbroken / "best.pt")


def test_schedule_warms_up_and_ends_near_zero() -> None:
    config = resolve(SegConfig, "tiny", ["warmup=0.1", "schedule=cosine"])
    factors = [rate(config, update, 100) for update in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == pytest.approx(1.0)
    assert factors[-1] < 0.01
    assert rate(resolve(SegConfig, "tiny", ["schedule=constant"]), 7, 100) == 1


def test_two_processes_train_one_run(drawn_prepared: Path, tmp_path: Path) -> None:
    """torchrun with two CPU processes: every valid photo is scored once, one process writes and speaks."""
    options = ["--preset", "tiny", "--data", str(drawn_prepared), "--device", "cpu", "--set", "epochs=1", "--json"]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "-m",
        "magic_cli",
        "train",
        "seg",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "XDG_CACHE_HOME": str(tmp_path)}
    words = [*command, *options, "--out", str(tmp_path / "seg")]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
    found = json.loads(done.stdout)
    assert found["best"]["number_segmentation_instances"] == found["valid_samples"]
    assert done.stderr.count("epoch 1 of 1: training loss") == 1
    assert weights(tmp_path / "seg" / "best.pt")


def test_a_fault_in_valid_is_not_taken_for_missing_gold(drawn_prepared: Path) -> None:
    """Only an empty split leads to a held-out part; anything else that is wrong with valid is said."""
    from magic_cli.data.prepared import open_prepared
    from magic_cli.tasks.seg import SegTask
    from magic_cli.training.parts import split_train_valid

    class Faulty(SegTask):
        error: type[DataError] = DataError

        def training_samples(self, prepared: Any, split: str, config: Any) -> Any:
            if split == "valid":
                raise self.error("valid is damaged")
            return super().training_samples(prepared, split, config)

    data, config, task = open_prepared(drawn_prepared), resolve(SegConfig, "tiny"), Faulty()
    with pytest.raises(DataError, match="valid is damaged"):
        split_train_valid(task, data, config)
    task.error = EmptySplit
    assert split_train_valid(task, data, config).valid


@pytest.mark.parametrize("task", ["seg", "cvqa"])
def test_deterministic_runs_are_equal_and_mere_warnings_are_errors(
    drawn_prepared: Path, tmp_path: Path, task: str
) -> None:
    """All that is random at work: encoders tuned, dropout, photos cropped and recoloured, weights averaged."""
    settings = ["finetune=all", "encoder_lr=1e-3", "dropout=0.3", "ema=0.9", "views=4"]
    settings += ["crop=0.5", "colour=0.3"] if task == "seg" else []
    try:
        for name in ("one", "other"):
            train(drawn_prepared, tmp_path / name, task, settings=settings, deterministic=True)
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        with pytest.raises(RuntimeError, match="deterministic"):
            torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2))
        train(drawn_prepared, tmp_path / "fast", task, settings=settings, deterministic=False)
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.benchmark  # on a GPU
    finally:
        set_determinism(None)
        torch.use_deterministic_algorithms(False)
    for file in ("best.pt", "metrics.jsonl"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()
    assert equal(tmp_path / "one" / "state.pt", tmp_path / "other" / "state.pt")


def test_without_anything_held_back_all_epochs_are_trained_and_the_last_weights_kept(
    drawn_prepared: Path, tmp_path: Path
) -> None:
    """What a fold of a cross-validation is: no score, no early stopping, best.pt written once."""
    from magic_cli.data.gold import MaskGold
    from magic_cli.data.prepared import open_prepared
    from magic_cli.tasks import get
    from magic_cli.training.parts import Data, Part

    seg = get("seg")
    prepared, config = open_prepared(drawn_prepared), resolve(SegConfig, "tiny", ["epochs=3", "patience=1", "lr=1e-9"])
    samples, questions = seg.training_samples(prepared, "train", config), prepared.questions
    data = Data(seg, [Part(samples, (), MaskGold("nothing"))], questions, prepared.sha256)
    trainer = Trainer("seg", data, config, tmp_path / "seg", "cpu", None)
    seen: list[tuple[int, bool, bool]] = []
    state = tmp_path / "seg" / "state.pt"
    at = trainer.run(False, [lambda now: seen.append((len(now.history), now.finished, state.is_file()))])
    assert seen == [(0, False, False), (1, False, True), (2, False, True), (3, True, True)]  # told once it is saved
    assert (at.epoch, at.best_epoch, at.best) == (3, 2, -float("inf"))
    assert [sorted(row) for row in at.history] == [["epoch", "loss"]] * 3
    last = trainer.core.state_dict()
    assert all(torch.equal(tensor, last[name]) for name, tensor in weights(tmp_path / "seg" / "best.pt").items())
