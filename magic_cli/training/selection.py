"""After training: the task's choice of settings on the validation samples, and its review of the run."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from magic_cli.config import Config
from magic_cli.data.prepared import Prepared
from magic_cli.io.json_files import write_json
from magic_cli.io.progress import log
from magic_cli.records import Prediction, Review, Sample
from magic_cli.training import checkpoint
from magic_cli.training.inference import predict
from magic_cli.training.task import Task
from magic_cli.training.trainer import Trainer

FILE = "review.json"


def choose_settings(trainer: Trainer) -> Mapping[str, object]:
    """Let the task choose settings in one pass over the best weights' predictions; {} if it has nothing to choose.

    best.pt then holds these settings, with the scores before and after in `chosen`. A resumed run keeps its choice.

    Returns:
        `chosen` of schemas/checkpoint.schema.json.
    """
    path, data = trainer.out / "best.pt", trainer.data
    if not data.valid or not path.is_file():
        return {}
    meta, _ = checkpoint.load_best(path)
    if meta.chosen:
        return meta.chosen
    chosen = data.task.choose_settings(data.gold, best_predictions(trainer), trainer.config)
    if chosen is None:
        return {}
    data.check_unchanged()  # chosen on what the weights were trained on
    if trainer.accelerator.is_main_process:
        settings = {**meta.config, **chosen.settings}
        meta = dataclasses.replace(meta, config=settings, chosen=chosen.to_json())
        checkpoint.save_best(path, trainer.core, meta)
    trainer.accelerator.wait_for_everyone()
    return chosen.to_json()


def best_predictions(trainer: Trainer) -> Iterator[Prediction]:
    """Yield the best weights' predictions for the validation samples; they are loaded with the first one."""
    path = trainer.out / "best.pt"
    checkpoint.load_learned(trainer.core, checkpoint.load_best(path)[1], path)
    yield from predict(trainer.core, trainer.data.valid, trainer.config, trainer.accelerator)


def review_data(task: Task, prepared: Prepared, samples: Sequence[Sample], config: Config) -> Review:
    """Return the task's warnings about the data, and log them."""
    review = Review(tuple(task.data_warnings(prepared, samples, config)))
    log_warnings(review)
    return review


def review_run(trainer: Trainer, of_data: Review) -> Review:
    """Return the review of the data and of the best weights' validation predictions; log the new warnings.

    It is written to review.json in the run folder.
    """
    data, review = trainer.data, of_data
    if (trainer.out / "best.pt").is_file():
        baselines = data.task.baseline_predictions((data.train, data.valid), data.questions)
        review = joined(of_data, data.task.validation_review(data.gold, best_predictions(trainer), baselines))
    data.check_unchanged()  # the gold was read again
    if trainer.accelerator.is_main_process:
        write_json(trainer.out / FILE, review.to_json())
    return review


def joined(of_data: Review, of_predictions: Review) -> Review:
    """Return one review with the warnings of both, and log those of the second."""
    log_warnings(of_predictions)
    return dataclasses.replace(of_predictions, warnings=of_data.warnings + of_predictions.warnings)


def log_warnings(review: Review) -> None:
    """Write the warnings of a review to stderr."""
    for line in review.warnings:
        log(f"warning: {line}")
