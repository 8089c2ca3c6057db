"""A trained model from its checkpoint, with the settings that it was trained with, or as the start of another one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from magic_cli.config import Config, from_dict
from magic_cli.data.prepared import Prepared
from magic_cli.data.questions import NO_QUESTIONS
from magic_cli.errors import CheckpointError, ConfigError, DataError, problem, shorten
from magic_cli.io import environment
from magic_cli.io.files import StrPath
from magic_cli.io.progress import log
from magic_cli.training import checkpoint
from magic_cli.training.seen import NOTHING, Seen
from magic_cli.training.task import Task
from magic_cli.training.task_model import TaskModel

MOST_IN_A_BATCH = 64  # photos that are predicted at a time, whatever the training's batch_size


def _modest(config: Config) -> Config:
    """Return a checkpoint's settings with no more workers than processors, and batches that a GPU can hold.

    They change no prediction, and a checkpoint of somebody else may ask for anything.
    """
    processors = environment.processors()
    workers = min(config.workers, processors if processors > 1 else 0)
    return replace(config, workers=workers, batch_size=min(config.batch_size, MOST_IN_A_BATCH))


def restored(
    path: Path, task: Task, prepared: Prepared | None, weights: StrPath | None = None
) -> tuple[TaskModel, Config]:
    """Return the model of a checkpoint, and its settings.

    Args:
        path: a best.pt.
        task: the task that it was trained for.
        prepared: the data that it will predict; None for a model that answers no closed questions.
        weights: folder of Hugging Face checkpoints; None for that of the training.

    Raises:
        CheckpointError: it is damaged, or belongs to another task, to other questions or to other encoder weights.
        DataError: the task needs closed questions, and the data has none.
    """
    meta, learned = checkpoint.load_best(path, task.trained_as)
    moved = {} if weights is None else {"weights_dir": str(Path(weights).resolve())}
    for setting, where in task.config_class.run_settings.items():
        if meta.config.get(setting):  # the checkpoint itself holds the weights that came from a run
            moved[setting] = str(path) if where in meta.origins else ""
    config = _modest(from_dict(task.config_class, {**meta.config, **moved}, str(path)))
    questions = NO_QUESTIONS if prepared is None else prepared.questions
    if task.uses_questions and prepared is not None and not questions.slots:
        got, expected = "no closed questions", f"those that {path} was trained on"
        raise DataError(problem(prepared.root, got, expected, "give the --data of a dataset that has them"))
    if task.uses_questions and prepared is not None and list(meta.questions) != questions.as_json():
        raise CheckpointError(f"{path}: was trained on other questions than {prepared.root} has; train again")
    model = task.build(config, questions)
    checkpoint.check_encoders(model, meta, path)
    checkpoint.load_learned(model, learned, path)
    return model, config


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


def seen_before(config: Config, own: Seen = NOTHING) -> Seen:
    """Return what the runs have seen that weights are taken from (`Config.runs`), and what is `own`.

    Raises:
        CheckpointError: a run is not there any more, or is damaged.
    """
    seen = [own, *map(checkpoint.load_seen, config.runs)]
    learned, chosen = [each.learned for each in seen], [each.chosen for each in seen]
    return Seen(np.unique(np.concatenate(learned)), np.unique(np.concatenate(chosen)))
