"""benchmarks/choices.py on drawn photos: every row's options are real ones, shared runs are trained once."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from benchmark_scripts import benchmark

from magic_cli.cli import app
from magic_cli.config import resolve
from magic_cli.tasks.seg.config import SegConfig


@pytest.fixture(scope="module")
def choices() -> ModuleType:
    return benchmark("choices")


@pytest.fixture
def magic(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """A `magic` in this process, which counts its commands."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    seen: list[str] = []

    def run(words: Sequence[str], folder: Path) -> str:
        capsys.readouterr()
        seen.append(" ".join(words[:2]))
        monkeypatch.setattr(sys, "argv", ["magic", *words])
        before = Path.cwd()
        os.chdir(folder)
        try:
            with pytest.raises(SystemExit) as left:
                app.main()
        finally:
            os.chdir(before)
        out, err = capsys.readouterr()
        assert not left.value.code, err
        return out

    run.seen = seen  # type: ignore[attr-defined]
    return run


def test_one_table_of_all_rows(choices: ModuleType, magic: Any, drawn: Path, tmp_path: Path, capsys: Any) -> None:
    rows = ["default", "merge-each", "threshold-chosen", "tta", "largest", "finetune-lora"]
    words = ["--data", str(drawn), "--out", str(tmp_path / "out"), "--preset", "tiny", "--only", *rows]
    line = [*words, "--set", "epochs=1"]
    choices.main(line, magic)
    table = capsys.readouterr().out
    assert all(any(text.strip().startswith(row) for text in table.splitlines()) for row in rows)
    assert "0." in table
    assert magic.seen.count("train seg") == 3  # default and three rows that differ in prediction; each; lora
    assert magic.seen.count("predict seg") == 6
    assert (tmp_path / "out" / "report" / "report.html").is_file()
    magic.seen.clear()
    choices.main(line, magic)
    assert "train seg" not in magic.seen
    with pytest.raises(SystemExit, match="choose another --out"):
        choices.main([*words, "--set", "epochs=2"], magic)


def test_a_prepared_folder_has_one_merge_rule(
    choices: ModuleType, magic: Any, drawn_prepared: Path, tmp_path: Path, capsys: Any
) -> None:
    rows = ["default", "largest", "merge-each"]
    words = ["--data", str(drawn_prepared), "--out", str(tmp_path / "out"), "--preset", "tiny", "--set", "epochs=1"]
    choices.main([*words, "--only", *rows], magic)
    table = capsys.readouterr().out
    assert "default" in table
    assert "merge-each" not in table
    assert "prepare --data" not in magic.seen


def test_every_row_is_made_of_real_options(choices: ModuleType) -> None:
    assert len({row.name for row in choices.CHOICES}) == len(choices.CHOICES)
    for row in choices.CHOICES:
        pairs = [word for word in row.train if "=" in word]
        mode = dict(zip(row.train, row.train[1:], strict=False)).get("--finetune")
        assert resolve(SegConfig, "small", pairs, finetune=mode)
        assert row.merge in ("or", "majority", "intersection", "each")
        values = {"0.5", "0", "2"}
        assert set(row.predict) - values <= {"--threshold", "--tta", "--no-tta", "--zoom", "--largest", "--fill-holes"}
    folders = {name: options for row in choices.CHOICES for name, options in row.runs()}
    assert len(folders) == len(set(folders.values())) + 3  # merge rules differ in data, not in options
    assert json.loads(json.dumps(sorted(folders)))


def test_rows_are_listed_without_data(choices: ModuleType, capsys: Any) -> None:
    choices.main(["--list"])
    assert len(capsys.readouterr().out.splitlines()) == len(choices.CHOICES)
