"""The environment of a process that a launcher of several started."""

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


def launch(monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    """Let this process be the one with this rank, of two."""
    for name, value in launched(rank).items():
        monkeypatch.setenv(name, value)
