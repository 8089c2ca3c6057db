"""benchmarks/selection.py on drawn photos: a fold is trained once, rows are paired, split test is left alone."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from benchmark_scripts import benchmark

from magic_cli import tasks
from magic_cli.config import resolve
from magic_cli.data.prepared import open_prepared
from magic_cli.records import Prediction


@pytest.fixture(scope="module")
def selection() -> ModuleType:
    return benchmark("selection")


def test_rows_are_paired_and_a_stopped_selection_goes_on(
    selection: ModuleType,
    drawn_prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ["selection.py", "seg", str(drawn_prepared), "--out", str(tmp_path / "out"), "--preset", "tiny"]
    words += [
        "--folds",
        "2",
        "--seeds",
        "0",
        "--set",
        "epochs=1",
        "--row",
        "flips",
        "tta=flips,zoom=2",
        "--row",
        "slow",
        "lr=1e-4",
    ]
    monkeypatch.setattr(sys, "argv", words)
    selection.main()
    first = capsys.readouterr().out
    trained = [line.split(":")[0] for line in first.splitlines()[:4]]
    assert trained == [f"{rows}, fold {fold}, seed 0" for fold in (0, 1) for rows in ("tiny, flips", "slow")]
    assert "flips - tiny: dice_meanofmax " in first
    (tmp_path / "out" / "flips" / "fold-1-seed-0.npz").unlink()
    selection.main()
    again = capsys.readouterr().out
    assert again.splitlines()[0].startswith("flips, fold 1, seed 0")
    assert again.splitlines()[1:] == first.splitlines()[4:]
    prepared = open_prepared(drawn_prepared)
    task = tasks.get("seg")
    opened = selection.Selection.opened(task, drawn_prepared, 2, resolve(task.config_class, "tiny"))
    held = {sample.case.case_id for fold in (0, 1) for sample in opened.held(fold)}
    assert held == {case.case_id for split in ("train", "valid") for case in prepared.cases_of(split)}


def test_models_predict_with_the_averaged_weights_that_a_run_saves(
    selection: ModuleType, drawn_prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights: list[float] = []

    def predicted(model: torch.nn.Module, *_: object) -> list[Prediction]:
        weights.append(sum(float(p.detach().abs().sum()) for p in model.parameters()))
        return []

    monkeypatch.setattr(selection, "predicted", predicted)
    monkeypatch.setattr(selection.Selection, "scored", lambda *_: None)
    opened = selection.Selection.opened(
        tasks.get("seg"), drawn_prepared, 2, resolve(tasks.get("seg").config_class, "tiny")
    )
    for ema in (0.0, 0.9):  # the same training: averaging changes no step
        config = resolve(tasks.get("seg").config_class, "tiny", ["epochs=1", f"ema={ema}"])
        opened.trained(None, {"row": config}, 0)
    assert weights[0] != weights[1]
