"""`magic train TASK --set help`: every setting, its default of the preset, its values; nothing else is needed."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from magic_cli import preset_files
from magic_cli.cli.app import app
from magic_cli.commands.settings.settings_help import settings_help
from magic_cli.config import resolve, settings_of
from magic_cli.io import schema
from magic_cli.models.masks.losses import MASK_LOSSES
from magic_cli.tasks import NAMES, config_class
from magic_cli.tasks.cvqa.config import CvqaConfig
from magic_cli.tasks.seg.config import SegConfig


@pytest.mark.parametrize("task", NAMES)
@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_needs_no_data_and_writes_nothing(
    task: str, as_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", task, "--preset", "paper", "--set", "epochs=3", "--set", "help"]
    result = CliRunner().invoke(app, [*words, *(["--json"] if as_json else [])])
    assert (result.exit_code, list(tmp_path.iterdir())) == (0, [])
    names = [name for name in settings_of(config_class(task)) if name != "preset"]
    if as_json:
        found = json.loads(result.stdout)
        assert schema.problems("settings", found, "--json") == []
        assert [row["name"] for row in found["settings"]] == names
    else:
        starts = [line[2:].split(" ")[0] for line in result.stdout.splitlines() if line.startswith("  ")]
        assert [start for start in starts if start] == ["setting", *names]
        assert re.search(rf"next: magic train {task} --preset paper --set epochs=\d+\n$", result.stdout)


def test_rows_show_types_bounds_choices_and_the_defaults_of_the_preset() -> None:
    rows = {row["name"]: row for row in settings_help(SegConfig, "paper").to_json()["settings"]}
    assert rows["image_size"].items() >= {"type": "integer", "minimum": 32, "maximum": 4096, "default": 352}.items()
    assert rows["dropout"].items() >= {"type": "number", "minimum": 0, "exclusiveMaximum": 1}.items()
    assert rows["crop"].items() >= {"exclusiveMinimum": 0, "maximum": 1, "default": 1.0}.items()
    assert rows["loss"].items() >= {"enum": list(MASK_LOSSES), "default": "bce"}.items()
    assert rows["threshold_for"]["enum"][:2] == ["none", "jaccard_meanofmax"]
    assert "enum" not in rows["monitor"]


def test_lines_are_aligned_and_say_the_same() -> None:
    text = settings_help(CvqaConfig, "tiny").lines()
    head = text[1]
    columns = [head.index(name) for name in ("default", "values", "meaning")]
    rows = {line.split()[0]: line for line in text[2:-1]}
    assert [rows["dropout"][at:].split("  ")[0] for at in columns[:2]] == ["0.1", "number in [0, 1)"]
    assert [rows["rules"][at:].split("  ")[0] for at in columns[:2]] == ["true", "true or false"]
    assert [rows["finetune"][at:].split("  ")[0] for at in columns[:2]] == ["head", "head | last | all | lora |"]
    assert all(line[at - 1] == " " for line in text[1:-1] if len(line) > columns[2] for at in columns)


def test_a_preset_that_is_not_there_is_refused() -> None:
    result = CliRunner().invoke(app, ["train", "seg", "--preset", "smal", "--set", "help"])
    assert "did you mean small?" in str(result.exception)


@pytest.mark.parametrize("task", NAMES)
@pytest.mark.parametrize("preset", ["small", "paper"])
def test_the_file_that_is_written_gives_the_settings_of_its_preset(
    task: str, preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["config", task, "--preset", preset])
    assert result.exit_code == 0
    Path("my.toml").write_text(result.stdout, encoding="utf-8")
    again = resolve(config_class(task), preset_files.base_of("my.toml", ""), (), "my.toml")
    assert again == resolve(config_class(task), preset)
    assert all(len(line) <= 120 for line in result.stdout.splitlines())
    changed = result.stdout.replace("\nepochs = ", "\nepochs = 1")
    Path("my.toml").write_text(changed, encoding="utf-8")
    assert resolve(config_class(task), preset, (), "my.toml").epochs == int(f"1{again.epochs}")


def test_presets_are_listed_with_ones_own_and_their_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("presets").mkdir()
    Path("presets/mine.toml").write_text('extends = "tiny"\nabout = "for our clinic"\n')
    Path("presets/broken.toml").write_text('extends = "tny"\n')
    Path("presets/small.toml").write_text("")  # a shipped name is the shipped one's
    result = CliRunner().invoke(app, ["config", "--list", "--json"])
    found = json.loads(result.stdout)
    assert schema.problems("presets", found, "--json") == []
    rows = {row["name"]: row for row in found["presets"]}
    assert list(rows) == ["large", "paper", "quick", "small", "tiny", "broken", "mine"]
    assert all(row["about"] and row["needs"] and row["cost"] for row in found["presets"] if not row["own"])
    assert (rows["mine"]["about"], rows["mine"]["extends"]) == ("for our clinic", "tiny")
    assert rows["broken"]["fault"] == "--preset tny: no such preset; did you mean tiny?"
    assert "mine (yours, extends tiny): for our clinic" in CliRunner().invoke(app, ["config", "--list"]).stdout
    assert CliRunner().invoke(app, ["config"]).exit_code == 2
