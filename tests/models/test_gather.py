"""models/gather.py: two processes that share a batch get the loss and the gradients of one that has all of it."""

import contrastive_processes
import pytest
import torch
from contrastive_processes import CASES, OPTIONS, Parameters, batch, gradients

from magic_cli.models.gather import ALONE

Results = list[dict[tuple[str, str] | str, Parameters]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return contrastive_processes.run(tmp_path_factory.mktemp("processes"))


@pytest.mark.parametrize(("name", "share"), CASES)
def test_two_processes_are_one(results: Results, name: str, share: str) -> None:
    expected = gradients(OPTIONS[name], batch(share))
    assert expected["loss"] > 0.1
    for mean in (process[name, share] for process in results):
        for key, value in expected.items():
            torch.testing.assert_close(mean[key], value, rtol=1e-10, atol=1e-12, msg=key)
        towers = [torch.cat([each[key].flatten() for key in ("image", "text", "patch")]) for each in (mean, expected)]
        assert torch.cosine_similarity(*towers, dim=0).item() == pytest.approx(1, abs=1e-6)
        assert (towers[0].norm() / towers[1].norm()).item() == pytest.approx(1, abs=1e-6)
    assert expected["log_scale"] != 0


def test_rows_of_all_processes(results: Results) -> None:
    for process, rows in zip(results, (0, 1), strict=True):
        found = process["gather"]
        assert found["rows"].tolist() == [[1.0, 1.0]]
        assert found["gradient"].tolist() == [[3.0, 3.0]] * rows  # 1 from the first process, 2 from the second
        assert found["bool"].tolist() == [True, False, False]
        assert found["bfloat16"].tolist() == [[0.5] * 3, [1.5] * 3]
        assert found["known"].tolist() == [0, 0, 1]
        assert found["total"] == 4
        assert not found["total"].requires_grad


def test_one_process_gathers_nothing() -> None:
    rows = torch.ones(2, 3, requires_grad=True)
    assert ALONE(rows) is rows
    assert ALONE.sized(2, rows.device).rows == (2,)
    total = ALONE.total(rows.sum())
    assert total == 6
    assert not total.requires_grad
