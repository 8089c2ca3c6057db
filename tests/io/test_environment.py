"""io/environment.py: versions of what is loaded, torch's part where a command computes, the checkout's state."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from magic_cli.io import environment


def test_versions_are_those_of_loaded_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    monkeypatch.delitem(sys.modules, "timm", raising=False)
    found = environment.versions()
    assert found["python"] == sys.version.split()[0]
    assert found["numpy"] == np.__version__
    assert "magic-cli" in found
    assert "timm" not in found
    assert environment.version("nothing-of-that-name") == "not installed"


def test_what_torch_says_belongs_to_commands_that_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    found = environment.of({"device": "auto"})
    assert found["threads"] == torch.get_num_threads()
    assert found["device"] in ("cpu", "mps") or torch.cuda.is_available()
    assert found["instructions"]
    assert environment.of({"device": "cpu"})["device"] == "cpu"
    for options in ({}, {"device": "auto", "vote": True}):
        light = environment.of(options)
        assert (light["device"], light["instructions"], light["threads"]) == (None, None, None)
        assert light["platform"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert environment.of({})["processes"] == 2
    monkeypatch.delitem(sys.modules, "torch")
    assert environment.of({"device": "auto"})["threads"] is None


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_state_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        clean = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin:/usr/local/bin", "GIT_CONFIG_NOSYSTEM": "1"}
        whose = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
        return subprocess.run(
            ["git", *whose, *words], cwd=tmp_path, env=clean, check=True, capture_output=True, text=True
        ).stdout.strip()

    def found() -> object:
        environment.git.cache_clear()
        return environment.git()

    package = tmp_path / "magic_cli"
    package.mkdir()
    (package / "io").mkdir()
    (package / "io" / "environment.py").write_text("")
    monkeypatch.setattr(environment, "__file__", str(package / "io/environment.py"))
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as in a hook of another repository
    try:
        assert found() is None  # installed
        git("init")
        git("add", ".")
        git("commit", "-m", "one")
        commit = git("rev-parse", "HEAD")
        assert found() == {"commit": commit, "changed": False}
        (tmp_path / "notes.txt").write_text("no part of the program")
        assert found() == {"commit": commit, "changed": False}
        (package / "new.py").write_text("")
        assert found() == {"commit": commit, "changed": True}
        monkeypatch.setenv("PATH", "")
        assert found() is None  # without git nothing is known
    finally:
        monkeypatch.undo()
        environment.git.cache_clear()
