"""The environment of a process that a launcher of several started."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest


def launched(rank: int, processes: int = 2) -> dict[str, str]:
    """Return what torchrun sets in process `rank`."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",
    }


def run_together(
    words: Sequence[str | Path], processes: int = 2, variables: Mapping[str, str] | None = None
) -> list[tuple[int, str]]:
    """Run Python with these words in several processes, without the time that torchrun takes.

    Returns:
        Exit code and stderr of each.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    folders = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    usual = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(folders)} | dict(variables or {})
    started = [
        subprocess.Popen(
            [sys.executable, *words],
            env=usual | launched(rank, processes) | {"MASTER_PORT": port},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    try:
        told = [process.communicate(timeout=600)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, text) for process, text in zip(started, told, strict=True)]


def launch(monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    """Let this process be the one with this rank, of two."""
    for name, value in launched(rank).items():
        monkeypatch.setenv(name, value)
