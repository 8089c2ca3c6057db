"""Photos that an exported model is checked on: random ones of a prepared dataset, or drawn ones where there is none."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from magic_cli.config import Config
from magic_cli.data.prepared import MANIFEST, Prepared, open_prepared
from magic_cli.data.sources.synthetic.cases import make_patient
from magic_cli.data.sources.synthetic.drawing import draw_photo
from magic_cli.errors import DataError, EmptySplit, problem
from magic_cli.records import SPLITS, Case, ImageRecord, Sample
from magic_cli.training.task import Task

DEFAULT = Path("prepared")

_SIZE = (240, 320)


def check_data(data: Path | None, task: Task) -> None:
    """Refuse a dataset that is not there, before the work begins; the default one may be missing.

    Raises:
        DataError: as said.
    """
    if data is not None and not (data / MANIFEST).is_file() and (task.uses_questions or data != DEFAULT):
        got = "no prepared dataset"
        expected = "one with the questions that the model was trained on" if task.uses_questions else "one"
        remedy = "give its --data" if task.uses_questions else "give its --data, or none for drawn photos"
        raise DataError(problem(data, got, expected, remedy))


def opened(data: Path | None, task: Task) -> Prepared | None:
    """Return the dataset that photos are taken from; None if none is there, and the task does without.

    Raises:
        DataError: the task needs the questions of a dataset, and there is none.
    """
    if data is not None and (data / MANIFEST).is_file():
        return open_prepared(data)
    if task.uses_questions:
        got, expected = "no prepared dataset", "one with the questions that the model was trained on"
        raise DataError(problem("--data", got, expected, "give its --data"))
    return None


@contextmanager
def check_samples(
    task: Task, prepared: Prepared | None, config: Config, count: int, seed: int
) -> Iterator[tuple[Sequence[Sample], str]]:
    """Yield at most `count` random samples with a photo, and what they are, for people.

    Raises:
        DataError: the dataset has no photo.
    """
    if prepared is None:
        with TemporaryDirectory(prefix="magic-export-") as folder:
            yield _drawn(Path(folder), count, seed), "drawn photos"
        return
    found: list[Sample] = []
    for split in SPLITS:
        try:
            found += [sample for sample in task.prediction_samples(prepared, split, config) if sample.images]
        except EmptySplit:
            continue
    if not found:
        raise DataError(problem(prepared.root, "no photos", "some to check the exported model on", "give other --data"))
    chosen = random.Random(seed).sample(found, min(count, len(found)))  # noqa: S311  not a secret
    yield chosen, f"random {task.unit} of {prepared.root}"


def _drawn(folder: Path, count: int, seed: int) -> list[Sample]:
    samples = []
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        patient, name = make_patient(rng, number), f"IMG_{number}"
        path = folder / f"{name}.png"
        Image.fromarray(draw_photo(rng, patient.look, patient.tone, patient.limb, _SIZE).pixels).save(path)
        photo = ImageRecord(name, name, "test", str(path), *_SIZE)
        samples.append(Sample(name, Case(name, "test", (name,), question=patient.content), (photo,)))
    return samples
