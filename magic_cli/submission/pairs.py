"""Predictions of contrastive models in files: class probabilities, concept scores, and vectors for retrieval.

predictions/pretrain/predictions.json          what was asked, and counts     schemas/pairs.schema.json
predictions/pretrain/zero_shot.csv             image_id, predicted, then the probability of each class
predictions/pretrain/concepts.csv              image_id, then the score of each concept
predictions/pretrain/presence.csv              image_id, then the highest similarity of a place to each class; on demand
predictions/pretrain/embeddings.safetensors    images (N, d), texts (M, d), float32 of length 1; text_of (N,) int64, the
                                               row of each photo's text, -1 for none; metadata "ids": a JSON list
predictions/pretrain/maps.safetensors          of some photos: similarity of patches to each text, float16 (texts, h, w)
predictions/pretrain/labels.csv                the split's photos and classes, for programs of peers; not read here

Names of classes and concepts are written as they are, or they would not match when they are read again. Spreadsheet
programs take one that begins with =, +, - or @ for a formula: import such a table as text.

No text of a patient is in them. `magic score` also reads tables of other programs: a column for the photo under any of
its usual names (data/names.py), then a column per class or concept, by name; or a column `predicted` alone.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.issues import IssueLog
from magic_cli.data.names import IMAGE_COLUMNS, PAIR_TABLES
from magic_cli.data.prompts import fold
from magic_cli.errors import SubmissionError, first_lines, printable, problem, redact, shorten
from magic_cli.io import schema
from magic_cli.io.json_files import read_json
from magic_cli.records import Submitted

ASKED, ZERO_SHOT, CONCEPTS = "predictions.json", "zero_shot.csv", "concepts.csv"

PRESENCE = "presence.csv"

VECTORS, MAPS, LABELS = "embeddings.safetensors", "maps.safetensors", "labels.csv"

FILES = (ASKED, ZERO_SHOT, CONCEPTS, PRESENCE, VECTORS, MAPS, LABELS)

_PREDICTED = ("predicted", "prediction", "pred", "pred_label", "predicted_label")

_SUM = 1e-2  # how far the probabilities of a photo may be from 1 altogether

_AGAIN = "predict again"

_READ = (ZERO_SHOT, CONCEPTS, VECTORS, ASKED, MAPS, PRESENCE)

Vector = NDArray[np.float32]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class SubmittedPair(Submitted):
    """What files say about one photo; `id` is written there: an image id, or the path or name of its file.

    Attributes:
        image, text: vectors of length 1 of the photo and of its text, float32 (d,); None without.
        classes: the classes that were asked for; class_scores: of each, float32 (classes,); None without.
        predicted: the class that was chosen, where no scores say it.
        concepts: the concepts that were asked for; concept_scores: of each, float32 (concepts,); None without.
        presence: the highest similarity of a place on the photo to each class, float32 (classes,); None without.
        heat: similarity of each place to the photo's own text, float32 (h, w); None without.
    """

    image: Vector | None = None
    text: Vector | None = None
    classes: tuple[str, ...] = ()
    class_scores: Vector | None = None
    predicted: str = ""
    concepts: tuple[str, ...] = ()
    concept_scores: Vector | None = None
    presence: Vector | None = None
    heat: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class PairFiles:
    """Where predictions of contrastive models are; None for what is absent."""

    source: str
    classes: Path | None = None
    concepts: Path | None = None
    vectors: Path | None = None
    asked: Path | None = None
    maps: Path | None = None
    presence: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that are read."""
        every = (self.asked, self.classes, self.concepts, self.vectors, self.maps, self.presence)
        return tuple(path for path in every if path is not None)


def pair_files_in(folder: Path) -> PairFiles | None:
    """Return the predictions in a folder; None if there are none."""
    paths = [path if (path := folder / name).is_file() else None for name in _READ]
    return PairFiles(printable(folder), *paths) if any(paths[:3]) else None


def find_pairs(path: Path) -> PairFiles | None:
    """Return the predictions in a CSV file, in a folder or in one of its folders; None if there are none.

    Raises:
        SubmissionError: several of its folders hold some.
    """
    if path.suffix.casefold() in PAIR_TABLES and path.is_file():
        is_concepts = path.name == CONCEPTS
        return PairFiles(printable(path), None if is_concepts else path, path if is_concepts else None)
    if not path.is_dir():
        return None
    here = pair_files_in(path)
    if here is not None:
        return here
    deeper = [found for folder in _folders(path) if (found := pair_files_in(folder)) is not None]
    if len(deeper) > 1:
        got = " and ".join(found.source for found in deeper[:3])
        raise SubmissionError(problem(printable(path), got, "one of them", "give one of these folders"))
    return deeper[0] if deeper else None


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(entry for entry in path.iterdir() if entry.is_dir())
    except OSError:  # what cannot be looked into holds nothing for us
        return []


def read_pairs(files: PairFiles) -> Iterator[SubmittedPair]:
    """Yield what the files say, photo by photo, joined by the ids that they write.

    Raises:
        SubmissionError: a table without a column for the photo or without scores, a photo twice, a cell that is no
            number, damaged vectors, or files of the folder that are about different photos.
    """
    if files.asked is not None:
        lines = schema.problems("pairs", read_json(files.asked), str(files.asked))
        if lines:
            raise SubmissionError(lines)
    classes = None if files.classes is None else _read_table(files.classes)
    concepts = None if files.concepts is None else _read_table(files.concepts)
    if classes is not None and files.asked is None and not classes.are_probabilities:
        classes, concepts = None, classes
    presence = None if files.presence is None else _read_table(files.presence)
    if presence is not None and (classes is None or presence.names != classes.names):
        raise SubmissionError(problem(files.presence, "other classes", f"those of {ZERO_SHOT}", _AGAIN))
    vectors = None if files.vectors is None else read_vectors(files.vectors)
    maps = MapFile(files.maps)
    ids = _same_ids(files, [part.ids for part in (classes, concepts, presence, vectors) if part is not None])
    for row, name in enumerate(ids):
        place = -1 if vectors is None else int(vectors.text_of[row])
        yield SubmittedPair(
            name,
            image=None if vectors is None else vectors.images[row],
            text=None if vectors is None or place < 0 else vectors.texts[place],
            classes=() if classes is None else classes.names,
            class_scores=None if classes is None or not classes.names else classes.scores[row],
            predicted=classes.predicted[row] if classes is not None and classes.predicted else "",
            concepts=() if concepts is None else concepts.names,
            concept_scores=None if concepts is None else concepts.scores[row],
            presence=None if presence is None else presence.scores[row],
            heat=maps.maps(name)[0] if name in maps.ids else None,
        )


def _same_ids(files: PairFiles, parts: Sequence[Sequence[str]]) -> Sequence[str]:
    if any(list(part) != list(parts[0]) for part in parts[1:]):
        got = "tables and vectors of different photos, or in different orders"
        raise SubmissionError(problem(files.source, got, "the same photos in each", "predict again"))
    return parts[0]


@dataclass(frozen=True, eq=False)
class _Table:
    """Scores (N, K), float32, by photo and name; `predicted` is () where the table does not have it."""

    ids: Sequence[str]
    names: tuple[str, ...]
    scores: Vector
    predicted: Sequence[str]

    @property
    def are_probabilities(self) -> bool:
        """Whether these are classes: one is named as predicted, or the scores of each photo sum to 1."""
        sums = self.scores.sum(1)
        return bool(self.predicted) or bool(self.names and (np.abs(sums - 1) < _SUM).all() and (self.scores >= 0).all())


def _read_table(path: Path) -> _Table:
    from magic_cli.data.sources.csv_rows import open_csv  # not at the top: scoring masks is timed

    issues = IssueLog()
    table = open_csv(str(path), None)
    image, predicted, names = _columns(table.columns, table.name)
    ids: list[str] = []
    chosen: list[str] = []
    rows: list[Vector] = []
    for row in table.rows(issues):
        ids.append((row.cells[image]).strip())
        if predicted:
            chosen.append(fold(row.cells[predicted]))
        try:
            rows.append(np.array([float(row.cells[name]) for name in names], np.float32))
        except ValueError:
            bad = next(name for name in names if not _is_number(row.cells[name]))
            issues.add_loss(problem(f"{row.where}:{bad}", redact(row.cells[bad]), "a number", "predict again"))
    scores = np.stack(rows) if rows else np.zeros((0, len(names)), np.float32)
    if not issues.number and not np.isfinite(scores).all():
        issues.add_loss(problem(table.name, "a score that is not finite", "numbers", "predict again"))
    if len(set(ids)) < len(ids) or "" in ids:
        issues.add_loss(problem(table.name, "a photo twice, or none", "one row per photo", "predict again"))
    if not ids:
        issues.add_loss(problem(table.name, "no rows", "a row per photo", "predict again"))
    if issues.number:
        raise SubmissionError(first_lines(issues.lines(), table.name))
    return _Table(ids, tuple(map(fold, names)), scores, chosen)


def _columns(names: Sequence[str], source: str) -> tuple[str, str, tuple[str, ...]]:
    """Return the columns of the photo, of the predicted class ("" without) and of scores."""
    folded = {name.strip().casefold(): name for name in reversed(names)}
    image = next((folded[name] for name in IMAGE_COLUMNS if name in folded), "")
    predicted = next((folded[name] for name in _PREDICTED if name in folded), "")
    leading = ("group", "label", "gold", "split", "")
    scores = [name for name in names if name not in (image, predicted) and name.casefold() not in leading]
    scores = [name for name in scores if not name.startswith("Unnamed: ")]
    if not image or not (scores or predicted):
        expected = "a column image_id (or image_path, filename), and one per class or concept"
        raise SubmissionError(problem(source, f"columns {shorten(names)}", expected, "rename the columns"))
    return image, predicted, tuple(scores)


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


@dataclass(frozen=True, eq=False)
class Vectors:
    """Vectors of photos and of their texts.

    Attributes:
        ids: of the photos.
        images: float32 (N, d), of length 1.
        texts: float32 (M, d), of length 1; photos may share one.
        text_of: int64 (N,), the row of each photo's text; -1 without one.
    """

    ids: Sequence[str]
    images: Vector
    texts: Vector
    text_of: NDArray[np.int64]


def read_vectors(path: Path) -> Vectors:
    """Return the vectors in a file; raises SubmissionError if it is damaged or of another layout."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            ids = json.loads((file.metadata() or {}).get("ids", "null"))
            images, texts, text_of = (file.get_tensor(name) for name in ("images", "texts", "text_of"))
    except (SafetensorError, OSError, ValueError, RecursionError):
        raise SubmissionError(problem(path, "what cannot be read", "vectors of photos", "predict again")) from None
    vectors = Vectors(ids, images, texts, text_of)
    if not _is_sound(vectors):
        got = "tensors of another layout"
        raise SubmissionError(problem(path, got, "images, texts, text_of and the metadata ids", "predict again"))
    return vectors


def _is_sound(vectors: Vectors) -> bool:
    ids, images, texts, text_of = vectors.ids, vectors.images, vectors.texts, vectors.text_of
    return (
        isinstance(ids, list)
        and all(isinstance(name, str) for name in ids)
        and len(set(ids)) == len(ids)
        and images.ndim == texts.ndim == 2
        and images.dtype == texts.dtype == np.float32
        and text_of.dtype == np.int64
        and images.shape[0] == len(ids)
        and text_of.shape == (len(ids),)
        and images.shape[1] == texts.shape[1]
        and bool(((text_of >= -1) & (text_of < len(texts))).all())
        and bool(np.isfinite(images).all() and np.isfinite(texts).all())
    )


class MapFile:
    """Similarity maps in a file, read photo by photo: `ids` have some."""

    def __init__(self, path: Path | None) -> None:
        """Open the file; None for no maps. Raises SubmissionError if it is damaged."""
        self._path = path
        self.ids = frozenset(self._read(lambda file: file.keys())) if path is not None else frozenset()

    def maps(self, name: str) -> NDArray[np.float32]:
        """Return the similarity (1 + subtexts, h, w) of a photo's patches to its raw text and to each subtext.

        Raises:
            SubmissionError: it is damaged, of another layout, or holds what is no number.
        """
        found = np.asarray(self._read(lambda file: file.get_tensor(name)), np.float32)
        if found.ndim != 3 or not found.size or not np.isfinite(found).all():
            raise SubmissionError(problem(self._path, "maps of another layout", "texts x height x width", _AGAIN))
        return found

    def _read(self, what: Callable[[Any], T]) -> T:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._path, framework="numpy") as file:
                return what(file)
        except (SafetensorError, OSError, ValueError):
            raise SubmissionError(problem(self._path, "what cannot be read", "maps of photos", _AGAIN)) from None
