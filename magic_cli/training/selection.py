"""What a task chooses after training, on the validation samples: stored in best.pt, and used by `predict`."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from magic_cli.config import Config
from magic_cli.data.prepared import Prepared
from magic_cli.io.files import write_json
from magic_cli.io.progress import log
from magic_cli.records import Prediction, Sample
from magic_cli.training import checkpoint
from magic_cli.training.inference import predict
from magic_cli.training.task import Task
from magic_cli.training.trainer import Trainer


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


FILE = "review.json"


def of_data(task: Task, prepared: Prepared, samples: Sequence[Sample], config: Config) -> dict[str, Any]:
    """Return {"warnings": ...}, the lines on what does not line up in the data, and say them."""
    return said({"warnings": []}, {"warnings": list(task.checks(prepared, samples, config))})


def of_run(trainer: Trainer, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return `before` and what the task says of the validation samples' answers, and say its warnings.

    It is schemas/review.schema.json, and written to review.json in the run folder.
    """
    data, found = trainer.data, dict(before)
    if (trainer.out / "best.pt").is_file():
        guesses = data.task.guesses((data.train, data.valid), data.questions)
        found = said(before, data.task.review(data.gold, judged(trainer), guesses))
    if trainer.accelerator.is_main_process:
        write_json(trainer.out / FILE, found)
    return found


def said(before: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was found with the warnings of `before` first; the new ones go to stderr."""
    new = list(found.get("warnings", ()))
    for line in new:
        log(f"warning: {line}")
    return {**found, "warnings": [*before["warnings"], *new]}
