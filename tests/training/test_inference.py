"""The prediction loop, the views a sample is seen in, and the parts of the engine that need no training."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from magic_cli.config import resolve
from magic_cli.errors import ConfigError
from magic_cli.models.encoders import TinyText
from magic_cli.records import Case, Sample
from magic_cli.tasks.encoding import text_item
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.tasks.seg.decide import MaskPrediction
from magic_cli.training.devices import accelerator_for, autocast, keep_memory
from magic_cli.training.inference import average_predictions, fill_cache, predict
from magic_cli.training.task_model import Batch, TaskModel
from magic_cli.training.updates import optimizer_for


@dataclass(frozen=True)
class EchoBatch(Batch):
    ids: list[str]
    x: Tensor


class Echo(TaskModel):
    """Predicts the length of a sample's id, and records the batches it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(2, 2)

    def collate(self, samples: Sequence[Sample], views: Sequence[int]) -> Batch:
        lengths = torch.tensor([[len(s.id), v] for s, v in zip(samples, views, strict=True)])
        return EchoBatch([s.id for s in samples], lengths)

    def loss(self, batch: EchoBatch) -> Tensor:
        return self.head(batch.x.float()).sum()

    def predict(self, batch: EchoBatch, _view: int) -> list[MaskPrediction]:
        assert not torch.is_grad_enabled()
        assert not self.training
        return [
            MaskPrediction(name, row[None].numpy().astype(np.float32))
            for name, row in zip(batch.ids, batch.x, strict=True)
        ]


def samples(count: int) -> list[Sample]:
    encounter = Case("E", "test", (), {}, "", "")
    return [Sample("x" * n, encounter, ()) for n in range(1, count + 1)]


@pytest.mark.parametrize("count", [1, 7, 8, 9])
def test_every_sample_is_predicted_once_in_order(count: int) -> None:
    config = resolve(SegConfig, "tiny", ["batch_size=4"])
    found = list(predict(Echo(), samples(count), config, accelerator_for(config, "cpu")))
    assert [len(p.id) for p in found] == list(range(1, count + 1))
    assert [int(p.probability[0, 0]) for p in found] == list(range(1, count + 1))


def test_a_view_reaches_the_model() -> None:
    config = resolve(SegConfig, "tiny")
    found = list(predict(Echo(), samples(3), config, accelerator_for(config, "cpu"), view=3))
    assert {int(p.probability[0, 1]) for p in found} == {3}


def test_average_is_the_mean_and_wants_one_order() -> None:
    def run(value: float) -> list[MaskPrediction]:
        return [MaskPrediction(name, np.full((2, 2), value, np.float32), shape=(4, 4)) for name in ("a", "b")]

    found = list(average_predictions([run(0.0), run(0.5), run(1.0)]))
    assert [p.id for p in found] == ["a", "b"]
    assert found[0].shape == (4, 4)
    assert found[0].probability == pytest.approx(np.full((2, 2), 0.5))
    assert found[0].probability.dtype == np.float32
    with pytest.raises(ValueError, match="argument 2"):
        list(average_predictions([run(0), run(1)[:1]]))


def test_data_loader_workers_give_the_same_predictions() -> None:
    config = resolve(SegConfig, "tiny", ["batch_size=2", "workers=2"])
    found = list(predict(Echo(), samples(5), config, accelerator_for(config, "cpu")))
    assert [len(p.id) for p in found] == [1, 2, 3, 4, 5]


def test_an_absent_device_is_named() -> None:
    with pytest.raises(ConfigError, match="expected one of auto, cpu"):
        accelerator_for(resolve(SegConfig, "tiny"), "tpu")


def test_fp16_falls_back_on_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert accelerator_for(resolve(SegConfig, "tiny", ["precision=fp16"]), "cpu").mixed_precision == "no"
    assert "needs a GPU" in capsys.readouterr().err


def test_biases_and_norms_do_not_decay() -> None:
    groups = optimizer_for(Echo(), resolve(SegConfig, "tiny", ["weight_decay=0.5"])).param_groups
    assert {(group["params"][0].ndim, group["weight_decay"]) for group in groups} == {(2, 0.5), (1, 0.0)}


def test_keep_memory_can_be_called_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_memory()
    monkeypatch.setattr("sys.platform", "darwin")
    keep_memory()


def test_a_process_may_change_its_precision() -> None:
    """Accelerate refuses a second precision in one process; an ensemble or folds may bring one."""
    for precision in ("no", "bf16", "no"):
        config = resolve(SegConfig, "tiny", [f"precision={precision}"])
        assert accelerator_for(config, "cpu").mixed_precision == precision


@pytest.mark.parametrize(("precision", "expected"), [("no", torch.float32), ("bf16", torch.bfloat16)])
def test_prediction_computes_in_the_precision_of_its_settings(precision: str, expected: torch.dtype) -> None:
    class Seen(Echo):
        def predict(self, batch: EchoBatch, view: int) -> list[MaskPrediction]:
            assert self.head(batch.x.float()).dtype == expected
            return super().predict(batch, view)

    config = resolve(SegConfig, "tiny", [f"precision={precision}"])
    assert len(list(predict(Seen(), samples(3), config, accelerator_for(resolve(SegConfig, "tiny"), "cpu")))) == 3
    with autocast("fp16", torch.device("cpu")):  # where float16 is not possible nothing changes
        assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.float32


def test_processes_share_the_encoding_and_then_know_all_of_it() -> None:
    """Each part is filled by one process; afterwards every process has asked for everything, once a key."""
    encoder, calls = TinyText(16), {0: [], 1: []}
    encoder.freeze()
    items = [text_item(encoder, text, "") for text in ("a", "b", "a", "c")]
    for rank, seen in calls.items():
        model = Echo()
        model.frozen = lambda *_: [(encoder, item) for item in items]  # type: ignore[method-assign]
        model.cache = SimpleNamespace(
            hold=lambda: None, fill=lambda _e, part, _d, seen=seen: seen.append([i.key for i in part])
        )
        here = {"process_index": rank, "num_processes": 2, "device": torch.device("cpu")}
        fill_cache(model, [], 1, SimpleNamespace(**here, wait_for_everyone=lambda: None))
    keys = [items[0].key, items[1].key, items[3].key]
    assert calls == {0: [[keys[0], keys[2]], keys], 1: [[keys[1]], keys]}
