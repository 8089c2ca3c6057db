"""What a task says of a run: of its data before training, of its best weights' held-out answers after it."""

from collections.abc import Mapping, Sequence
from typing import Any

from magic_cli.choosing import judged
from magic_cli.config import Config
from magic_cli.data.prepared import Prepared
from magic_cli.engine import Task
from magic_cli.files import write_json
from magic_cli.progress import log
from magic_cli.records import Sample
from magic_cli.trainer import Trainer

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
