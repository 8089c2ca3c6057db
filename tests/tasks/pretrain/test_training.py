"""Contrastive training as a whole: it learns; in parts, on two processes and resumed it is the very same training."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from shape_pairs import shape_pairs, shape_trainer, trainer_of
from stopped_runs import stop_after
from torch import Tensor
from torch.nn import functional as F

from magic_cli.data.pair_gold import pair_gold
from magic_cli.errors import CheckpointError, Interrupted
from magic_cli.models.encoders import Features, TinyText
from magic_cli.training.checkpoint import load_best
from magic_cli.training.inference import predict
from magic_cli.training.parts import Part
from magic_cli.training.updates import optimizer_for

Weights = dict[str, Tensor]

# Runs of six updates. The sums of parts and processes are rounded in another order; Adam divides by small numbers.
RUNS: Mapping[str, tuple[str, ...]] = {
    "whole": ("batch_size=4",),
    "parts": ("batch_size=4", "micro_batch=1"),
    "uneven": ("batch_size=3", "local_pool=max", "micro_batch=1"),
    "clip": ("batch_size=4", "objective=infonce", "local_weight=0"),
}
CLOSE = 1e-5
DRIVER = """
import os, signal, sys
from pathlib import Path
import pytest
from magic_cli.__main__ import exit_process
from magic_cli.errors import Interrupted
from shape_pairs import shape_pairs, shape_trainer, trainer_of
from stopped_runs import stop_after
from test_training import RUNS, STOPPED
def trainer(name, settings):
    out = Path(sys.argv[1]) / name
    return shape_trainer(out / f"photos-{os.environ['RANK']}", out, *settings)
for name, settings in RUNS.items():
    trainer(name, settings).run(False)
trainer("one, two", RUNS["whole"]).run(resume=True)
with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
    stop_after(patch, STOPPED, signal.SIGINT)
    trainer("two, one", RUNS["whole"]).run(False)
exit_process(0)
"""
STOPPED = 2  # steps, of two an epoch: in the middle of the second


def train(folder: Path, name: str, *settings: str, resume: bool = False) -> Weights:
    """Return the weights of a training that is, or was, written to `name` in a folder."""
    trainer = shape_trainer(folder / "photos", folder / name, *settings)
    trainer.run(resume)
    return {key: tensor.clone() for key, tensor in trainer.core.state_dict().items()}


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def difference(one: Weights, other: Weights) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Weights]]:
    """The folder and the weights of all runs by one process."""
    folder = tmp_path_factory.mktemp("alone")
    return folder, {name: train(folder, name, *settings) for name, settings in RUNS.items()}


def test_eight_shapes_are_learned(tmp_path: Path) -> None:
    """Each photo is nearest to its own text, and each text to its photo."""
    fast = ("lr=2e-2", "encoder_lr=2e-2")
    trainer = shape_trainer(tmp_path / "photos", tmp_path / "run", "epochs=40", "batch_size=8", *fast)
    for group in optimizer_for(trainer.core, trainer.config).param_groups:
        held = [p is trainer.core.get_parameter("log_scale") for p in group["params"]]
        assert not any(held) or group["weight_decay"] == 0
    trainer.run(False)
    found = losses(tmp_path / "run")
    assert found[-1] < 0.5 * found[0]
    pairs = list(predict(trainer.core, trainer.data.train, trainer.config, trainer.accelerator))
    cosines = torch.tensor([[float(a.image @ b.text) for b in pairs] for a in pairs])  # type: ignore[attr-defined]
    assert cosines.argmax(1).tolist() == cosines.argmax(0).tolist() == list(range(8))


def test_a_score_that_no_epoch_has_chooses_none_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One photo has no rank among others, and no class beside it: training goes on, and the last weights are kept."""
    samples = shape_pairs(tmp_path / "photos")
    part = Part(samples, samples[:1], pair_gold("one photo", samples[:1]))
    progress = trainer_of(part, tmp_path / "run", "epochs=3", "patience=1", "batch_size=8").run(resume=False)
    assert (progress.epoch, progress.best_epoch) == (3, 2)
    assert load_best(tmp_path / "run" / "best.pt")[0].score is None
    told = capsys.readouterr().err
    assert "mean_of_tasks undefined" in told
    assert "mean_of_tasks is undefined on 1 validation sample" in told
    assert "inf" not in told
    (tmp_path / "run" / "best.pt").rename(tmp_path / "moved.pt")
    with pytest.raises(CheckpointError, match=r"best\.pt: got no such file, expected the weights of epoch 3"):
        trainer_of(part, tmp_path / "run", "epochs=3", "patience=1", "batch_size=8").run(resume=True)


def test_parts_train_the_weights_of_the_whole_batch(alone: tuple[Path, dict[str, Weights]]) -> None:
    folder, weights = alone
    assert losses(folder / "parts") == pytest.approx(losses(folder / "whole"), abs=CLOSE)
    assert difference(weights["parts"], weights["whole"]) < CLOSE
    assert difference(weights["clip"], weights["whole"]) > 100 * CLOSE


@pytest.mark.parametrize(
    "settings",
    [("crop=0.5", "colour=0.2", "grey=0.2", "ema=0.9"), ("micro_batch=1", "views=8")],
    ids=["views", "parts"],
)
def test_a_stopped_run_ends_in_the_bytes_of_an_unbroken_one(
    settings: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of an epoch, with random numbers in an encoder that both passes over a part must draw alike."""
    forward = TinyText.forward

    def dropping(self: TinyText, batch: Mapping[str, Tensor]) -> Features:
        return {"text": F.dropout(forward(self, batch)["text"], 0.3, self.training)}

    monkeypatch.setattr(TinyText, "forward", dropping)
    settings = ("batch_size=2", "epochs=2", *settings)
    whole = train(tmp_path, "whole", *settings)
    with monkeypatch.context() as patch:
        stop_after(patch, 6, signal.SIGINT)
        with pytest.raises(Interrupted):
            train(tmp_path, "stopped", *settings)
    resumed = train(tmp_path, "stopped", *settings, resume=True)
    assert difference(resumed, whole) == 0
    for name in ("best.pt", "metrics.jsonl"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(("finetune", "moved"), [("head", set()), ("last", {"images.second", "texts.table"})])
def test_frozen_tensors_keep_their_bits(finetune: str, moved: set[str], tmp_path: Path) -> None:
    trainer = shape_trainer(tmp_path / "photos", tmp_path / "run", f"finetune={finetune}", "weight_decay=0.1")
    before = {name: tensor.clone() for name, tensor in trainer.core.state_dict().items()}
    trainer.run(False)
    after = trainer.core.state_dict()
    changed = {name.rpartition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    learned = {f"{side}_projection{part}" for side in ("image", "text") for part in ("", ".linear")}
    assert changed == moved | learned | {""}  # "" holds the temperature; centre and scale were fitted at the start


@pytest.mark.parametrize("temperature", [0.07, 0.011, 0.9])
def test_the_scale_stays_between_1_and_100(temperature: float, tmp_path: Path) -> None:
    """An update of this rate moves its logarithm by about ten."""
    found = train(tmp_path, "run", "lr=10", "schedule=constant", "epochs=1", f"temperature={temperature}")["log_scale"]
    assert min(abs(found.item() - bound) for bound in (0.0, math.log(100))) < 1e-6


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all runs by two processes, as torchrun starts them; "one, two" was begun, and stopped, by one."""
    folder = tmp_path_factory.mktemp("together")
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, STOPPED, signal.SIGINT)
        with pytest.raises(Interrupted):
            train(folder, "one, two", *RUNS["whole"])
    (folder / "driver.py").write_text(DRIVER)
    places = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "builders"), os.environ.get("PYTHONPATH", "")]
    variables = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(places)}
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    words += [str(folder / "driver.py"), str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, env=variables, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_train_the_weights_of_one(
    name: str, together: Path, alone: tuple[Path, dict[str, Weights]]
) -> None:
    """The temperature, too: its gradient is as many times that of one process as those of the towers are."""
    folder, weights = alone
    assert losses(together / name) == pytest.approx(losses(folder / name), abs=CLOSE)
    found = torch.load(together / name / "best.pt", weights_only=True)["weights"]
    assert "log_scale" in found
    assert difference(found, {key: weights[name][key] for key in found}) < CLOSE


@pytest.mark.parametrize("name", ["one, two", "two, one"])
def test_a_stopped_run_goes_on_with_another_number_of_processes(
    name: str, together: Path, alone: tuple[Path, dict[str, Weights]]
) -> None:
    """Where it stopped, in the order of an unbroken run of one process."""
    if name == "two, one":
        train(together, name, *RUNS["whole"], resume=True)
    folder, weights = alone
    assert losses(together / name) == pytest.approx(losses(folder / "whole"), abs=CLOSE)
    found = torch.load(together / name / "best.pt", weights_only=True)["weights"]
    assert difference(found, {key: weights["whole"][key] for key in found}) < CLOSE
