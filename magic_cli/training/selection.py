"""After training: the task's choice of settings on the validation samples, and its review of the run."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from magic_cli.config import Config
from magic_cli.data.lazy_samples import chained
from magic_cli.data.prepared import Prepared
from magic_cli.io.json_files import write_json
from magic_cli.io.progress import log
from magic_cli.records import Prediction, Review
from magic_cli.training import checkpoint
from magic_cli.training.inference import predict
from magic_cli.training.parts import Data, Part
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
    validated = [(part.gold, best_predictions(trainer, part)) for part in data.parts]
    chosen = data.task.choose_settings(validated, trainer.config)
    if chosen is None:
        return {}
    data.check_unchanged()  # chosen on what the weights were trained on
    if trainer.accelerator.is_main_process:
        settings = {**meta.config, **chosen.settings}
        meta = dataclasses.replace(meta, config=settings, chosen=chosen.to_json())
        checkpoint.save_best(path, trainer.core, meta, trainer.seen)
    trainer.accelerator.wait_for_everyone()
    return chosen.to_json()


def best_predictions(trainer: Trainer, part: Part) -> Iterator[Prediction]:
    """Yield the best weights' predictions for a dataset's validation samples; they are loaded with the first one."""
    path = trainer.out / "best.pt"
    checkpoint.load_learned(trainer.core, checkpoint.load_best(path)[1], path)
    yield from predict(trainer.core, part.valid, trainer.config, trainer.accelerator)


def review_data(data: Data, prepared: Sequence[Prepared], config: Config) -> Review:
    """Return the warnings about the samples of a run, and the task's about each of its datasets; log them."""
    lines = [*data.notes]
    for part, dataset in zip(data.parts, prepared, strict=True):
        warnings = data.task.data_warnings(dataset, chained([part.train, part.valid]), config)
        lines += (f"{part.name}: {line}" if part.name else line for line in warnings)
    review = Review(tuple(lines))
    log_warnings(review)
    return review


def review_run(trainer: Trainer, of_data: Review) -> Review:
    """Return the review of the data and of the best weights' validation predictions; log the new warnings.

    It is written to review.json in the run folder.
    """
    data, review = trainer.data, of_data
    if (trainer.out / "best.pt").is_file():
        review = joined(of_data, _of_parts({part.name: _review_part(trainer, part) for part in data.parts}))
    data.check_unchanged()  # the gold was read again
    if trainer.accelerator.is_main_process:
        write_json(trainer.out / FILE, review.to_json())
    return review


def _review_part(trainer: Trainer, part: Part) -> Review:
    task = trainer.data.task
    baselines = task.baseline_predictions((part.train, part.valid), trainer.data.questions)
    return task.validation_review(part.gold, best_predictions(trainer, part), baselines)


def _of_parts(reviews: Mapping[str, Review]) -> Review:
    """Return the review of the only dataset, or one with the warnings of all and the reviews of each."""
    if len(reviews) == 1:
        return next(iter(reviews.values()))
    warnings = tuple(f"{name}: {line}" for name, review in reviews.items() for line in review.warnings)
    return Review(warnings, datasets=reviews)


def joined(of_data: Review, of_predictions: Review) -> Review:
    """Return one review with the warnings of both, and log those of the second."""
    log_warnings(of_predictions)
    return dataclasses.replace(of_predictions, warnings=of_data.warnings + of_predictions.warnings)


def log_warnings(review: Review) -> None:
    """Write the warnings of a review to stderr."""
    for line in review.warnings:
        log(f"warning: {line}")
