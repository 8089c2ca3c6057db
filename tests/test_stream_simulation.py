"""benchmarks/stream_simulation.py at small sizes: orders stay exact when the number of processes changes on the way."""

from pathlib import Path
from types import ModuleType

import pytest
from benchmark_scripts import benchmark

from magic_cli.training.loader import WholeBatches

PAIRS, BATCH, STEPS = 10_123, 256, 39


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    return benchmark("stream_simulation")


@pytest.mark.parametrize("window", [0, 2])
@pytest.mark.parametrize("numbers", [(1, 8, 64), (64, 3, 1)])
def test_no_pair_is_lost_or_seen_twice_whatever_number_of_processes_goes_on(
    window: int, numbers: tuple[int, ...], simulation: ModuleType, tmp_path: Path
) -> None:
    epoch = simulation.Epoch(PAIRS, BATCH, window, seed=3, number=2)
    parts = simulation.drawn_parts(epoch.steps, numbers, 5, seed=7)
    assert [processes for processes, _ in parts] == [numbers[n % len(numbers)] for n in range(6)]
    found = simulation.walk(epoch, parts, tmp_path)
    assert (found.equal, found.steps) == (STEPS, STEPS)
    assert (found.seen, found.twice, found.left) == (STEPS * BATCH, 0, PAIRS - STEPS * BATCH)
    assert found.state < 4096


def test_it_notices_what_is_lost_and_what_comes_twice(
    simulation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = simulation.resume.load

    def late(path: Path, data: str) -> object:
        progress, tensors = load(path, data)
        progress.step += 1
        return progress, tensors

    epoch = simulation.Epoch(PAIRS, BATCH)
    monkeypatch.setattr(simulation.resume, "load", late)
    found = simulation.walk(epoch, [(2, 30), (4, STEPS)], tmp_path)
    assert (found.equal, found.left) == (30, PAIRS - (STEPS - 1) * BATCH)
    monkeypatch.undo()
    of_rank = WholeBatches.__init__

    def alike(self: WholeBatches, *values: object) -> None:
        of_rank(self, *values[:3], values[3] and 1, *values[4:])  # type: ignore[arg-type]  # no rank but 0 and 1

    monkeypatch.setattr(WholeBatches, "__init__", alike)
    found = simulation.walk(epoch, [(4, STEPS)], tmp_path)
    assert found.equal == 0
    assert found.twice == STEPS * BATCH // 2
