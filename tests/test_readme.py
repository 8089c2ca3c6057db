"""README, examples/ and CHANGELOG tell the truth: every command line in them runs, every module is listed."""

import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from magic_cli.cli.app import app
from magic_cli.commands import demo

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
Run = Callable[[list[str]], str]


def shell_lines(text: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def magic_lines(text: str) -> list[list[str]]:
    """Return the words of the commands that start with `magic`, without `magic`; `&&` joins commands in a line."""
    commands = [command.strip() for line in shell_lines(text) for command in line.split("&&")]
    return [shlex.split(command, comments=True)[1:] for command in commands if command.startswith("magic ")]


@pytest.fixture
def run(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line in this process, in a folder with drawn data and examples/; tiny models, few steps."""
    shutil.copytree(drawn, tmp_path / "DermaVQA")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    shutil.copyfile(min((drawn / "images_final/images_valid").iterdir()), tmp_path / "lesion.jpg")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def invoke(words: list[str]) -> str:
        tiny = {"train": ["--preset", "tiny", "--set", "epochs=1"], "demo": ["--preset", "tiny"]}.get(words[0], [])
        result = CliRunner().invoke(app, [*words, *tiny])
        assert result.exit_code == 0, f"magic {' '.join(words)}: {result.exception!r}\n{result.output}"
        return result.stdout

    def step(step: demo.Step, cwd: Path) -> dict[str, Any] | None:
        with monkeypatch.context() as context:
            context.chdir(cwd)
            output = invoke(list(step.words))
        return json.loads(output) if step.parse else None

    monkeypatch.setattr(demo, "COUNTS", {"train": 6, "valid": 2, "test": 2})
    monkeypatch.setattr(demo, "_call", step)
    return invoke


def test_every_command_line_of_the_readme_runs(run: Run, tmp_path: Path) -> None:
    lines = magic_lines(README)
    assert {words[0] for words in lines} == {
        *("prepare", "train", "predict", "score", "package", "index", "search", "demo", "doctor"),
    }
    outputs = {" ".join(words): run(words) for words in lines}
    assert (tmp_path / "submission.zip").is_file()
    assert (tmp_path / "magic-demo" / "submission.zip").is_file()
    assert "dice_meanofmax" in outputs["demo"]
    assert "accuracy_all" in outputs["demo"]
    assert all("next" in output or words == "doctor" for words, output in outputs.items())


def test_command_lines_of_the_examples_run(run: Run) -> None:
    lines = magic_lines((ROOT / "examples" / "README.md").read_text(encoding="utf-8"))
    assert len(lines) >= 2
    for words in lines:
        run(words)


@pytest.mark.parametrize("recipe", sorted(path.name for path in (ROOT / "examples").glob("*.sh")))
def test_recipes_run(recipe: str, run: Run, tmp_path: Path) -> None:
    """The real shell reads the recipe; a stand-in `magic` notes the lines, which then run in this process."""
    text = (ROOT / "examples" / recipe).read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text
    assert os.access(ROOT / "examples" / recipe, os.X_OK)
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "magic"
    fake.write_text('#!/bin/sh\necho "$@" >> "$NOTES"\n')
    fake.chmod(0o755)
    env = os.environ | {"PATH": f"{fake.parent}:{os.environ['PATH']}", "NOTES": str(tmp_path / "notes")}
    command = ["bash", str(ROOT / "examples" / recipe)]
    subprocess.run([*command, "DermaVQA", "--seed", "3"], env=env, check=True, cwd=tmp_path, timeout=120)
    lines = [line.split() for line in (tmp_path / "notes").read_text().splitlines()]
    assert [words[0] for words in lines] == ["prepare", "train", "predict", "score", "predict", "package"]
    assert lines[1][2:] == ["--seed", "3"]
    for words in lines:
        run(words)
    assert list(tmp_path.glob("*.zip"))
    assert subprocess.run(command, env=env, capture_output=True, text=True).returncode != 0  # no DATA: usage


def test_the_slurm_script_goes_on_with_a_stopped_run(tmp_path: Path) -> None:
    """Stand-ins: `srun` runs its words, `magic` notes them and ends as the environment says."""
    (tmp_path / "bin").mkdir()
    magic = 'echo "$@" >> notes; mkdir -p runs/seg; touch runs/seg/state.pt; exit "$STATUS"\n'
    for name, text in {"srun": 'exec "$@"\n', "magic": magic, "apptainer": 'shift 3; exec magic "$@"\n'}.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}")
        (tmp_path / "bin" / name).chmod(0o755)
    command = ["bash", str(ROOT / "examples" / "train.sbatch"), "data", "seg", "--seed", "3"]
    env = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    for status, sif, said in (("130", "", True), ("0", "magic.sif", False), ("5", "", False)):
        changed = env | {"STATUS": status, "MAGIC_SIF": sif}
        done = subprocess.run(command, env=changed, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == int(status)
        assert ("submit the same line again" in done.stdout) is said
    first, *later = (tmp_path / "notes").read_text().splitlines()
    assert first == "train seg --data data --out runs/seg --seed 3"
    assert set(later) == {"train seg --data data --out runs/seg --resume --seed 3"}
    assert subprocess.run(command[:3], env=env, capture_output=True, text=True).returncode != 0  # no TASK: usage


def test_the_script_for_several_nodes_meets_on_the_first(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    stand_ins = {"srun": 'exec "$@"\n', "torchrun": 'echo "$@" >> notes\n', "scontrol": "printf 'n7\\nn8\\n'\n"}
    for name, text in stand_ins.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}")
        (tmp_path / "bin" / name).chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "SLURM_JOB_ID": "5", "SLURM_NNODES": "2"}
    env |= {"SLURM_JOB_NODELIST": "n[7-8]"}
    command = ["bash", str(ROOT / "examples" / "train_nodes.sbatch"), "data", "seg", "--seed", "3"]
    subprocess.run(command, env=env, cwd=tmp_path, check=True, timeout=60)
    (tmp_path / "runs" / "seg").mkdir(parents=True)
    (tmp_path / "runs" / "seg" / "state.pt").touch()
    subprocess.run(command, env=env, cwd=tmp_path, check=True, timeout=60)
    first, second = (tmp_path / "notes").read_text().splitlines()
    meet = "--nnodes 2 --nproc_per_node 4 --rdzv_id 5 --rdzv_backend c10d --rdzv_endpoint n7:29500 --no-python magic"
    assert first == f"{meet} train seg --data data --out runs/seg --seed 3"
    assert second == f"{meet} train seg --data data --out runs/seg --resume --seed 3"


def listed_modules(text: str) -> list[str]:
    """The paths of the modules in the tree of architecture.md that have a description."""
    tree = text[text.index("## The modules") :].split("```")[1]
    folders: list[str] = []
    paths = []
    for line in filter(str.strip, tree.splitlines()):
        name, _, description = line.strip().partition(" ")
        folders = folders[: (len(line) - len(line.lstrip())) // 2]
        assert description.strip(), line
        if name.endswith("/"):
            folders.append(name)
        else:
            paths.append("".join(folders) + name)
    return paths


def test_every_module_is_listed_with_one_line() -> None:
    text = (ROOT / "examples" / "architecture.md").read_text(encoding="utf-8")
    package = ROOT / "magic_cli"
    modules = [path.relative_to(package).as_posix() for path in package.rglob("*.py") if path.name != "__init__.py"]
    assert sorted(listed_modules(text)) == sorted(modules)


def test_twenty_questions_have_an_answer_that_exists() -> None:
    text = (ROOT / "examples" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?!question)(\w.+?) \| (.+) \|$", text, re.MULTILINE)
    assert len(rows) >= 20
    for question, answer in rows:
        places = re.findall(r"`((?:[\w*]+/)+[\w*.]*|\w+\.py)`", answer)
        assert places, question
        for place in places:
            assert list(ROOT.glob(place.rstrip("/"))) or list((ROOT / "magic_cli").glob(place.rstrip("/"))), (
                question,
                place,
            )


def test_readme_is_short_and_its_links_lead_somewhere() -> None:
    assert len(README.split()) < 900
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    assert README.count("```") % 2 == 0
    first_block = README[: README.index("```sh")].count("\n") + 1
    assert first_block <= 25


def test_readme_names_the_test_and_install_commands() -> None:
    lines = shell_lines(README)
    assert "pip install . && magic demo" in lines
    assert "pip install '.[dev]' && pytest" in lines


def test_readme_names_every_exit_code_preset_and_task() -> None:
    from magic_cli import errors, tasks
    from magic_cli.preset_files import shipped_presets

    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    for code in codes:
        assert re.search(rf"\b{code} [a-z]", README), code
    for name in (*shipped_presets(), *tasks.NAMES):
        assert f"`{name}`" in README


def test_what_is_to_be_cited_is_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
    assert all(entry["title"] and entry["authors"] for entry in cited["references"])


def test_changelog_says_why_for_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for wanted in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        name = re.match(r"[\w-]+", wanted)[0]
        assert f"`{name}`" in changelog, name
