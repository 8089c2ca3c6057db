"""On a CUDA device: every task in every precision, resume, LoRA, caches, steps that wait for nothing, large batches.

The checks are those of tests/benchmarks/gpu.py, which also times them (tests/builders/gpu_checks.py).
"""

from pathlib import Path

import pytest
import torch
from gpu_checks import World, checks

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="no CUDA device here: tests/training/test_without_a_gpu.py"
    ),
    pytest.mark.filterwarnings("default"),  # torch warns of what is slower, or varies, on a GPU
]

CHECKS = checks(is_small=False)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("gpu"), "cuda")


@pytest.mark.parametrize("name", CHECKS)
def test_on_cuda(name: str, world: World) -> None:
    rows = CHECKS[name](world)
    assert rows
    assert [row for row in rows if not row.ok] == []


def test_the_largest_batch_is_found_on_cuda(world: World, tmp_path: Path) -> None:
    from magic_cli.commands import train

    found = train.train("seg", world.drawn, tmp_path / "seg", world.options("batch_size=auto", "epochs=1"))
    assert int(found.config["batch_size"]) >= 1
