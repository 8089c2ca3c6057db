"""Starting from an earlier run of the task: its tensors, by name, are the first weights of a training."""

from pathlib import Path

import numpy as np
import torch

from magic_cli.errors import CheckpointError, ConfigError, problem, shorten
from magic_cli.io.progress import log
from magic_cli.training import checkpoint
from magic_cli.training.seen import Seen
from magic_cli.training.task_model import TaskModel


def start_from(model: TaskModel, run: Path, task: str) -> None:
    """Load the tensors of a run's best.pt that have a counterpart of the same name and shape; log how many.

    Raises:
        CheckpointError: it is damaged, of another task, or has no such tensor.
        ConfigError: it trained weights that this training keeps frozen, and that best.pt would then not hold.
    """
    _, weights = checkpoint.load_best(run, task)
    own, everything = checkpoint.live(model), model.state_dict()
    fits = {n: t for n, t in weights.items() if n in own and t.shape == own[n].shape and t.dtype == own[n].dtype}
    frozen = [n for n in weights if n in everything and n not in own and not torch.equal(weights[n], everything[n])]
    if frozen:
        got = f"{run}, which trained {shorten(frozen)}"
        raise ConfigError(problem("--init", got, "a run that kept them frozen", "add --finetune all (or last)"))
    if not fits:
        raise CheckpointError(problem(run, "no tensor of this model", "a run of the same encoder", "give another one"))
    model.load_state_dict(fits, strict=False)
    others = [name for name in own if name not in fits]
    log(f"{len(fits)} of {len(own)} tensors start from {run}" + (f"; not: {shorten(others)}" if others else ""))


def seen_before(own: Seen, run: Path) -> Seen:
    """Return what a training that started from a run has seen: also what that run has."""
    earlier = checkpoint.load_seen(run)
    return Seen(np.union1d(own.learned, earlier.learned), np.union1d(own.chosen, earlier.chosen))
