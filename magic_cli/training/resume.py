"""Where a run is, and state.pt: everything that it needs to go on there as if it had never stopped."""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from magic_cli.errors import CheckpointError, problem
from magic_cli.io.files import finite, write_atomic
from magic_cli.training.checkpoint import load_file, load_meta

_STATE = {"at": dict, "task": str, "config": dict, "data": str}


def save_state(path: Path, meta: dict[str, Any], tensors: dict[str, Any]) -> None:
    """Write the resumable state: JSON `meta` and nested `tensors`."""
    content = {"meta": json.dumps(meta), **tensors}
    write_atomic(path, lambda file: torch.save(content, file))


def load_state(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what `save_state` wrote; raises CheckpointError as `load_best`."""
    loaded = load_file(path)
    meta = _state(loaded, path)
    del loaded["meta"]
    return meta, loaded


def _state(loaded: dict[str, Any], path: Path) -> dict[str, Any]:
    meta = load_meta(loaded, path)
    if not all(isinstance(meta.get(key), kind) for key, kind in _STATE.items()):
        expected = f"meta data with {', '.join(_STATE)}"
        raise CheckpointError(problem(path, "another file", expected, "train anew with --overwrite"))
    return meta


def state_meta(path: Path) -> dict[str, Any]:
    """Return the meta data of a state alone; its tensors stay on disk. Raises CheckpointError as `load_best`."""
    return _state(load_file(path, mapped=True), path)


RandomStates = dict[str, torch.Tensor]


@dataclasses.dataclass
class Position:
    """How far a run is; `best` is -inf and `best_epoch` -1 before an epoch's weights were kept."""

    epoch: int = 0
    step: int = 0
    updates: int = 0
    best: float = -math.inf
    best_epoch: int = -1
    finished: bool = False
    loss_sum: float = 0.0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def copy(self) -> "Position":
        """Return this position, to come back to."""
        return dataclasses.replace(self, history=[*self.history])


@dataclasses.dataclass(frozen=True)
class Mark:
    """What a step that is broken off has changed before its update: random states, the loss, running statistics."""

    random: RandomStates
    loss: torch.Tensor
    statistics: Sequence[torch.Tensor]

    @classmethod
    def of(cls, loss: torch.Tensor, statistics: Sequence[torch.Tensor]) -> "Mark":
        """Take them down."""
        return cls(random_states(), loss.clone(), [tensor.clone() for tensor in statistics])

    @torch.no_grad()
    def put_back(self, statistics: Sequence[torch.Tensor]) -> None:
        """Give running statistics their values of then."""
        for tensor, then in zip(statistics, self.statistics, strict=True):
            tensor.copy_(then)


def save(path: Path, whose: Mapping[str, Any], at: Position, tensors: Mapping[str, Any]) -> None:
    """Write state.pt atomically.

    Args:
        path: the file.
        whose: the run: its "task", its "config" as plain values, the sha256 of its "data".
        at: where it is.
        tensors: weights, moments, random states, nested as they come.
    """
    position = dataclasses.asdict(at) | {"best": finite(at.best)}
    save_state(path, {"at": position, **whose}, dict(tensors))


def load(path: Path, data: str) -> tuple[Position, dict[str, Any]]:
    """Return the position and the tensors of a run on this data.

    Raises:
        CheckpointError: missing or damaged, or the prepared data is not what it was.
    """
    meta, tensors = load_state(path)
    if meta["data"] != data:
        raise CheckpointError(f"{path}: the prepared data changed since; train anew with --overwrite")
    with fitting(path):
        position = meta["at"] | {"best": -math.inf if meta["at"]["best"] is None else meta["at"]["best"]}
        return _sound(Position(**position)), tensors


def _sound(at: Position) -> Position:
    whole = (at.epoch, at.step, at.updates, at.best_epoch)
    if not all(type(n) is int and -1 <= n < 2**53 for n in whole) or type(at.finished) is not bool:
        raise TypeError("no position")
    if not isinstance(at.best, float) or not isinstance(at.loss_sum, float):
        raise TypeError("no figures")
    if not isinstance(at.history, list) or not all(isinstance(row, dict) for row in at.history):
        raise TypeError("no history")
    return at


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Turn what a state raises that is not this run's, or was changed, into one line that names the file."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        got = f"a state that does not fit ({type(error).__name__})"
        raise CheckpointError(problem(path, got, "that of this very run", "train anew with --overwrite")) from None


def random_states() -> RandomStates:
    """Return the states of torch's generators, CPU and current GPU."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore(states: RandomStates) -> None:
    """Put torch's generators back into the states that `random_states` returned."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
