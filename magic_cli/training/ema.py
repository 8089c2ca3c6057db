"""The running mean of the weights over training steps, which is validated and kept instead of the last ones.

Exponential, with a short memory at first: decay min(d, (1 + n) / (10 + n)) after n updates, as in Polyak averaging
for deep networks (Tarvainen & Valpola, Mean teachers, 2017, and the habit of most training codes since).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from magic_cli.training.checkpoint import live


class ModelEma:
    """The averaged state of what learns in a model: parameters and buffers, frozen encoders left out.

    While `holds_live_weights` is true the model holds the live weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates, self.holds_live_weights = decay, 0, True
        self._live = live(model)
        self._mean = {name: tensor.clone() for name, tensor in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are after a step; counts of batches are copied."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        smooth = [name for name, tensor in self._live.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self._mean[n] for n in smooth], [self._live[n] for n in smooth], 1 - decay)
        for name, tensor in self._live.items():
            if not tensor.is_floating_point():
                self._mean[name].copy_(tensor)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the mean into the model for the length of a block; the live weights come back whatever happens."""
        self.holds_live_weights = False
        self._swap()
        try:
            yield
        finally:
            self._swap()
            self.holds_live_weights = True

    @torch.no_grad()
    def _swap(self) -> None:
        for name, tensor in self._live.items():
            other = self._mean[name]
            kept = tensor.clone()
            tensor.copy_(other)
            other.copy_(kept)

    def state(self) -> dict[str, Tensor]:
        """Return the mean on the CPU, and the number of updates, for a resumable state."""
        mean = {name: tensor.cpu().clone() for name, tensor in self._mean.items()}
        return mean | {"": torch.tensor(self.updates)}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        self.updates = int(state[""])
        for name, tensor in self._mean.items():
            tensor.copy_(state[name])
