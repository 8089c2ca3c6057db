"""Training on cached features: the very same loss and gradients in float32, within a stated bound in half precision.

Bounds are relative, on heads that have learned a little (preset tiny): loss 2^-11 in float16 and 2^-8 in bfloat16,
the rounding of one value; it averages out in a batch.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from magic_cli import tasks
from magic_cli.config import resolve
from magic_cli.data.prepared import open_prepared
from magic_cli.models.cache.features import FeatureCache
from magic_cli.tasks import config_class
from magic_cli.training.devices import accelerator_for
from magic_cli.training.inference import fill_cache
from magic_cli.training.task_model import TaskModel

BOUNDS = {"float32": 0.0, "float16": 2**-11, "bfloat16": 2**-8}
SETTINGS = {
    "seg": ["views=4"],
    "seg, crops": ["crop=0.5"],
    "cvqa": [],
    "cvqa, options": ["head=options", "sample_unit=question"],
}
Step = tuple[Tensor, list[Tensor]]


class Run:
    """A model of preset tiny that has learned for ten steps without a cache, and one batch."""

    def __init__(self, name: str, prepared: Path) -> None:
        task, data = tasks.get(name.partition(",")[0]), open_prepared(prepared)
        self.config = resolve(config_class(name.partition(",")[0]), "tiny", SETTINGS[name])
        self.accelerator = accelerator_for(self.config, "cpu")
        samples = list(task.training_samples(data, "train", self.config))
        self.samples = samples[:: max(1, len(samples) // 8)][:8]
        self.views = [5 * n % self.config.n_views for n in range(len(self.samples))]
        self.model: TaskModel = task.build(self.config, data.questions)
        self.model.begin(self.samples)
        learner = torch.optim.SGD([p for p in self.model.parameters() if p.requires_grad], lr=0.3)
        for _ in range(10):
            self.step()
            learner.step()

    def step(self) -> Step:
        """Return the loss of the batch, and the gradients of all that learns."""
        self.model.train()
        self.model.zero_grad()
        torch.manual_seed(0)  # dropout
        loss = self.model(self.model.collate(self.samples, self.views))
        loss.backward()
        return loss.detach(), [p.grad.clone() for p in self.model.parameters() if p.grad is not None]


@pytest.fixture(scope="module", params=SETTINGS)
def run(request: pytest.FixtureRequest, drawn_prepared: Path) -> Run:
    return Run(request.param, drawn_prepared)


def test_cached_features_give_the_same_loss(run: Run, tmp_path: Path) -> None:
    run.model.cache = None
    loss, gradients = run.step()
    assert loss > 0.01
    assert any(gradient.abs().max() > 1e-4 for gradient in gradients)
    for dtype, bound in BOUNDS.items():
        run.model.cache = FeatureCache(tmp_path, dtype)
        fill_cache(run.model, run.samples, run.config.views, run.accelerator)
        cached, same = run.step()
        assert abs(cached - loss) <= bound * loss
        if dtype == "float32":
            assert torch.equal(cached, loss)
            assert all(torch.equal(a, b) for a, b in zip(same, gradients, strict=True))
        else:
            assert any(not torch.equal(a, b) for a, b in zip(same, gradients, strict=True))  # the cache was read
    run.model.cache = None
    assert torch.equal(run.step()[0], loss)
