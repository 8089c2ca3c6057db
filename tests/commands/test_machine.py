"""commands/machine: memory and what presets need of it, and strangers that own the module or the command."""

import sys
from pathlib import Path

import pytest

from magic_cli.commands.machine import memory, owners
from magic_cli.commands.machine.row import Row
from magic_cli.preset_files import shipped_presets

GB = 10**9


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment with this program alone, whose folder of scripts is the only one in PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(owners.sysconfig, "get_path", lambda _: str(folder))
    return folder


def script(folder: Path, text: str = "#!/usr/bin/python\nfrom magic_cli.__main__ import start\n") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "magic"
    path.write_text(text)
    path.chmod(0o755)
    return path


def found() -> tuple[Row, Row]:
    module, command = owners.rows()
    return module, command


def test_names_that_are_ours_are_ok(scripts: Path) -> None:
    path = script(scripts)
    module, command = found()
    assert (module.status, command.status, command.value) == ("ok", "ok", str(path))
    assert Path(module.value.rpartition(" in ")[2]) / "commands" / "machine" == Path(owners.__file__).parent


def test_a_stranger_of_the_same_names_is_told_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pip would leave it: what lies beside a package's files is read by importlib.metadata itself."""
    info = tmp_path / "site" / "Magic_CLI-0.1.23.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Magic_CLI\nVersion: 0.1.23\n")
    (info / "RECORD").write_text("magic_cli/__init__.py,,\nmagic_cli/magic.py,,\n")
    (info / "entry_points.txt").write_text("[console_scripts]\nmagic = magic_cli.magic:main\n")
    monkeypatch.syspath_prepend(str(info.parent))
    again = "then, in the clone of this project: pip install --force-reinstall --no-deps ."
    assert [(row.status, row.remedy) for row in found()] == [("missing", f"run: pip uninstall magic-cli; {again}")] * 2
    assert [row.value for row in found()] == ["magic-cli has files in it, too", "magic-cli installs one, too"]


def test_another_program_in_path_is_told(scripts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = found()[1]
    assert (command.status, command.value) == ("note", "not on PATH")
    assert "python -m magic_cli does the same" in command.remedy
    monkeypatch.setenv("PATH", f"{tmp_path / 'other'}:{scripts}")
    script(scripts)
    other = script(tmp_path / "other", "#!/bin/sh\nexec magic-vlsi\n")
    command = found()[1]
    assert (command.status, command.value) == ("note", f"{other} is another program")
    assert command.remedy.endswith(f"put {scripts} first in PATH")
    script(tmp_path / "other")
    assert found()[1].value == f"{other} is that of another environment"
    script(tmp_path / "other", "\x7fELF compiled")
    assert found()[1].value == f"{other} is that of another environment"


def rows(monkeypatch: pytest.MonkeyPatch, total: int | None, free: int | None) -> dict[str, Row]:
    monkeypatch.setattr(memory.memory, "total", lambda: total)
    monkeypatch.setattr(memory.memory, "available", lambda: free)
    return {row.name: row for row in memory.rows()}


def test_memory_and_what_presets_need(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi
    found = rows(monkeypatch, 25 * GB, 17 * GB)
    assert found["memory"].value == "25.0 GB, 17.0 GB free"
    assert {name for name in found if name != "memory"} == set(shipped_presets())
    assert found["small"].status == found["quick"].status == "ok"
    assert found["small"].value.startswith("seg 5.2, cvqa 1.5, ")
    assert found["large"].value == "seg about 20 GB of GPU memory, an estimate"
    for_gpus = [found[name] for name in ("large", "paper")]
    assert [(row.status, "there is no GPU here" in row.remedy) for row in for_gpus] == [("note", True)] * 2
    small = rows(monkeypatch, 2 * GB, None)
    assert small["memory"].value == "2.0 GB"
    assert (small["small"].status, small["quick"].status) == ("note", "ok")
    assert small["small"].remedy.startswith("seg: use --preset quick")
    assert rows(monkeypatch, None, None)["memory"].value == "unknown on this system"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for nvidia-smi")
def test_gpus_are_those_of_the_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA A100, SXM, 81920, 81000'\necho 'NVIDIA T4, 15360, [N/A]'\n")
    tool.chmod(0o755)
    found = rows(monkeypatch, 25 * GB, 17 * GB)
    assert found["gpu 0"].value == "NVIDIA A100, SXM, 85.9 GB, 84.9 GB free"
    assert "gpu 1" not in found
    assert found["large"].status == found["paper"].status == "ok"
    tool.write_text("#!/bin/sh\necho 'NVIDIA T4, 15360, 15000'\n")
    found = rows(monkeypatch, 25 * GB, 17 * GB)
    assert found["large"].remedy.startswith("the GPU here has 16 GB: --set batch_size=auto")
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert "gpu 0" not in rows(monkeypatch, 25 * GB, 17 * GB)
