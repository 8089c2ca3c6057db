"""Predictions in files: the official names, where they are in a folder or zip, reading and writing them.

Layout: masks_preds/IMG_<encounter>_<number>_mask_sys.tiff and data_cvqa_sys.json at the root
(examples/official-scorer.md, "Layout"). Reading for `score` is lenient about the place (said in `notes`);
submission/lint.py is strict about everything.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from magic_cli.data.gold import Gold
from magic_cli.data.masks import Unreadable, decode_mask, map_stored, read_stored
from magic_cli.errors import DataError, SubmissionError, problem, shorten
from magic_cli.io.files import write_text
from magic_cli.records import Prediction, Question
from magic_cli.submission.answers import has_mark, prediction_of, read_bytes, read_rows, stops_at
from magic_cli.submission.archive import Archive, open_archive
from magic_cli.submission.probabilities import Probabilities, read_told

MASKS, ANSWERS = "masks_preds", "data_cvqa_sys.json"

SUFFIX = "_mask_sys.tiff"


def mask_name(image_id: str) -> str:
    """Return the official file name of a predicted mask."""
    return image_id + SUFFIX


def image_of(name: str) -> str | None:
    """Return the image id that an official mask file name holds; None for any other name.

    The official scorer splits at "_mask_": `IMG_x_mask_mask_sys.tiff` has the suffix "mask_sys" (case 48).
    """
    image, _, rest = name.partition("_mask_")
    return image if image and rest == "sys.tiff" else None


@dataclass(frozen=True)
class Layout:
    """Where the predictions are in an archive: the folder of masks ("" or "masks_preds/"), the JSON's name."""

    masks: str | None
    answers: str | None


def find_layout(archive: Archive) -> Layout:
    """Find masks and answers at the root of an archive or, failing that, one folder deeper.

    Raises:
        SubmissionError: neither is there, or one of them is there twice.
    """
    # each name is looked at in its own two places: a zip may hold as many folders as files
    places = [(name, root) for name in [*archive.members, *archive.folders] for root in _roots(name)]
    masks = [f"{root}{MASKS}/" for root in sorted({root for n, root in places if n.startswith(f"{root}{MASKS}/")})]
    if not masks:
        files = ((n, root) for n, root in places if n.endswith(SUFFIX) and n in archive.members)
        masks = sorted({root for name, root in files if _child(name, root)})
    answers = [root + ANSWERS for root in sorted({root for _, root in places}) if root + ANSWERS in archive.members]
    if not answers and len(archive.members) == 1 and not archive.is_zip:
        answers = [name for name in archive.members if name.endswith(".json")]
    named = not archive.is_zip and Path(archive.source).name == MASKS
    if named and not masks and not answers and (not archive.members or any("_mask_" in n for n in archive.members)):
        masks = [""]  # the folder itself, empty or with other names
    if not masks and not answers:
        here = ", ".join(sorted(archive.members)[:3]) or "nothing"
        expected = f"{MASKS}/IMG_*{SUFFIX} or {ANSWERS}"
        raise SubmissionError(problem(archive.source, here, expected, "check the path and the names"))
    return Layout(_only(archive, masks), _only(archive, answers))


def _roots(name: str) -> tuple[str, ...]:
    """Return the places that a name may be a submission's from: the root, and its first folder."""
    first, slash, _ = name.partition("/")
    return ("", first + slash) if slash else ("",)


def _child(name: str, folder: str) -> bool:
    return name.startswith(folder) and "/" not in name[len(folder) :]


def _only(archive: Archive, found: Sequence[str]) -> str | None:
    """Return the one place found; the root's wins over a deeper one."""
    if len(found) > 1 and found[0] not in ("", f"{MASKS}/", ANSWERS):
        raise SubmissionError(
            problem(archive.source, " and ".join(found[:3]), "one of them", "give one of these folders")
        )
    return found[0] if found else None


@dataclass(frozen=True, slots=True)
class Unread:
    """In place of `Prediction.raw`: a file that the official scorer does not read.

    `error` is the exception it stops with; "" where it does not find the file at all, as if it were not there.
    """

    error: str = ""


@dataclass(frozen=True)
class Submission:
    """Predictions as found in files; masks are read one at a time, when they are asked for.

    `masks` maps image ids to members of the archive, `strays` to members whose names only look like masks; None
    where the task is absent. `rows` is the parsed JSON, whatever its rows are; None where the task is absent.
    `notes` are sentences a reader of the scores must know. `stops` name what stops the official run before any
    task is scored. `sought` is False where the official scorer does not find the masks: a zip's at another place.
    `told` are the probabilities by encounter and qid that predictions.jsonl tells of these very rows.
    """

    archive: Archive
    masks: Mapping[str, str] | None
    rows: Sequence[Any] | None
    notes: tuple[str, ...]
    stops: tuple[str, ...] = ()
    strays: Mapping[str, str] = field(default_factory=dict)
    sought: bool = True
    answers: str = ANSWERS
    told: Mapping[str, Probabilities] = field(default_factory=dict)

    def tasks_with(self, gold: Gold) -> tuple[str, ...]:
        """Return the tasks that these predictions and `gold` have in common, seg first.

        Raises:
            DataError: there is none.
        """
        have = {"seg": self.masks is not None, "cvqa": self.rows is not None}
        truth = {"seg": bool(gold.images), "cvqa": bool(gold.answers)}
        tasks = tuple(task for task in have if have[task] and truth[task])
        if not tasks:
            mine, theirs = (" and ".join(t for t in x if x[t]) or "nothing" for x in (have, truth))
            remedy = "give the gold file or folder of the same task"
            raise DataError(problem(gold.source, f"gold for {theirs}", f"gold for {mine}", remedy))
        return tasks

    def of(self, task: str, gold: Gold) -> Iterator[Prediction]:
        """Yield what the files say about one task; nothing is refused, `fault` says what is wrong.

        seg: `raw` is the array as stored, or Unread; {"mask": (H, W) uint8} where it can be read as one of {0, 1} or
        {0, 255}, with values as they are (and unchecked) if they are stored as uint8.
        cvqa: `raw` is the row, {qid: 0-d integer} its whole numbers for the gold's qids, `id` its encounter_id as
        written ("" without one); several rows of an encounter stay several predictions; `told` where it is known.
        """
        if task == "seg":
            return self.select((*(self.masks or ()), *self.strays))
        where, questions = self.archive.where(self.answers), gold.questions.by_qid
        rows = (prediction_of(row, questions, f"{where}:{n}") for n, row in enumerate(self.rows or ()))
        return (replace(row, told=self.told[row.id]) if self._tells(row.id, questions) else row for row in rows)

    def _tells(self, encounter: str, questions: Mapping[str, Question]) -> bool:
        told = self.told.get(encounter, {})
        return told.keys() == questions.keys() and all(len(told[qid]) == q.size for qid, q in questions.items())

    def select(self, images: Iterable[str]) -> Iterator[Prediction]:
        """Yield the masks of some images, in this order; those that are not there are left out."""
        for image in images:
            if self.masks is not None and image in self.masks:
                yield self._mask(image, self.masks[image])
            elif image in self.strays:
                name = self.strays[image]
                # the official scorer looks at *.tiff only; it splits these at "_mask_" and looks for "sys"
                raw = Unread("KeyError: 'sys'" if name.endswith(".tiff") and self.sought else "")
                fault = problem(self.archive.where(name), "this name", mask_name(image), "rename it")
                yield Prediction(image, {}, None, raw, fault)

    def _mask(self, image: str, name: str) -> Prediction:
        where, path = self.archive.where(name), self.archive.path(name)
        try:
            if path is not None:
                stored, error = map_stored(path, where)
            else:
                with self.archive.read(name) as file:
                    stored, error = read_stored(file, where)
        except (Unreadable, SubmissionError) as wrong:
            error, pixels = getattr(wrong, "error", "BadZipFile"), getattr(wrong, "stored", None)
            unread = Unread(error if self.sought else "")
            return Prediction(image, {}, None, pixels if self.sought and pixels is not None else unread, str(wrong))
        raw: Any = stored if self.sought and not error else Unread(error if self.sought else "")
        if stored.dtype == np.uint8 and stored.ndim == 2:
            return Prediction(image, {"mask": stored}, stored.shape, raw)
        try:
            mask, kind = decode_mask(stored, where)
        except DataError as wrong:
            return Prediction(image, {}, None, raw, str(wrong))
        return Prediction(image, {"mask": mask * np.uint8(255) if kind == "0/255" else mask}, mask.shape, raw)


@contextmanager
def open_predictions(path: Path) -> Iterator[Submission]:
    """Open a JSON file, a folder or a zip of predictions, as `with open_predictions(path) as found:`.

    Raises:
        SubmissionError: nothing that looks like predictions, an unsafe zip, or invalid JSON.
    """
    with open_archive(path) as archive:
        if archive.faults:
            raise SubmissionError(archive.faults)
        layout = find_layout(archive)
        notes = list(_place_notes(archive, layout))
        masks = None if layout.masks is None else masks_in(archive, layout.masks)
        strays = {} if layout.masks is None else _strays(archive, layout.masks, notes)
        rows = None if layout.answers is None else read_rows(archive, layout.answers, notes)
        stops = tuple(_stops(archive, layout, rows or ()))
        sought = not archive.is_zip or layout.masks == f"{MASKS}/"
        strays = {image: name for image, name in strays.items() if image not in (masks or {})}
        told, note = read_told(archive, layout.answers or ANSWERS, rows or ())
        notes += [note] if note else []
        answers = layout.answers or ANSWERS
        yield Submission(archive, masks, rows, tuple(notes), stops, strays, sought, answers, told)


def _place_notes(archive: Archive, layout: Layout) -> Iterator[str]:
    for found, name in ((layout.masks, f"{MASKS}/"), (layout.answers, ANSWERS)):
        if archive.is_zip and found not in (None, name):
            where = archive.where(found or ".")
            yield f"{where}: found here, but the platform looks for {name} at the root of the zip only."
    if archive.is_zip and layout.masks is None:
        yield f"{archive.source}: no {MASKS}/; the official scorer gives 0 for segmentation."


def _stops(archive: Archive, layout: Layout, rows: Sequence[Any]) -> Iterator[str]:
    """Yield what stops the official run at its start, and loses both tasks (cases 07 and 25)."""
    if archive.is_zip and layout.answers != ANSWERS:
        yield f"{archive.source}: no {ANSWERS} at the root of the zip (FileNotFoundError)"
    if layout.answers is None:
        return
    where = archive.where(layout.answers)
    if has_mark(read_bytes(archive, layout.answers)):
        yield f"{where}: starts with a byte-order mark (JSONDecodeError)"
    for error, numbers in stops_at(rows).items():
        yield f"{where}: rows {shorten(map(str, numbers))} have no encounter_id as text ({error})"


def masks_in(archive: Archive, folder: str) -> dict[str, str]:
    """Return image id to member of the masks that are directly in `folder` under official names, sorted."""
    names = sorted(name for name in archive.members if _child(name, folder))
    found = {image_of(name[len(folder) :]): name for name in names}
    return {image: name for image, name in found.items() if image is not None}


def _strays(archive: Archive, folder: str, notes: list[str]) -> dict[str, str]:
    """Return image id to member of files that are named almost as masks; `notes` says what else is ignored."""
    names = [name for name in archive.members if name.startswith(folder)]
    strange = [name for name in names if not _child(name, folder) or image_of(name[len(folder) :]) is None]
    if not names:
        notes.append(f"{archive.where(folder)}: empty; the official scorer gives 0 for segmentation.")
    elif strange:
        notes.append(f"{archive.where(folder)}: {len(strange)} files not named *{SUFFIX} are ignored.")
    almost = ((name[len(folder) :].partition("_mask_"), name) for name in sorted(strange) if _child(name, folder))
    return {image: name for (image, mark, _), name in almost if image and mark}


def missing_lines(missing: Sequence[str], wanted: Collection[str], kind: str) -> list[str]:
    """Return the line that names every missing "images" or "encounters"; the denominator is never shrunk."""
    if not missing:
        return []
    got = f"{len(missing)} of {len(wanted)} {kind} have no prediction (the official scorer stops with KeyError)"
    if len(missing) == len(wanted) > 10:
        return [f"{got}: {shorten(missing)}; are these predictions of another split?"]
    return [f"{got}: {', '.join(missing)}"]


def write_answers(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write data_cvqa_sys.json atomically: UTF-8 without a mark, one row a line, the same bytes for the same rows."""
    write_text(path, answers_text(rows))


def answers_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the JSON list of rows as text."""
    return "[" + ",".join("\n" + json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows) + "\n]\n"
