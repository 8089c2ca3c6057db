"""io/locks.py: a folder is held by one process, until it ends, and not by what it forks."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from magic_cli.io import locks
from magic_cli.io.locks import folder_lock

HOLDER = """
import os, sys, time
from pathlib import Path
from magic_cli.io.locks import folder_lock
with folder_lock(Path(sys.argv[1])) as held:
    if os.fork() == 0:  # prints only what it may print once it runs, having closed its copy of the lock
        print(held, os.getpid(), flush=True)
    time.sleep(60)
"""
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such locks")


def held(folder: Path) -> bool | None:
    with folder_lock(folder) as result:
        return result


def test_one_at_a_time(tmp_path: Path) -> None:
    with folder_lock(tmp_path) as first:
        assert first is True
        assert held(tmp_path) is False
        assert held(tmp_path) is False  # the second try did not free it
    assert held(tmp_path) is True
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_holds_nothing_though_what_it_forked_lives_on(tmp_path: Path) -> None:
    """As a worker of a data loader does for some seconds."""
    words = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        result, child = process.stdout.readline().split()
        assert int(child) > 0
        try:
            assert result == "True"
            assert held(tmp_path) is False
            process.kill()
            process.wait()
            os.kill(int(child), 0)  # it is there
            assert held(tmp_path) is True
        finally:
            os.kill(int(child), signal.SIGKILL)


def test_where_nobody_can_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert held(tmp_path / "gone") is None
    os.mkfifo(tmp_path / "pipe")
    assert held(tmp_path / "pipe") is None

    def refuse(_: object, wait: bool = False) -> bool:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(locks, "try_lock", refuse)
    assert held(tmp_path) is None
