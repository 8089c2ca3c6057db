"""benchmarks/ablation.py on drawn photos: every row's settings are real ones, and each is compared with the default."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from benchmark_scripts import benchmark
from tiny_dataset import make_prepared
from typer.testing import CliRunner

from magic_cli.cli.app import app
from magic_cli.config import resolve
from magic_cli.records import EncounterSums
from magic_cli.tasks.cvqa.config import CvqaConfig


@pytest.fixture(scope="module")
def ablation() -> ModuleType:
    return benchmark("ablation")


@pytest.fixture
def magic(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A `magic` in this process, which counts its commands."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    seen: list[str] = []

    def run(words: Sequence[str], folder: Path) -> str:
        seen.append(" ".join(words[:2]))
        monkeypatch.chdir(folder)
        result = CliRunner().invoke(app, list(words))
        assert result.exit_code == 0, result.output
        return result.stdout

    run.seen = seen  # type: ignore[attr-defined]
    return run


def test_one_table_a_folder(
    ablation: ModuleType, magic: Any, drawn_prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--out", str(tmp_path / "out"), "--preset", "tiny", "--set", "epochs=1", "--set", "hashed_words=64"]
    words += ["--only", "default", "text-only", "rules-off", "decode-slot"]
    ablation.main([*words, "--valid", str(drawn_prepared), "--parents"], magic)
    table = capsys.readouterr().out
    assert "split valid, text and photos, seeds 0" in table
    names = [line.split()[0] for line in table.splitlines() if " 0." in line]
    assert [name for name in names if "CQID" not in name] == ["default", "text-only", "rules-off", "decode-slot"]
    assert table.count("CQID011") == 4
    assert magic.seen.count("train cvqa") == 3
    assert magic.seen.count("predict cvqa") == 4
    magic.seen.clear()
    ablation.main([*words, "--valid", str(drawn_prepared)], magic)
    assert magic.seen == []
    with pytest.raises(SystemExit, match="choose another --out"):
        ablation.main([*words, "--set", "epochs=2", "--valid", str(drawn_prepared)], magic)


def test_folds_are_judged_by_what_they_have_not_seen(
    ablation: ModuleType, magic: Any, drawn_prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Decided anew as in training, the folds' checkpoints give the figures of the cross-validation itself."""
    words = ["--out", str(tmp_path / "out"), "--preset", "tiny", "--set", "epochs=1", "--set", "hashed_words=64"]
    words += ["--set", "decode=slot", "--folds", str(drawn_prepared), "--seeds", "0", "1"]
    ablation.main([*words, "--only", "default", "decode-slot"], magic)
    table = capsys.readouterr().out
    assert "five folds over split train, text and photos, seeds 0, 1" in table
    [default] = [line for line in table.splitlines() if line.split()[:1] == ["default"]]
    [slot] = [line for line in table.splitlines() if line.split()[:1] == ["decode-slot"]]
    assert default.split()[1] == slot.split()[1]
    assert "+0.0000" in slot
    assert magic.seen.count("train cvqa") == 2
    scored = [
        json.loads((tmp_path / "out" / drawn_prepared.name / f"default-seed-{seed}" / "folds.json").read_text())
        for seed in (0, 1)
    ]
    value = np.mean([one["figures"]["accuracy_all"]["value"] for one in scored])
    assert float(default.split()[1]) == pytest.approx(value, abs=1e-4)


def test_rows_about_photos_need_them(
    ablation: ModuleType, magic: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_prepared(tmp_path / "prepared", photos=False)
    words = ["--out", str(tmp_path / "out"), "--preset", "tiny", "--set", "epochs=1", "--valid", str(data)]
    ablation.main([*words, "--only", "default", "text-only", "image-only"], magic)
    table = capsys.readouterr().out
    assert "split valid, text, seeds 0" in table
    assert "only" not in table
    assert magic.seen == ["train cvqa", "predict cvqa"]


def test_shuffles_are_averaged_by_encounter(ablation: ModuleType) -> None:
    first = EncounterSums(("b", "a"), ("x",), np.array([[1.0], [3.0]]), lambda sums: sums)
    second = EncounterSums(("a", "b"), ("x",), np.array([[5.0], [2.0]]), lambda sums: sums)
    found = ablation.mean([first, second])
    assert found.ids == ("a", "b")
    assert found.sums.tolist() == [[4.0], [1.5]]


def test_every_row_is_made_of_real_settings(ablation: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert len({part.name for part in ablation.PARTS}) == len(ablation.PARTS)
    default = resolve(CvqaConfig, "small")
    for part in ablation.PARTS[1:]:
        assert part.decode or part.photos or resolve(CvqaConfig, "small", part.settings) != default
        assert part.decode != "set"
    ablation.main(["--list"])
    assert len(capsys.readouterr().out.splitlines()) == len(ablation.PARTS)
