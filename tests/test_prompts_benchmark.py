"""benchmarks/prompts.py: the three prompts of an encounter, on drawn photos, down to the masks and their score."""

from pathlib import Path
from types import ModuleType

import pytest
from benchmark_scripts import benchmark
from run_options import train_options

from magic_cli.commands import train
from magic_cli.data.prepared import open_prepared


@pytest.fixture(scope="module")
def prompts() -> ModuleType:
    return benchmark("prompts")


def test_texts_are_kept_emptied_or_those_of_the_next(prompts: ModuleType, drawn_prepared: Path) -> None:
    prepared = open_prepared(drawn_prepared)
    valid = [e.question for e in prepared.cases_of("valid")]
    found = {kind: prompts.prompted(prepared, kind) for kind in prompts.KINDS}
    texts = {kind: [e.question for e in data.cases_of("valid")] for kind, data in found.items()}
    assert texts == {"own": valid, "empty": [""] * len(valid), "other": [*valid[1:], valid[0]]}
    assert all(data.cases_of("train") == prepared.cases_of("train") for data in found.values())
    assert [e.case_id for e in found["other"].cases_of("valid")] == [e.case_id for e in prepared.cases_of("valid")]


def test_predicts_and_scores(
    prompts: ModuleType, drawn_prepared: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train.train("seg", drawn_prepared, tmp_path / "run", train_options(tmp_path / "cache", "epochs=1"))
    prompts.main([str(tmp_path / "run" / "best.pt"), str(drawn_prepared), "--out", str(tmp_path / "out")])
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(prompts.KINDS)
    shown = capfd.readouterr().out
    assert "empty minus own" in shown
    assert "other minus own" in shown
