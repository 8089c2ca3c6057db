"""examples/pretraining.md tells the truth: its command lines are typed here, on a drawn dataset with tiny encoders."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from magic_cli.cli.app import app

PAGE = (Path(__file__).parents[3] / "examples" / "pretraining.md").read_text(encoding="utf-8")
LINES = [
    line.removeprefix("magic ")
    for block in re.findall(r"^```(?:sh)?\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line.startswith("magic train pretrain")
]


def test_trainings_of_the_page_can_start(
    drawn_prepared: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(LINES) >= 8
    monkeypatch.chdir(tmp_path)
    for name in {folder for line in LINES for folder in re.findall(r"--data (\S+)", line)}:
        (tmp_path / name).symlink_to(prepared if name == "prepared-isic" else drawn_prepared)
    for line in LINES:
        tiny = ["--preset", "tiny", "--dry-run", "--device", "cpu", "--no-cache"]
        result = CliRunner().invoke(app, [*shlex.split(line), *tiny])
        assert result.exit_code == 0, f"{line}: {result.exception!r}\n{result.output}"
        assert "negatives: " in result.stderr
        assert "memory: about " in result.stderr


def test_the_22_differences_are_told() -> None:
    assert re.findall(r"^\| (D\d+) \|", PAGE, re.MULTILINE) == [f"D{number}" for number in range(1, 23)]
