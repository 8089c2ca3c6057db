"""A batch in parts: the gradient, the loss and the random numbers are those of the whole batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from magic_cli.config import Config
from magic_cli.models.encoders import Features
from magic_cli.training.cached_accumulation import ChunkedModel, Part, backward_in_parts
from magic_cli.training.devices import accelerator_for
from magic_cli.training.task_model import Batch


@dataclass(frozen=True)
class Points(Batch):
    x: Tensor


class Spread(ChunkedModel):
    """Points that repel each other: the loss of one depends on all others, and on a learned scale."""

    def __init__(self, size: int, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 5), nn.Dropout(dropout), nn.Linear(5, 2))
        self.scale, self.size, self.is_divided = nn.Parameter(torch.tensor(1.5)), size, True

    def parts(self, batch: Batch) -> Sequence[Part]:
        return [Part({"x": x}) for x in batch.x.split(self.size)]  # type: ignore[attr-defined]

    def encode(self, part: Part) -> Features:
        return {"y": self.net(part.items["x"])}

    def objective(self, batch: Batch, features: Features) -> Tensor:  # noqa: ARG002
        return torch.logsumexp(-self.scale * torch.cdist(features["y"], features["y"]), 1).mean()

    def loss_parameters(self) -> Sequence[nn.Parameter]:
        return [self.scale]


def gradients(size: int, factor: float = 1.0, dropout: float = 0.0) -> tuple[float, list[Tensor]]:
    model, batch = Spread(size, dropout).train(), Points(torch.randn(7, 3, generator=torch.Generator().manual_seed(1)))
    accelerator = accelerator_for(Config(), "cpu")
    torch.manual_seed(5)
    loss = backward_in_parts(model, model, batch, accelerator, factor, syncs=True)
    return loss.item(), [parameter.grad for parameter in model.parameters()]  # type: ignore[misc]


@pytest.mark.parametrize("size", [1, 3, 7])
def test_parts_have_the_gradient_of_the_whole_batch(size: int) -> None:
    model, batch = Spread(7).train(), Points(torch.randn(7, 3, generator=torch.Generator().manual_seed(1)))
    whole = model(batch)
    whole.backward()
    loss, found = gradients(size)
    assert loss == pytest.approx(whole.item(), abs=1e-6)
    for parameter, gradient in zip(model.parameters(), found, strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


def test_the_factor_is_on_the_gradient_and_not_on_the_loss() -> None:
    (once, plain), (twice, doubled) = gradients(3), gradients(3, factor=2.0)
    assert once == twice
    for a, b in zip(plain, doubled, strict=True):
        torch.testing.assert_close(2 * a, b)


def test_both_passes_draw_the_same_dropout() -> None:
    """With dropout the gradient is that of the features that the loss saw: the second pass draws the same mask."""
    model, batch = Spread(3, dropout=0.5).train(), Points(torch.randn(7, 3, generator=torch.Generator().manual_seed(1)))
    torch.manual_seed(5)
    features = torch.cat([model.encode(part)["y"] for part in model.parts(batch)])  # one graph with these masks
    loss = model.objective(batch, {"y": features})
    loss.backward()
    after = torch.rand(1)
    found_loss, found = gradients(3, dropout=0.5)
    assert found_loss == pytest.approx(loss.item(), abs=1e-6)
    for parameter, gradient in zip(model.parameters(), found, strict=True):
        torch.testing.assert_close(gradient, parameter.grad)
    assert torch.rand(1) == after  # and goes on with the numbers that follow


def test_a_batch_of_several_parts_is_refused_as_a_whole() -> None:
    model = Spread(3)
    with pytest.raises(ValueError, match="several parts"):
        model(Points(torch.zeros(4, 3)))
