"""io/environment.py: versions of what is loaded, torch's part where a command computes, the checkout's state."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from launchers import launch

from magic_cli.io import environment


def test_versions_are_those_of_loaded_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    monkeypatch.delitem(sys.modules, "timm", raising=False)
    versions = environment.versions()
    assert versions["python"] == sys.version.split()[0]
    assert versions["numpy"] == np.__version__
    assert "mediqa-magic" in versions
    assert "timm" not in versions
    assert environment.version("nothing-of-that-name") == "not installed"


def test_what_torch_says_belongs_to_commands_that_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    facts = environment.machine("auto")
    assert facts["threads"] == torch.get_num_threads()
    assert facts["device"] in ("cpu", "mps") or torch.cuda.is_available()
    assert facts["instructions"]
    assert environment.machine("cpu")["device"] == "cpu"
    for device in (None, ""):
        light = environment.machine(device)
        assert (light["device"], light["instructions"], light["threads"]) == (None, None, None)
        assert light["platform"]
    launch(monkeypatch, 0)
    assert environment.machine(None)["processes"] == 2
    monkeypatch.delitem(sys.modules, "torch")
    assert environment.machine("auto")["threads"] is None


@pytest.mark.parametrize(
    ("cuda", "mps", "devices"),
    [(False, False, ("cpu",)), (True, False, ("cuda", "cpu")), (False, True, ("mps", "cpu"))],
)
def test_the_fastest_device_comes_first(
    cuda: bool, mps: bool, devices: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H100")
    assert environment.torch_devices(torch) == devices
    assert environment.machine("auto")["device"] == ("H100" if cuda else devices[0])
    assert environment.machine("cuda")["device"] == ("H100" if cuda else "cuda")  # as in a record of another machine


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_state_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        clean = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin:/usr/local/bin", "GIT_CONFIG_NOSYSTEM": "1"}
        whose = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
        return subprocess.run(
            ["git", *whose, *words], cwd=tmp_path, env=clean, check=True, capture_output=True, text=True
        ).stdout.strip()

    def state() -> object:
        environment.git.cache_clear()
        return environment.git()

    package = tmp_path / "magic_cli"
    package.mkdir()
    (package / "io").mkdir()
    (package / "io" / "environment.py").write_text("")
    monkeypatch.setattr(environment, "__file__", str(package / "io/environment.py"))
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as in a hook of another repository
    try:
        assert state() is None  # installed
        git("init")
        git("add", ".")
        git("commit", "-m", "one")
        commit = git("rev-parse", "HEAD")
        assert state() == {"commit": commit, "changed": False}
        (tmp_path / "notes.txt").write_text("no part of the program")
        assert state() == {"commit": commit, "changed": False}
        (package / "new.py").write_text("")
        assert state() == {"commit": commit, "changed": True}
        monkeypatch.setenv("PATH", "")
        assert state() is None  # without git nothing is known
    finally:
        monkeypatch.undo()
        environment.git.cache_clear()
