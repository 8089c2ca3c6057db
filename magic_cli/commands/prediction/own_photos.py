"""`magic predict --images`: photos of any folder as a dataset, the files that are read, and what is said."""

from collections.abc import Sequence
from pathlib import Path

from magic_cli.commands.prediction.options import PredictOptions
from magic_cli.commands.prediction.side_files import PredictionFiles
from magic_cli.data.own_photos.dataset import OwnPhotos, open_own_photos
from magic_cli.data.own_photos.files import check_given
from magic_cli.data.own_photos.texts import text_file
from magic_cli.data.prepared_inputs import MOST_PHOTOS
from magic_cli.data.prepared_stamps import PreparedStamps
from magic_cli.data.questions import NO_QUESTIONS, parse_questions
from magic_cli.errors import ConfigError, printable, problem
from magic_cli.io.progress import log
from magic_cli.io.run_record import Hashed, hashed
from magic_cli.report.run_text import PhotosRead
from magic_cli.training.task import Task


def open_images(
    task: Task, ckpts: Sequence[Path], options: PredictOptions, out: Path
) -> tuple[OwnPhotos, PreparedStamps]:
    """Return the photos of `options.images`; no file of a prepared dataset is read.

    Raises:
        ConfigError: the task does not predict photos alone. DataError: no photo can be read.
    """
    from magic_cli.training import checkpoint

    questions = NO_QUESTIONS
    if task.uses_questions:
        questions = parse_questions(checkpoint.best_meta(ckpts[0])["questions"], str(ckpts[0]))
    photos = open_own_photos(options.images, options.text, questions, out, task.deliverable == "answers")
    for line in photos.notes:
        log(f"note: {printable(line)}")
    if options.text is not None and text_file(options.text) is None:
        log("note: run.json keeps the words of --text; give them in a file to keep them out")
    return photos, PreparedStamps(photos.root, {}, {})


def check_images(task: Task, data: Path, split: str, options: PredictOptions) -> None:
    """Refuse `--images` for a task that needs more than photos, beside a dataset, and where there is nothing.

    Raises:
        ConfigError: as said. DataError: there is no such file or folder.
    """
    if task.no_own_photos:
        got = f"--images for task {task.name}, whose queries rank the photos of a prepared dataset"
        raise ConfigError(problem("magic predict", got, "--data and --split", task.no_own_photos))
    if data != Path("prepared") or split != "test":
        got = "--images with --data or --split"
        raise ConfigError(problem("magic predict", got, "photos, or a prepared dataset", "leave one out"))
    for given in options.images:
        check_given(Path(given))


def files_read(photos: OwnPhotos, ckpts: Sequence[Path], options: PredictOptions) -> Hashed:
    """Yield the files that were read with their SHA-256; of more than 20,000 photos none."""
    yield from hashed((*ckpts, *(Path(path) for path in options.lists.values() if path is not None)))
    if len(photos.images) <= MOST_PHOTOS:
        for image in photos.images.values():
            if image.path is not None:
                yield Path(image.path), image.sha256
    if options.text is not None and (file := text_file(options.text)) is not None:
        yield from hashed([file])


def photos_read(
    photos: OwnPhotos, seconds: float = 0.0, beside: PredictionFiles | None = None, ids: Sequence[str] = ()
) -> PhotosRead:
    """Return what the result says of own photos; answers in words are shown of a single case.

    Args:
        photos: all that could be read.
        seconds: that their prediction took.
        beside: the files beside those of the task.
        ids: of the photos, or the cases, that were predicted.
    """
    answers = () if beside is None else beside.answers
    shown = answers if len({row[0] for row in answers}) == 1 else ()
    lines = tuple(f"{parent} {question} {answer} ({sure})" for _, parent, question, answer, _, sure in shown)
    known = set(ids)
    names = (image.case_id if answers else image.image_id for image in photos.images.values())
    predicted = sum(name in known for name in names) if known else None
    return PhotosRead(len(photos.images), len(photos.cases), photos.unreadable, seconds, lines, predicted)
