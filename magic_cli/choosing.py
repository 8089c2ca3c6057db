"""What a task chooses after training, on the validation samples: stored in best.pt, and used by `predict`."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from magic_cli import checkpoint
from magic_cli.engine import predict
from magic_cli.records import Prediction
from magic_cli.trainer import Trainer


def choose(trainer: Trainer) -> Mapping[str, Any]:
    """Let the task choose settings by one pass over the best weights' predictions; {} where it has nothing to choose.

    best.pt then holds these settings, and what was gained in `chosen`. A resumed run keeps what it chose before.
    """
    path, data = trainer.out / "best.pt", trainer.data
    if not data.valid or not path.is_file():
        return {}
    meta, _ = checkpoint.load_best(path)
    if meta.chosen:
        return meta.chosen
    chosen = data.task.choose(data.gold, judged(trainer), trainer.config)
    if chosen:
        settings = {**meta.config, **chosen["settings"]}
        if trainer.accelerator.is_main_process:
            checkpoint.save_best(path, trainer.core, dataclasses.replace(meta, config=settings, chosen=chosen))
        trainer.accelerator.wait_for_everyone()
    return chosen


def judged(trainer: Trainer) -> Iterator[Prediction]:
    """Yield the best weights' predictions on the validation samples; they are loaded when the first is asked for."""
    path = trainer.out / "best.pt"
    checkpoint.load_learned(trainer.core, checkpoint.load_best(path)[1], path)
    yield from predict(trainer.core, trainer.data.valid, trainer.config, trainer.accelerator)
