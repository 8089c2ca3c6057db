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
    meta, weights = checkpoint.load_best(path)
    if meta.chosen:
        return meta.chosen

    def predictions() -> Iterator[Prediction]:
        checkpoint.load_learned(trainer.core, weights, path)
        yield from predict(trainer.core, data.valid, trainer.config, trainer.accelerator)

    chosen = data.task.choose(data.gold, predictions(), trainer.config)
    if chosen:
        settings = {**meta.config, **chosen["settings"]}
        if trainer.accelerator.is_main_process:
            checkpoint.save_best(path, trainer.core, dataclasses.replace(meta, config=settings, chosen=chosen))
        trainer.accelerator.wait_for_everyone()
    return chosen
