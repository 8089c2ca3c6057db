"""Runs that break off in bad places: in an update, in a forward pass, while weights are judged or exchanged, at last.

Whatever is saved then, the resumed run ends in the bytes of an unbroken one.
"""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from run_options import train_options
from torch import nn
from typer.testing import CliRunner

from magic_cli.cli import app
from magic_cli.commands import cross_validate
from magic_cli.commands import train as train_command
from magic_cli.errors import Interrupted
from magic_cli.tasks import get
from magic_cli.tasks.seg.model import SegModel
from magic_cli.training import checkpoint, resume, selection, trainer
from magic_cli.training.resume import StepSnapshot, TrainProgress
from magic_cli.training.trainer import Trainer
from magic_cli.training.updates import ModelEma

seg = get("seg")

FILES = ("best.pt", "metrics.jsonl", "state.pt")
Break = Callable[..., Any]


def train(data: Path, out: Path, *settings: str, resume: bool = False) -> dict[str, Any]:
    given = [] if resume else ["epochs=3", "batch_size=2", "patience=0", *settings]
    options = train_options(data.parent / "cache", *given, resume=resume)
    return train_command.train("seg", data, out, options).to_json()


def same(one: Path, other: Path) -> None:
    for name in FILES[:2]:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    ours, theirs = (torch.load(out / "state.pt", weights_only=True)["weights"] for out in (one, other))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


class Boom(Exception):  # noqa: N818
    """What nobody expects."""


def at(number: int, original: Break, act: Callable[[], None] | None = None, after: bool = False) -> Break:
    """Return a function that breaks off its N-th call, before or after the work is done."""
    calls: list[int] = []

    def call(*words: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == number and not after:
            (act or boom)()
        found = original(*words, **options)
        if len(calls) == number and after:
            (act or boom)()
        return found

    return call


def boom() -> None:
    raise Boom


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def broken(data: Path, out: Path, kind: type[BaseException], *settings: str) -> TrainProgress | None:
    """Train until it breaks; return where the saved state is, None where none was saved."""
    with pytest.raises(kind):
        train(data, out, *settings)
    state = out / "state.pt"
    return TrainProgress(**resume.state_meta(state)["at"]) if state.is_file() else None


@pytest.fixture(scope="module")
def unbroken(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rescue") / "seg"
    train(prepared, out)
    return out


def test_an_update_that_breaks_off_is_not_saved(
    prepared: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that moved and a position that did not would be a step twice."""
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", at(4, torch.optim.AdamW.step, after=True))
        found = broken(prepared, tmp_path / "seg", Boom)
    assert found is not None
    assert (found.epoch, found.step) == (1, 0)  # the second update of the second epoch broke off: its first is lost too
    train(prepared, tmp_path / "seg", resume=True)
    same(tmp_path / "seg", unbroken)


def test_running_statistics_are_those_of_whole_steps(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, loss = seg.build, SegModel.loss

    def with_norm(*words: Any) -> nn.Module:
        model = build(*words)
        model.norm = nn.BatchNorm1d(1)
        return model

    def through_norm(self: Any, batch: dict[str, Any]) -> torch.Tensor:
        found = loss(self, batch)
        self.norm(torch.stack([found.detach(), found.detach() * 2])[:, None])
        return found

    monkeypatch.setattr(seg, "build", with_norm)
    monkeypatch.setattr(SegModel, "loss", through_norm)
    train(prepared, tmp_path / "unbroken")
    with monkeypatch.context() as patch:
        patch.setattr(SegModel, "loss", at(4, through_norm, after=True))
        found = broken(prepared, tmp_path / "seg", Boom)
    assert found is not None
    assert (found.epoch, found.step) == (1, 1)
    train(prepared, tmp_path / "seg", resume=True)
    same(tmp_path / "seg", tmp_path / "unbroken")
    kept = torch.load(tmp_path / "seg" / "best.pt", weights_only=True)["weights"]
    assert kept["norm.num_batches_tracked"] > 0


@pytest.mark.parametrize("number", [1, 2])
def test_weights_that_are_being_exchanged_are_not_saved(
    number: int, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean into the model for its judgement, or the live weights back."""
    train(prepared, tmp_path / "unbroken", "ema=0.9")
    clone, swap = torch.Tensor.clone, ModelEma._swap

    def half(self: ModelEma) -> None:
        """Break off after the third tensor."""
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(torch.Tensor, "clone", at(3, clone))
            swap(self)

    calls: list[int] = []

    def swapped(self: ModelEma) -> None:
        calls.append(1)
        (half if len(calls) == 2 + number else swap)(self)

    with monkeypatch.context() as patch:
        patch.setattr(ModelEma, "_swap", swapped)
        found = broken(prepared, tmp_path / "seg", Boom, "ema=0.9")
    assert found is not None
    assert (found.epoch, found.step) == (1, 0)  # as the first epoch left it
    train(prepared, tmp_path / "seg", resume=True)
    same(tmp_path / "seg", tmp_path / "unbroken")


@pytest.mark.parametrize("where", ["score", "save_best"])
def test_a_crash_at_the_end_of_an_epoch_costs_no_step(
    where: str, prepared: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judgement is made once more. A best.pt that could not be written (a full disk) is not taken for kept."""
    place, number = (seg, 2) if where == "score" else (checkpoint, 1)
    with monkeypatch.context() as patch:
        patch.setattr(place, where, at(number, getattr(place, where)))
        found = broken(prepared, tmp_path / "seg", Boom)
    assert found is not None
    assert (found.epoch, found.step, found.best_epoch) == ((1, 2, 0) if where == "score" else (0, 2, -1))
    steps: list[int] = []
    original = Trainer._step
    monkeypatch.setattr(Trainer, "_step", lambda *words: steps.append(1) or original(*words))
    train(prepared, tmp_path / "seg", resume=True)
    assert len(steps) == 6 - 2 * (found.epoch + 1)
    same(tmp_path / "seg", unbroken)


def test_a_signal_in_the_last_judgement_is_heard(
    prepared: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What follows the last epoch may take minutes too."""
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "write_jsonl", at(3, trainer.write_jsonl, interrupt))
        patch.setattr(selection, "choose_settings", lambda _: pytest.fail("it went on"))
        found = broken(prepared, tmp_path / "seg", Interrupted)
    assert found is not None
    assert found.finished
    train(prepared, tmp_path / "seg", resume=True)
    same(tmp_path / "seg", unbroken)


def test_a_fold_is_finished_when_all_of_it_is_there(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """best.pt says so, and comes last."""
    written: list[str] = []
    for place, name in ((trainer, "write_jsonl"), (checkpoint, "save_best")):
        original = getattr(place, name)
        monkeypatch.setattr(place, name, lambda path, *w, o=original: written.append(path.name) or o(path, *w))
    train(prepared, tmp_path / "seg")
    assert written[:2] == ["metrics.jsonl", "best.pt"]


@pytest.mark.parametrize("number", [0, 2])
def test_what_was_broken_off_before_its_first_step_may_be_typed_again(
    number: int, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While features are encoded there is a record of how the run was started, and nothing to keep."""
    out = tmp_path / "run"
    line = ["train", "cvqa", "--preset", "tiny", "--set", "epochs=1", "--data", str(prepared), "--out", str(out)]
    line += ["--folds", str(number)] if number else []

    def typed() -> Any:
        return CliRunner().invoke(app.app, [*line, "--cache-dir", str(tmp_path / "cache")])

    with monkeypatch.context() as patch:
        patch.setattr(cross_validate if number else trainer, "sweep", lambda _: interrupt())
        assert typed().exit_code == 130
    left = {path.name for path in out.rglob("*") if path.is_file()}
    assert left == ({"run.json"} if number else {"run.json", "progress.html"})
    assert typed().exit_code == 0
    assert "already there; use --overwrite" in str(typed().exception)


def test_marks() -> None:
    statistics = [torch.tensor([1.0]), torch.tensor(2)]
    mark = StepSnapshot.of(torch.tensor(3.0), statistics)
    for tensor in statistics:
        tensor += 5
    mark.restore(statistics)
    assert [tensor.item() for tensor in statistics] == [1, 2]
    at_first = TrainProgress(history=[{"epoch": 1}])
    kept = at_first.copy()
    at_first.history.append({"epoch": 2})
    at_first.epoch = 7
    assert kept == TrainProgress(history=[{"epoch": 1}])
