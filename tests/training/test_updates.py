"""training/updates.py: the mean by hand, swapped in and out, resumed."""

import pytest
import torch
from torch import nn

from magic_cli.models.encoders import TinyImage
from magic_cli.training.updates import ModelEma


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.images = TinyImage(32, "pooled")
        self.images.freeze()
        self.head, self.norm = nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1)


def set_to(model: Model, value: float) -> None:
    with torch.no_grad():
        model.head.weight.fill_(value)
        model.norm.num_batches_tracked += 1


def test_the_mean_by_hand() -> None:
    model = Model()
    set_to(model, 0.0)
    average = ModelEma(model, 0.25)
    expected = 0.0
    for n, value in enumerate((1.0, 2.0, 4.0), 1):
        set_to(model, value)
        average.update()
        decay = min(0.25, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
    with average.applied():
        assert model.head.weight.item() == pytest.approx(expected)
        assert model.norm.num_batches_tracked.item() == 4
    assert model.head.weight.item() == 4.0


def test_the_live_weights_come_back_after_an_error() -> None:
    model = Model()
    set_to(model, 1.0)
    average = ModelEma(model, 0.9)
    set_to(model, 2.0)
    average.update()
    with pytest.raises(RuntimeError), average.applied():
        raise RuntimeError
    assert model.head.weight.item() == 2.0


def test_training_goes_on_after_the_swap() -> None:
    model = Model()
    average = ModelEma(model, 0.9)
    with average.applied():
        pass
    set_to(model, 3.0)
    average.update()
    with average.applied():
        first = model.head.weight.item()
    assert first != 3.0


def test_frozen_encoders_are_left_out_and_a_state_resumes() -> None:
    model = Model()
    average = ModelEma(model, 0.5)
    set_to(model, 1.0)
    average.update()
    state = average.state()
    assert not any(name.startswith("images.") for name in state)
    other_model = Model()
    other = ModelEma(other_model, 0.5)
    other.load(state)
    for one, m in ((average, model), (other, other_model)):
        set_to(m, 5.0)
        one.update()
    with average.applied(), other.applied():
        assert model.head.weight.item() == other_model.head.weight.item()
