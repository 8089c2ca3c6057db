"""What an update of the weights needs: the optimizer, its learning rate, the average; which ones float16 left out.

The average is an exponential one (EMA) over updates, validated and saved instead of the live weights. Its decay is
min(d, (1 + n) / (10 + n)) after n updates, so the memory is short at first, as in Polyak averaging for deep networks
(Tarvainen & Valpola, Mean teachers, 2017, and most training code since).
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from magic_cli.config import Config
from magic_cli.errors import DataError, problem
from magic_cli.io.progress import log
from magic_cli.training.checkpoint import encoders, live
from magic_cli.training.resume import TrainProgress
from magic_cli.training.task_model import TaskModel

_SEARCH = 16  # updates that may be left out while the scale of the loss is sought: halvings from 2^16 to 1
_MOST = 10  # and one in as many later on
_LEAST_SCALE = 2.0**-10
_REMEDY = "use --set precision=bf16 or --set precision=no, or a lower --set lr="


def rate(config: Config, update: int, total: int) -> float:
    """Return the factor on the learning rate at an update: 1, or linear warm-up and cosine to 0."""
    if config.schedule == "constant":
        return 1.0
    warm = config.warmup_updates(total)
    if update < warm:
        return (update + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (update - warm) / max(1, total - warm)))


def optimizer_for(model: TaskModel, config: Config) -> torch.optim.AdamW:
    """Return AdamW over the trainable weights: encoders at their own rate, no decay on biases and norms."""
    inside = {id(p) for encoder in encoders(model).values() for p in encoder.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in inside, parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": (base := config.encoder_lr if encoder else config.lr),
                "base": base,
                "weight_decay": config.weight_decay if decay else 0.0,
            }
            for (encoder, decay), parameters in groups.items()
        ],
        betas=config.betas,
        eps=config.eps,
    )


def was_skipped(optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None, out: Path) -> bool:
    """Return whether the last step of accelerate's optimizer was left out, as float16 could not hold its gradients.

    Raises:
        DataError: nor can it with the smallest scale of the loss: they are no numbers.
    """
    if scaler is None or not getattr(optimizer, "step_was_skipped", False):
        return False
    if scaler.get_scale() < _LEAST_SCALE:
        got, remedy = "gradients that are no numbers, whatever the scale of the loss", _REMEDY
        raise DataError(problem(out, got, "finite ones", remedy))
    return True


def report_skipped(progress: TrainProgress, updates: int, model: TaskModel, out: Path) -> None:
    """Log how many updates of an epoch were left out in float16; a few are, until the scale of the loss fits.

    Raises:
        DataError: it were too many, or weights are not finite.
    """
    skipped, epoch = f"{progress.skipped} of {updates} updates", progress.epoch + 1
    if progress.skipped > max(_SEARCH, updates // _MOST):
        got = f"gradients beyond float16 in {skipped} of epoch {epoch}"
        raise DataError(problem(out, got, f"at most one in {_MOST}", _REMEDY))
    if not all(bool(tensor.isfinite().all()) for tensor in live(model).values()):
        raise DataError(problem(out, f"weights that are not finite after epoch {epoch}", "finite ones", _REMEDY))
    if progress.skipped:
        log(
            f"note: {skipped} in epoch {epoch} changed nothing: their gradients were beyond float16 (the scale follows)"
        )


class ModelEma:
    """The averaged state of a model: parameters and buffers, except those of frozen encoders.

    While `holds_live_weights` is true the model holds the live weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates, self.holds_live_weights = decay, 0, True
        self._live = live(model)
        self._mean = {name: tensor.clone() for name, tensor in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Add the weights after a step to the mean; integer buffers (counts of batches) are copied."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        smooth = [name for name, tensor in self._live.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self._mean[n] for n in smooth], [self._live[n] for n in smooth], 1 - decay)
        for name, tensor in self._live.items():
            if not tensor.is_floating_point():
                self._mean[name].copy_(tensor)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Swap the mean into the model during a block; the live weights are restored even after an error."""
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
            mean, live_copy = self._mean[name], tensor.clone()
            tensor.copy_(mean)
            mean.copy_(live_copy)

    def state(self) -> dict[str, Tensor]:
        """Return the mean on the CPU, and the number of updates under the name "", for state.pt."""
        mean = {name: tensor.cpu().clone() for name, tensor in self._mean.items()}
        return mean | {"": torch.tensor(self.updates)}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned; raises ValueError for tensors of other shapes."""
        self.updates = int(state[""])
        for name, tensor in self._mean.items():
            if state[name].shape != tensor.shape:  # copy_ would repeat a smaller one
                raise ValueError(f"{name} is {tuple(state[name].shape)}")
            tensor.copy_(state[name])
