"""Predictions in files: the official names, where they are in a folder or zip, reading and writing them.

Layout (specs/peers.md section 2): masks_preds/IMG_<encounter>_<number>_mask_sys.tiff and data_cvqa_sys.json at the
root. Reading for `score` is lenient about the place (said in `notes`); linter.py is strict about everything.
"""

import codecs
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.archive import Archive, open_archive
from magic_cli.data.gold import Gold
from magic_cli.data.masks import read_raw
from magic_cli.errors import DataError, SubmissionError, problem
from magic_cli.files import write_text
from magic_cli.questions import QuestionSchema
from magic_cli.records import Prediction

MASKS, ANSWERS = "masks_preds", "data_cvqa_sys.json"
SUFFIX = "_mask_sys.tiff"
NOT_BINARY = 255


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
    roots = ["", *sorted({name.split("/", 1)[0] + "/" for name in [*archive.members, *archive.folders] if "/" in name})]
    everything = [*archive.members, *archive.folders]
    masks = [f"{root}{MASKS}/" for root in roots if any(n.startswith(f"{root}{MASKS}/") for n in everything)]
    if not masks:
        masks = [root for root in roots if any(_child(name, root, SUFFIX) for name in archive.members)]
    answers = [root + ANSWERS for root in roots if root + ANSWERS in archive.members]
    if not answers and len(archive.members) == 1 and not archive.is_zip:
        answers = [name for name in archive.members if name.endswith(".json")]
    if not masks and not answers:
        some = ", ".join(sorted(archive.members)[:3]) or "nothing"
        expected = f"{MASKS}/IMG_*{SUFFIX} or {ANSWERS}"
        raise SubmissionError(problem(archive.source, some, expected, "check the path and the names"))
    return Layout(_only(archive, masks), _only(archive, answers))


def _child(name: str, folder: str, suffix: str) -> bool:
    return name.startswith(folder) and "/" not in name[len(folder) :] and name.endswith(suffix)


def _only(archive: Archive, found: Sequence[str]) -> str | None:
    """Return the one place found; the root's wins over a deeper one."""
    if len(found) > 1 and found[0] not in ("", f"{MASKS}/", ANSWERS):
        raise SubmissionError(
            problem(archive.source, " and ".join(found[:3]), "one of them", "give one of these folders")
        )
    return found[0] if found else None


@dataclass(frozen=True)
class Submission:
    """Predictions as found in files; masks are read one at a time, when they are asked for.

    `masks` maps image ids to members of the archive; None where the task is absent. `rows` is the parsed
    JSON, None where the task is absent. `notes` are sentences a reader of the scores must know.
    """

    archive: Archive
    masks: Mapping[str, str] | None
    rows: Sequence[Mapping[str, Any]] | None
    notes: tuple[str, ...]

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
        """Yield what the files say about one task, as decisions (integer arrays).

        seg: {"mask": array as stored}, floats other than 0 and 1 become 255; {} where a file is unreadable.
        cvqa: {qid: 0-d integer} of the gold's qids; several rows of one encounter stay several predictions.

        Raises:
            SubmissionError: a qid has a value that is no whole number; all of them at once.
        """
        return self._masks() if task == "seg" else iter(_answers(self.rows or (), gold.questions, self.archive.source))

    def _masks(self) -> Iterator[Prediction]:
        for image, name in (self.masks or {}).items():
            try:
                with self.archive.read(name) as file:
                    mask = _decision(read_raw(file, self.archive.where(name)))
            except (DataError, SubmissionError):
                yield Prediction(image, {})  # score lists it with everything else that is wrong
                continue
            yield Prediction(image, {"mask": mask}, (mask.shape[0], mask.shape[1]) if mask.ndim == 2 else None)


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
        official = ((layout.masks, f"{MASKS}/"), (layout.answers, ANSWERS))
        notes = [
            f"{archive.where(found or '.')}: found here, but the platform looks for {name} at the root of the zip only."
            for found, name in official
            if archive.is_zip and found not in (None, name)
        ]
        masks = None if layout.masks is None else _list_masks(archive, layout.masks, notes)
        rows = None if layout.answers is None else read_rows(archive, layout.answers, notes)
        yield Submission(archive, masks, rows, tuple(notes))


def masks_in(archive: Archive, folder: str) -> dict[str, str]:
    """Return image id to member of the masks that are directly in `folder` under official names, sorted."""
    names = sorted(name for name in archive.members if name.startswith(folder) and "/" not in name[len(folder) :])
    found = {image_of(name[len(folder) :]): name for name in names}
    return {image: name for image, name in found.items() if image is not None}


def _list_masks(archive: Archive, folder: str, notes: list[str]) -> Mapping[str, str] | None:
    names = [name for name in archive.members if name.startswith(folder)]
    if not names:
        notes.append(f"{archive.where(folder)}: empty; the official scorer gives 0 for segmentation.")
        return None
    masks = masks_in(archive, folder)
    if len(masks) < len(names):
        notes.append(f"{archive.where(folder)}: {len(names) - len(masks)} files not named *{SUFFIX} are ignored.")
    return masks


def read_rows(archive: Archive, name: str, notes: list[str]) -> list[Mapping[str, Any]] | None:
    """Parse the rows of a JSON member for scoring; None for [], and what a reader must know goes to `notes`.

    Raises:
        SubmissionError: it is no JSON list of objects that each have an encounter_id.
    """
    where = archive.where(name)
    with archive.read(name) as file:
        data = file.read()
    if data.startswith(codecs.BOM_UTF8):
        notes.append(f"{where}: starts with a byte-order mark; the official scorer stops there.")
    try:
        rows = json.loads(data.decode("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise SubmissionError(problem(where, f"invalid JSON ({error})", "a JSON list", "write it again")) from None
    if not isinstance(rows, list) or not all(
        isinstance(r, dict) and isinstance(r.get("encounter_id"), str) for r in rows
    ):
        got = "a list with other rows" if isinstance(rows, list) else f"a JSON {type(rows).__name__}"
        raise SubmissionError(problem(where, got, "a list of objects with an encounter_id", "one row an encounter"))
    if not rows:
        notes.append(f"{where}: empty; the official scorer gives 0 for the closed questions.")
    return rows or None


def _answers(rows: Sequence[Mapping[str, Any]], questions: QuestionSchema, source: str) -> list[Prediction]:
    predictions, lines = [], []
    for row in rows:
        # the official scorer takes what stands before the first dash (case 16)
        encounter = str(row["encounter_id"]).split("-")[0]
        chosen: dict[str, NDArray[Any]] = {}
        for qid, value in row.items():
            if qid in questions.by_qid:
                if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
                    where = f"{source}:{row['encounter_id']}:{qid}"
                    lines.append(problem(where, repr(value)[:40], "an integer", "write the 0-based option index"))
                else:
                    chosen[qid] = np.array(int(value))
        predictions.append(Prediction(encounter, chosen))
    if lines:
        most = 20
        rest = [f"{source}: {len(lines) - most} more answers that are no integers"] if len(lines) > most else []
        raise SubmissionError([*lines[:most], *rest])
    return predictions


def _decision(raw: NDArray[Any]) -> NDArray[Any]:
    """Return a stored mask as integers; the value 255 stands for every float that is neither 0 nor 1."""
    mask = raw[..., 0] if raw.ndim == 3 and raw.shape[2] == 1 else raw
    if mask.dtype == np.bool_:
        return mask.view(np.uint8)
    if mask.dtype.kind in "ui":
        return mask
    return np.where(mask == 1, 1, np.where(mask == 0, 0, NOT_BINARY)).astype(np.uint8)


def missing_lines(missing: Sequence[str], wanted: Collection[str], kind: str) -> list[str]:
    """Return the line that names every missing "images" or "encounters"; the denominator is never shrunk."""
    if not missing:
        return []
    got = f"{len(missing)} of {len(wanted)} {kind} have no prediction (the official scorer stops with KeyError)"
    if len(missing) == len(wanted) > 10:
        return [f"{got}: {', '.join(missing[:10])}, ...; are these predictions of another split?"]
    return [f"{got}: {', '.join(missing)}"]


def write_answers(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write data_cvqa_sys.json atomically: UTF-8 without a mark, one row a line, the same bytes for the same rows."""
    write_text(path, answers_text(rows))


def answers_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the JSON list of rows as text."""
    return "[" + ",".join("\n" + json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows) + "\n]\n"
