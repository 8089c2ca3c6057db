"""Gold masks and closed answers, in any form that users have them in; masks are read only when needed."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.gold_masks import case_of_image, list_gold_masks, masks_of, unnumbered_note
from magic_cli.data.imaging.masks import ANNOTATOR_MASK, decode_mask, read_raw
from magic_cli.data.issues import by_kind
from magic_cli.data.limits import MAX_BYTES
from magic_cli.data.names import PHOTO_SUFFIXES, TABLE_SUFFIXES, composed, id_fault, masked_photo
from magic_cli.data.prepared import MANIFEST, MEAN_MASK, Prepared, open_prepared
from magic_cli.data.questions import QuestionSchema, load_questions
from magic_cli.errors import DataError, first_lines, printable, problem, redact_key
from magic_cli.io import run_record
from magic_cli.io.file_kinds import is_json, is_system_file, kind_of
from magic_cli.io.json_files import MAX_ANSWERS, MAX_ROWS, read_json
from magic_cli.io.regular_file import is_regular
from magic_cli.records import SPLITS, Case

MASKS, ANSWERS = "masks_refs", "data_cvqa_ref.json"

_PREDICTED = "data_cvqa_sys.json"

_PREDICTIONS = (_PREDICTED, f"*/{_PREDICTED}", "*_mask_sys.tiff", "*/*_mask_sys.tiff", "*/*/*_mask_sys.tiff")

_SWAPPED = "give them first, and the gold last"

CONCEPT_TABLE = "meta.csv"  # of MONET's folders: the concepts of photos (data/sources/photo_tables.py)

_TABLES = (*SPLITS, "val", "dev")  # beginnings of the names of tables

OFFICIAL = ("ann0", "ann1", "ann2", "ann3")  # all that the official scorer reads: examples/official-scorer.md, case 57


@dataclass(frozen=True, slots=True)
class GoldImage:
    """Paths of a photo's masks by annotator ("ann0", "ann1", ...), in the order of the annotators' numbers."""

    case_id: str
    annotators: Mapping[str, str]

    def masks(self) -> Iterator[NDArray[np.bool_]]:
        """Yield the annotators' masks, bool (H, W); only one is in memory at a time.

        Raises:
            DataError: a file is not a mask, or its size differs from that of the first.
        """
        shape: tuple[int, ...] | None = None
        for path in self.annotators.values():
            mask = _read(path)
            shape = shape or mask.shape
            if mask.shape != shape:
                got, expected = f"shape {mask.shape}", f"{shape} as in the photo's other masks"
                raise DataError(problem(path, got, expected, "fix the gold mask"))
            yield mask


def _read(path: str) -> NDArray[np.bool_]:
    raw = read_raw(path)
    if raw.dtype != np.uint8 or raw.ndim != 2 or not raw.size or raw.max() > 1:
        raw = decode_mask(raw, path)[0]
    return raw.view(np.bool_)  # no copy: scoring is timed


@dataclass(frozen=True)
class TaskGold(ABC):
    """What the predictions for one task are scored against; `source` names it in messages."""

    source: str

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images or cases with gold."""

    @abstractmethod
    def only(self, ids: Collection[str]) -> Self:
        """Return the gold restricted to these image or case ids, for a held-out part of a split."""


@dataclass(frozen=True)
class MaskGold(TaskGold):
    """The annotators' masks of photos.

    `images` maps image ids to annotators' masks, `photos` to paths of photos (if known), `upright` to whether the
    photo has to be turned by its EXIF orientation to match its masks. `prior` is the mean mask of the training split,
    float32 (h, w) in [0, 1]; None if it is unknown or if split train itself is scored. `notes` are remarks for the
    reader of the scores.
    """

    images: Mapping[str, GoldImage] = field(default_factory=dict)
    photos: Mapping[str, str] = field(default_factory=dict)
    upright: Mapping[str, bool] = field(default_factory=dict)
    prior: NDArray[np.float32] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of images with gold."""
        return len(self.images)

    def only(self, ids: Collection[str]) -> Self:
        """Return the gold restricted to these image ids."""
        return replace(self, images={image: gold for image, gold in self.images.items() if image in ids})


@dataclass(frozen=True)
class AnswerGold(TaskGold):
    """The closed answers of cases.

    `answers` maps case ids to a complete row {qid: option index}. `majority` is each slot's most frequent option in
    the training split (slots in canonical order; on ties the lowest index); None if it is unknown or if split train
    itself is scored.
    """

    questions: QuestionSchema
    answers: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    majority: Mapping[str, int] | None = None

    def __len__(self) -> int:
        """Return the number of cases with gold."""
        return len(self.answers)

    def only(self, ids: Collection[str]) -> Self:
        """Return the gold restricted to these case ids."""
        return replace(self, answers={case: row for case, row in self.answers.items() if case in ids})


@dataclass(frozen=True)
class Gold:
    """The gold of each task in a user's file or folder; a task without gold has an empty mapping.

    `pairs` are classes, concepts and texts of photos (data/pair_gold.py), `rankings` what case retrieval is scored
    against (data/retrieval/gold.py); None unless they are asked for.
    """

    source: str
    masks: MaskGold
    answers: AnswerGold
    pairs: TaskGold | None = None
    rankings: TaskGold | None = None


def mask_gold(prepared: Prepared, split: str) -> MaskGold:
    """Return the annotators' masks (not the merged ones) of a prepared split; empty if it has none, like test."""
    photos = prepared.images_of(split)
    return MaskGold(
        source=_source(prepared, split),
        images={
            image.image_id: GoldImage(image.case_id, _in_order(image.annotators))
            for image in photos
            if image.annotators
        },
        photos={image.image_id: image.path for image in photos if image.path is not None},
        upright={image.image_id: image.upright for image in photos},
        prior=None if split == "train" else _read_prior(prepared.root / MEAN_MASK),
    )


def answer_gold(prepared: Prepared, split: str) -> AnswerGold:
    """Return the closed answers of a prepared split; empty if it has none, like test."""
    train = {} if split == "train" else _answers_of(prepared.cases_of("train"))
    return AnswerGold(
        source=_source(prepared, split),
        questions=prepared.questions,
        answers=_answers_of(prepared.cases_of(split)),
        majority=prepared.questions.majority(train.values()) or None,
    )


def _source(prepared: Prepared, split: str) -> str:
    return f"{prepared.root} (split {split})"


def gold_of(prepared: Prepared, split: str) -> Gold:
    """Return the gold of a prepared split for all tasks.

    Raises:
        DataError: the split has neither masks nor answers, like test.
    """
    gold = Gold(_source(prepared, split), mask_gold(prepared, split), answer_gold(prepared, split))
    has_any = any(i.annotators for i in prepared.images.values()) or bool(_answers_of(prepared.cases.values()))
    return _refuse_nothing(gold, split, has_any)


def _in_order(annotators: Mapping[str, str]) -> Mapping[str, str]:
    """Sort annotators; return the argument itself if sorted: there is one mapping per photo, and copies add up."""
    names = sorted(annotators, key=lambda name: (len(name), name))
    return annotators if names == list(annotators) else {name: annotators[name] for name in names}


def _answers_of(cases: Iterable[Case]) -> dict[str, Mapping[str, int]]:
    return {case.case_id: case.answers for case in cases if case.answers is not None}


def _read_prior(path: Path) -> NDArray[np.float32] | None:
    """Read the training mean mask (8-bit grey) as float32 in [0, 1]; None if `magic prepare` wrote none."""
    if not path.is_file():
        return None
    prior = read_raw(path)
    if prior.ndim != 2 or prior.dtype != np.uint8 or not prior.any():
        return None
    return np.asarray(prior / 255, np.float32)


def _refuse_nothing(gold: Gold, split: str, has_any: bool = True) -> Gold:
    """Return gold; raises DataError if there is none: `has_any` says whether other splits may have some."""
    if not gold.masks.images and not gold.answers.answers:
        remedy = "its gold is hidden: choose a split that has it (--split valid)"
        remedy = remedy if has_any else "no split has any: this dataset can be predicted, not scored"
        raise DataError(problem(gold.source, f"no masks and no answers for split {split!r}", "gold", remedy))
    return gold


def open_gold(path: Path, split: str) -> Gold:
    """Read gold from a JSON file, a folder of masks, the platform's folder, a raw challenge folder or prepared/.

    `split` selects a split of the last two, and of a folder of masks that has one folder per split. The questions
    come from the definitions file beside the answers; without one, they are the challenge's 27.

    Raises:
        DataError: `path` is none of these, the split has no gold, or the answers are damaged.
    """
    if path.is_file():
        return _from_file(path)
    if not path.is_dir():
        raise DataError(f"{printable(path)}: no such file or folder; give a gold file, a folder of masks or prepared/")
    if (path / MANIFEST).is_file():
        return gold_of(open_prepared(path, texts=False), split)
    platform = (path / ANSWERS).is_file() or (path / MASKS).is_dir()
    if not platform and any(map(_is_encounters, path.rglob("*"))):
        return _from_challenge(path, split)
    return _from_folder(path, split)


def _notes(images: Mapping[str, GoldImage]) -> tuple[str, ...]:
    """Return remarks on masks as they lie in a user's folder; what is in prepared/ `magic prepare` has reported."""
    paths = [path for gold in images.values() for path in gold.annotators.values()]
    note = unnumbered_note([printable(path) for path in paths if not ANNOTATOR_MASK.fullmatch(Path(path).name)])
    return (f"{note}.",) if note else ()


def _is_encounters(path: Path) -> bool:
    name = path.name.casefold()
    return name.endswith(TABLE_SUFFIXES) and name.startswith(_TABLES) and "cvqa" not in name


def _from_challenge(path: Path, split: str) -> Gold:
    from magic_cli.data.sources.dermavqa.reader import open_challenge

    challenge, source = open_challenge(path), printable(path)
    cases = [case for case in challenge.cases.values() if case.split == split]
    refused = masks_of(challenge.issues.refused_masks, (image for case in cases for image in case.image_ids))
    if refused:
        raise DataError(first_lines(by_kind(refused), path))
    images = {
        image: GoldImage(case.case_id, _in_order(challenge.masks[image]))
        for case in cases
        for image in case.image_ids
        if challenge.masks.get(image)
    }
    photos = {image: challenge.photos[image] for case in cases for image in case.image_ids if image in challenge.photos}
    train = _answers_of(case for case in challenge.cases.values() if case.split == "train" != split)
    majority = challenge.questions.majority(train.values()) or None
    answers = AnswerGold(source, challenge.questions, _answers_of(cases), majority)
    return _refuse_nothing(Gold(source, MaskGold(source, images, photos, notes=_notes(images)), answers), split)


def _from_file(path: Path) -> Gold:
    if not is_json(path):
        kind = kind_of(path)
        remedy = "rename it to .json" if kind.endswith("holds JSON") else "check the path"
        raise DataError(problem(path, kind, "a .json file or a folder", remedy))
    questions = load_questions(_definitions(path.parent))
    source = printable(path)
    return Gold(source, MaskGold(source), AnswerGold(source, questions, _read_answers(path, questions)))


def gold_files(path: Path) -> list[Path]:
    """Return the files below a folder of gold that can be read as such: masks, photos and JSON of a size that is read.

    A file is returned itself. Whatever else lies in the folder is left out.
    """
    if not path.is_dir():
        return [path]
    below = (file for file in path.rglob("*") if not is_system_file(file.relative_to(path).as_posix()))
    return sorted(file for file in below if _is_gold(file) and is_regular(file) and file.stat().st_size <= MAX_BYTES)


def _is_gold(path: Path) -> bool:
    if path.suffix.casefold() in PHOTO_SUFFIXES:
        is_named = path.name.startswith("IMG_") or ANNOTATOR_MASK.fullmatch(path.name) or masked_photo(path.stem)[0]
        return bool(is_named) and not path.stem.endswith("_mask_sys")
    return path.name == CONCEPT_TABLE or (is_json(path) and path.name != run_record.FILE)


def _definitions(folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob("closedquestions_definitions*.json"))), None)


def _from_folder(path: Path, split: str) -> Gold:
    """Read masks anywhere below a folder, and an answers file in it under the platform's or the challenge's name."""
    questions, masks = load_questions(_definitions(path)), list_gold_masks(path, split)
    images = {image: GoldImage(case_of_image(image), _in_order(paths)) for image, paths in masks.items()}
    files = [file for file in (path / ANSWERS, path / f"{split}_cvqa.json") if file.is_file()]
    if not images and not files:
        expected = f"IMG_*_mask_ann*.tiff, .tif or .png, {ANSWERS} or a prepared dataset"
        got, remedy = "a folder without gold", "check the path"
        if any(next(path.glob(name), None) for name in _PREDICTIONS):
            got, remedy = "predictions", _SWAPPED
        raise DataError(problem(path, got, expected, remedy))
    source, answers = printable(path), _read_answers(files[0], questions) if files else {}
    return Gold(source, MaskGold(source, images, notes=_notes(images)), AnswerGold(source, questions, answers))


def _read_answers(path: Path, questions: QuestionSchema) -> dict[str, dict[str, int]]:
    rows: Any = read_json(path, MAX_ANSWERS)
    if not isinstance(rows, list) or not rows:
        raise DataError(problem(path, "no rows", "a JSON list of answers, one row per encounter", "check the file"))
    if len(rows) > MAX_ROWS:
        raise DataError(problem(path, f"{len(rows)} rows", f"at most {MAX_ROWS}", "is it the right file?"))
    answers: dict[str, dict[str, int]] = {}
    lines: list[str] = []
    for number, row in enumerate(rows):
        encounter = row.get("encounter_id") if isinstance(row, dict) else None
        fault = id_fault(encounter, f"{path}:{number}")
        if fault:
            lines.append(fault)
            continue
        encounter = composed(str(encounter))
        if encounter in answers:
            lines.append(problem(f"{path}:{number}", f"{redact_key(encounter)} twice", "once", "remove one row"))
        faults = questions.faults(row, f"{path}:{redact_key(encounter)}")
        lines += faults
        known = {qid: row[qid] for qid in questions.by_qid if qid in row}
        answers[encounter] = known if faults else questions.indices(known)
    if lines:
        raise DataError(first_lines(by_kind(lines), path))
    return answers
