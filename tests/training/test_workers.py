"""training/workers.py: what loading processes need is checked before anything is computed."""

import multiprocessing.process
import tempfile
from pathlib import Path

import pytest
from launchers import launch

from magic_cli.config import resolve
from magic_cli.errors import PeerError, ResourceError
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.training import workers


def test_a_long_folder_for_temporary_files_is_stepped_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A socket's path has at most 107 bytes."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("scratch" * 14)))
    monkeypatch.setattr(multiprocessing.process.current_process(), "_config", {})
    workers.require_workers(resolve(SegConfig, "tiny", ["workers=2"]))
    folder = multiprocessing.process.current_process()._config["tempdir"]
    assert len(folder) < 70


def test_shared_memory_that_is_absent_is_told_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(workers, "_SHARED", tmp_path / "nowhere")
    with pytest.raises(ResourceError, match="--set workers=0"):
        workers.require_workers(resolve(SegConfig, "tiny", ["workers=2"]))
    workers.require_workers(resolve(SegConfig, "tiny", ["workers=0"]))


def test_the_end_of_another_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def meet(text: str) -> None:
        with workers.report_ends("run", "again"):
            raise RuntimeError(text)

    with pytest.raises(RuntimeError, match="gloo"):
        meet("[gloo] Connection closed by peer")
    launch(monkeypatch, 0)
    with pytest.raises(PeerError, match="another process of this run ended"):
        meet("[gloo] Connection closed by peer")
    with pytest.raises(ResourceError, match="not enough shared memory"):
        meet("DataLoader worker (pid 7) exited unexpectedly with exit code 92.")
