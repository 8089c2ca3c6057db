"""state.pt: everything that a resumed run needs to continue exactly where it stopped."""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from magic_cli.errors import CheckpointError, problem
from magic_cli.io.files import write_atomic
from magic_cli.io.json_files import finite
from magic_cli.training.checkpoint import load_file, load_meta

RandomStates = dict[str, torch.Tensor]

State = dict[str, Any]
"""Contents of state.pt beside its meta data: state dicts of the optimizer and scaler, tensors by name."""

Meta = dict[str, Any]
"""JSON values by name."""

_STATE = {"at": dict, "task": str, "config": dict, "data": str}


def save_state(path: Path, meta: Meta, tensors: State) -> None:
    """Write the resumable state: JSON `meta` and nested `tensors`."""
    content = {"meta": json.dumps(meta), **tensors}
    write_atomic(path, lambda file: torch.save(content, file))


def load_state(path: Path) -> tuple[Meta, State]:
    """Read a file written by `save_state`; raises CheckpointError as `load_best`."""
    loaded = load_file(path)
    meta = _state(loaded, path)
    del loaded["meta"]
    return meta, loaded


def _state(loaded: Meta, path: Path) -> Meta:
    meta = load_meta(loaded, path)
    if not all(isinstance(meta.get(key), kind) for key, kind in _STATE.items()):
        expected = f"meta data with {', '.join(_STATE)}"
        raise CheckpointError(problem(path, "another file", expected, "train again with --overwrite"))
    return meta


def state_meta(path: Path) -> Meta:
    """Return only the meta data of a state; its tensors stay on disk. Raises CheckpointError as `load_best`."""
    return _state(load_file(path, mapped=True), path)


@dataclasses.dataclass
class TrainProgress:
    """Progress of a run; `best` is -inf and `best_epoch` -1 before the first epoch's weights are saved.

    `loss_sum` is that of the epoch's first `step` batches, but for those `left_out`, whose loss float16 could not hold;
    `skipped` are its updates that changed nothing, as float16 could not hold their gradients.
    """

    epoch: int = 0
    step: int = 0
    updates: int = 0
    best: float = -math.inf
    best_epoch: int = -1
    finished: bool = False
    loss_sum: float = 0.0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    skipped: int = 0
    left_out: int = 0

    def mean_loss(self, batches: int) -> float:
        """Return the mean loss of an epoch of so many batches, NaN if all are left out."""
        return math.nan if 0 < batches <= self.left_out else self.loss_sum / max(1, batches - self.left_out)

    def begin_next(self) -> None:
        """Go on to the next epoch."""
        self.epoch, self.step, self.loss_sum, self.skipped, self.left_out = self.epoch + 1, 0, 0.0, 0, 0

    def copy(self) -> "TrainProgress":
        """Return a copy that later epochs do not change."""
        return dataclasses.replace(self, history=[*self.history])


@dataclasses.dataclass(frozen=True)
class StepSnapshot:
    """Everything that a step changes before the optimizer update, so that an interrupted step can be undone.

    It holds random states, the sum of the losses and the running statistics of normalisation layers.
    """

    random: RandomStates
    loss: torch.Tensor
    statistics: Sequence[torch.Tensor]

    @classmethod
    def of(cls, loss: torch.Tensor, statistics: Sequence[torch.Tensor]) -> "StepSnapshot":
        """Take a snapshot."""
        return cls(random_states(), loss.clone(), [tensor.clone() for tensor in statistics])

    @torch.no_grad()
    def restore(self, statistics: Sequence[torch.Tensor]) -> None:
        """Copy the values of this snapshot into the running statistics."""
        for tensor, value in zip(statistics, self.statistics, strict=True):
            tensor.copy_(value)


def save(path: Path, owner: Mapping[str, object], progress: TrainProgress, tensors: State) -> None:
    """Write state.pt atomically.

    Args:
        path: the file.
        owner: the run: its "task", its "config" as plain values, the SHA-256 of its "data".
        progress: its progress.
        tensors: weights, moments of the optimizer, random states.
    """
    saved = dataclasses.asdict(progress) | {"best": finite(progress.best)}
    save_state(path, {"at": saved, **owner}, tensors)


def load(path: Path, data: str) -> tuple[TrainProgress, State]:
    """Return the progress and the tensors of a run on this data.

    Raises:
        CheckpointError: missing or damaged, or the prepared data has changed.
    """
    meta, tensors = load_state(path)
    if meta["data"] != data:
        got = "the prepared data changed since, or --data or --data-weight is another"
        raise CheckpointError(f"{path}: {got}; give the run's own, or train again with --overwrite")
    with fitting(path):
        saved = meta["at"] | {"best": -math.inf if meta["at"]["best"] is None else meta["at"]["best"]}
        return _checked(TrainProgress(**saved)), tensors


def _checked(progress: TrainProgress) -> TrainProgress:
    """Return the argument; TypeError if a field has a value of another type."""
    counts = (progress.epoch, progress.step, progress.updates, progress.best_epoch, progress.skipped, progress.left_out)
    if not all(type(n) is int and -1 <= n < 2**53 for n in counts) or type(progress.finished) is not bool:
        raise TypeError("no counts")
    if not isinstance(progress.best, float) or not isinstance(progress.loss_sum, float):
        raise TypeError("no scores")
    if not isinstance(progress.history, list) or not all(isinstance(row, dict) for row in progress.history):
        raise TypeError("no history")
    return progress


def check_moments(optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError if a moment has another shape than its weight, or is no float: steps would fail or broadcast."""
    for weight, state in optimizer.state.items():
        for name, value in state.items():
            shape = () if name == "step" else weight.shape
            if not isinstance(value, torch.Tensor) or value.shape != shape or not value.is_floating_point():
                raise ValueError(f"{name} does not fit its weight")


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Turn the exceptions of a damaged or foreign state into one CheckpointError that names the file."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        got = f"a state that does not fit ({type(error).__name__})"
        raise CheckpointError(problem(path, got, "the state of this run", "train again with --overwrite")) from None


def random_states() -> RandomStates:
    """Return the states of torch's generators, CPU and current GPU."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore_random_states(states: RandomStates) -> None:
    """Restore the states that `random_states` returned."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
