"""Files of predictions: their official names, where they are in a folder or zip, reading and writing them.

Layout: masks_preds/IMG_<encounter>_<number>_mask_sys.tiff and data_cvqa_sys.json at the root
(examples/official-scorer.md, "Layout"). `score` reads them from other places too (and says so in `notes`);
submission/lint.py is strict.
"""

import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.gold import Gold
from magic_cli.data.imaging.appearance import AS_STORED, Appearance
from magic_cli.data.imaging.masks import Unreadable, decode_mask, read_stored
from magic_cli.data.issues import by_kind
from magic_cli.data.prepared import MANIFEST
from magic_cli.errors import DataError, SubmissionError, printable, problem, shorten
from magic_cli.io.files import write_text
from magic_cli.records import Question, Submitted
from magic_cli.submission.answers import (
    SubmittedRow,
    has_byte_order_mark,
    official_crashes,
    read_bytes,
    read_row,
    read_rows,
)
from magic_cli.submission.archive import Archive, open_archive
from magic_cli.submission.beside import Beside, names_beside, read_beside
from magic_cli.submission.pairs import CONCEPTS, VECTORS, ZERO_SHOT, PairFiles, find_pairs, read_pairs
from magic_cli.submission.rankings import RUN, RankingFiles, find_rankings, read_rankings
from magic_cli.submission.zip_limits import MAX_MEMBER

MASKS, ANSWERS = "masks_preds", "data_cvqa_sys.json"

SUFFIX = "_mask_sys.tiff"


def mask_name(image_id: str) -> str:
    """Return the official file name of a predicted mask."""
    return image_id + SUFFIX


def image_of(name: str) -> str | None:
    """Return the image id in an official mask file name; None for any other name.

    The official scorer splits at the first "_mask_": for it, `IMG_x_mask_mask_sys.tiff` has the suffix "mask_sys"
    (case 48).
    """
    image, _, rest = name.partition("_mask_")
    return unicodedata.normalize("NFC", image) if image and rest == "sys.tiff" else None  # macOS decomposes names


Deliverable = Literal["masks", "answers", "pairs", "rankings"]


@dataclass(frozen=True)
class Layout:
    """Where the predictions of an archive are: the folder of masks ("" or "masks_preds/"), and the JSON's name."""

    masks: str | None
    answers: str | None


def find_layout(archive: Archive) -> Layout:
    """Find masks and answers at the root of an archive or, failing that, one folder deeper.

    Raises:
        SubmissionError: the archive has neither, or has one of them twice.
    """
    # only the two possible roots of each name are checked: a zip may hold as many folders as files
    places = [(name, root) for name in [*archive.members, *archive.folders] for root in _roots(name)]
    masks = [f"{root}{MASKS}/" for root in sorted({root for n, root in places if n.startswith(f"{root}{MASKS}/")})]
    if not masks:
        files = ((n, root) for n, root in places if n.endswith(SUFFIX) and n in archive.members)
        masks = sorted({root for name, root in files if _child(name, root)})
    answers = [root + ANSWERS for root in sorted({root for _, root in places}) if root + ANSWERS in archive.members]
    if not answers and len(archive.members) == 1 and not archive.is_zip:
        answers = [name for name in archive.members if name.casefold().endswith(".json")]
    named = not archive.is_zip and Path(archive.source).name == MASKS
    if named and not masks and not answers and not any("_mask_ann" in name for name in archive.members):
        masks = [""]  # the folder itself, empty or with other names: no mask is found in it (cases 30 and 30b)
    if not masks and not answers:
        got, remedy = _other_kind(archive)
        raise SubmissionError(problem(archive.source, got, f"{MASKS}/IMG_*{SUFFIX} or {ANSWERS}", remedy))
    return Layout(_only(archive, masks), _only(archive, answers))


def _other_kind(archive: Archive) -> tuple[str, str]:
    """Return (got, remedy) for an archive that holds no predictions."""
    names = {PurePosixPath(name).name for name in archive.members}
    if RUN in names:
        return "predictions of `magic predict retrieve`", "they are no submission; score them with `magic score`"
    if not names.isdisjoint((VECTORS, ZERO_SHOT, CONCEPTS)):
        return "predictions of `magic predict pretrain`", "they are no submission; score them with `magic score`"
    if MANIFEST in names or any("_mask_ann" in name for name in names) or "data_cvqa_ref.json" in names:
        kind = "a prepared dataset" if MANIFEST in names else "gold or raw data"
        return kind, "give predictions here; `magic score` takes them first and the gold last"
    if "data.pkl" in names or "best.pt" in names:
        return "a checkpoint or a run folder", "run `magic predict` with it, and give what that writes"
    return ", ".join(sorted(archive.members)[:3]) or "nothing", "check the path and the names"


def _roots(name: str) -> tuple[str, ...]:
    """Return the possible roots of a submission with this member: the archive's root, and the member's top folder."""
    first, slash, _ = name.partition("/")
    return ("", first + slash) if slash else ("",)


def _child(name: str, folder: str) -> bool:
    return name.startswith(folder) and "/" not in name[len(folder) :]


def _only(archive: Archive, places: Sequence[str]) -> str | None:
    """Return the only place, or None; the root takes precedence over a deeper one."""
    if len(places) > 1 and places[0] not in ("", f"{MASKS}/", ANSWERS):
        raise SubmissionError(
            problem(archive.source, " and ".join(places[:3]), "one of them", "give one of these folders")
        )
    return places[0] if places else None


@dataclass(frozen=True, slots=True)
class SubmittedMask(Submitted):
    """One predicted mask, as a file holds it; `id` is the image id.

    mask: uint8 (H, W) if the file can be read as a mask of {0, 1} or {0, 255}; values of a file stored as uint8 are
        unchanged and unchecked. None if there is no such mask: `problem` says why.
    stored: the array that the official scorer reads, of any shape and dtype; None if it reads none.
    official_error: the exception that stops the official scorer at this file; if it is "" and `stored` is None, the
        official scorer does not find the file.
    appearance: how viewers show the file, where that differs from what is stored.
    """

    mask: NDArray[np.uint8] | None = None
    stored: NDArray[Any] | None = None
    official_error: str = ""
    appearance: Appearance = AS_STORED

    @property
    def is_found_officially(self) -> bool:
        """Whether the official scorer finds the file, even if it then stops at it."""
        return self.stored is not None or bool(self.official_error)


@dataclass(frozen=True)
class Submission:
    """Predictions in files; masks are read lazily, one at a time.

    masks: image id to member of the archive; None if the task is absent.
    rows: rows of the parsed JSON, of any type; None if the task is absent.
    notes: remarks for the reader of the scores.
    official_errors: what stops the official run before any task is scored.
    misnamed_masks: image id to member, for files whose names are nearly those of masks.
    masks_are_found: False if the official scorer does not find the masks, because they are elsewhere in the zip.
    answers: the JSON's name in the archive.
    beside: what predictions.jsonl and neighbours.json tell about these rows.
    pairs: files of a contrastive model; None if there are none.
    rankings: files of case retrieval; None if there are none.
    """

    archive: Archive
    masks: Mapping[str, str] | None = None
    rows: Sequence[Any] | None = None
    notes: tuple[str, ...] = ()
    official_errors: tuple[str, ...] = ()
    misnamed_masks: Mapping[str, str] = field(default_factory=dict)
    masks_are_found: bool = True
    answers: str = ANSWERS
    beside: Beside = field(default_factory=Beside)
    pairs: PairFiles | None = None
    rankings: RankingFiles | None = None

    def deliverables_with(self, gold: Gold) -> tuple[Deliverable, ...]:
        """Return which of "masks", "answers", "pairs" and "rankings" both these predictions and `gold` have.

        Raises:
            DataError: neither.
        """
        have: dict[Deliverable, bool] = {"masks": self.masks is not None, "answers": self.rows is not None}
        truth: dict[Deliverable, bool] = {"masks": bool(gold.masks.images), "answers": bool(gold.answers.answers)}
        have["pairs"], truth["pairs"] = self.pairs is not None, gold.pairs is not None and len(gold.pairs) > 0
        have["rankings"], truth["rankings"] = self.rankings is not None, gold.rankings is not None
        both = tuple(name for name in have if have[name] and truth[name])
        if not both:
            mine, theirs = (" and ".join(t for t in x if x[t]) or "nothing" for x in (have, truth))
            remedy = "give the gold file or folder of the same task"
            raise DataError(problem(gold.source, f"gold for {theirs}", f"gold for {mine}", remedy))
        return both

    def of(self, deliverable: Deliverable, questions: Mapping[str, Question]) -> Iterator[Submitted]:
        """Yield the predictions in the files; none is refused, `problem` says what is wrong.

        Args:
            deliverable: "masks", "answers", "pairs" or "rankings".
            questions: the closed questions by qid.
        """
        if deliverable == "pairs":
            return iter(()) if self.pairs is None else read_pairs(self.pairs)
        if deliverable == "rankings":
            return iter(()) if self.rankings is None else read_rankings(self.rankings)
        return self.submitted_masks() if deliverable == "masks" else self.submitted_rows(questions)

    def submitted_rows(self, questions: Mapping[str, Question]) -> Iterator[SubmittedRow]:
        """Yield the rows of answers in file order; rows of the same encounter are not merged.

        Args:
            questions: the closed questions by qid.
        """
        where = self.archive.where(self.answers)
        for number, raw in enumerate(self.rows or ()):
            yield self.beside.added_to(read_row(raw, questions, f"{where}:{number}"), questions)

    def submitted_masks(self, images: Iterable[str] | None = None) -> Iterator[SubmittedMask]:
        """Yield the masks of `images` in their order (None: of all); images without a mask are skipped."""
        for image in (*(self.masks or ()), *self.misnamed_masks) if images is None else images:
            if self.masks is not None and image in self.masks:
                yield self._mask(image, self.masks[image])
            elif image in self.misnamed_masks:
                name = self.misnamed_masks[image]
                # the official scorer looks at *.tiff only; it splits these at "_mask_" and looks for "sys"
                error = "KeyError: 'sys'" if name.endswith(".tiff") and self.masks_are_found else ""
                line = problem(self.archive.where(name), "this name", mask_name(image), "rename it")
                yield SubmittedMask(image, line, official_error=error)

    def _mask(self, image: str, name: str) -> SubmittedMask:
        where, path = self.archive.where(name), self.archive.path(name)
        try:
            if path is not None:
                stored, error, appearance = read_stored(path, where)
            else:
                with self.archive.read(name) as file:
                    stored, error, appearance = read_stored(file, where)
        except Unreadable as wrong:
            return self._as_found(SubmittedMask(image, str(wrong), stored=wrong.stored, official_error=wrong.error))
        except SubmissionError as wrong:
            return self._as_found(SubmittedMask(image, str(wrong), official_error="BadZipFile"))
        line, mask = "", stored
        if stored.dtype != np.uint8 or stored.ndim != 2:
            try:
                mask, kind = decode_mask(stored, where)
                mask = mask * np.uint8(255) if kind == "0/255" else mask
            except DataError as wrong:
                line = str(wrong)
        official = None if error else stored
        return self._as_found(SubmittedMask(image, line, None if line else mask, official, error, appearance))

    def _as_found(self, mask: SubmittedMask) -> SubmittedMask:
        return mask if self.masks_are_found else replace(mask, stored=None, official_error="")


@contextmanager
def open_predictions(path: Path) -> Iterator[Submission]:
    """Open a JSON, CSV or TREC file, a folder or a zip of predictions, as `with open_predictions(path) as submission:`.

    Raises:
        SubmissionError: no predictions, an unsafe zip, or invalid JSON.
    """
    pairs, rankings = find_pairs(path), find_rankings(path)
    if (pairs is not None or rankings is not None) and path.is_file():
        archive = Archive(printable(path.parent), False, {path.name: None}, root=path.parent)
        yield Submission(archive, pairs=pairs, rankings=rankings)
        return
    with open_archive(path) as archive:
        if archive.faults:
            raise SubmissionError(by_kind(archive.faults))
        layout = _layout(archive, pairs is not None or rankings is not None)
        notes = list(_place_notes(archive, layout))
        masks = None if layout.masks is None else masks_in(archive, layout.masks)
        misnamed = {} if layout.masks is None else _misnamed_masks(archive, layout.masks, notes)
        rows = None if layout.answers is None else read_rows(archive, layout.answers, notes)
        official_errors = tuple(_official_errors(archive, layout, rows or ()))
        answers = layout.answers or ANSWERS
        beside = read_beside(archive, answers, rows or (), notes)
        yield Submission(
            archive,
            masks=masks,
            rows=rows,
            notes=tuple(notes),
            official_errors=official_errors,
            misnamed_masks={image: name for image, name in misnamed.items() if image not in (masks or {})},
            masks_are_found=not archive.is_zip or layout.masks == f"{MASKS}/",
            answers=answers,
            beside=beside,
            pairs=pairs,
            rankings=rankings,
        )


def holds_only_pairs(path: Path) -> bool:
    """Return whether a path is predictions of a contrastive model, and of nothing else."""
    return find_pairs(path) is not None and find_rankings(path) is None and _is_without_submission(path)


def holds_only_rankings(path: Path) -> bool:
    """Return whether a path is predictions of case retrieval, and of nothing else."""
    return find_rankings(path) is not None and find_pairs(path) is None and _is_without_submission(path)


def _is_without_submission(path: Path) -> bool:
    if path.is_file():
        return True
    with open_archive(path) as archive:
        return _layout(archive, True) == Layout(None, None)


def _layout(archive: Archive, has_others: bool) -> Layout:
    """Return where masks and answers are; predictions of other tasks may be all that there is."""
    try:
        return find_layout(archive)
    except SubmissionError:
        if not has_others:
            raise
        return Layout(None, None)


def _place_notes(archive: Archive, layout: Layout) -> Iterator[str]:
    for place, name in ((layout.masks, f"{MASKS}/"), (layout.answers, ANSWERS)):
        if archive.is_zip and place not in (None, name):
            where = archive.where(place or ".")
            yield f"{where}: found here, but the platform looks for {name} at the root of the zip only."
    if archive.is_zip and layout.masks is None:
        yield f"{archive.source}: no {MASKS}/; the official scorer gives 0 for segmentation."


def _official_errors(archive: Archive, layout: Layout, rows: Sequence[Any]) -> Iterator[str]:
    """Yield what stops the official scorer at its start, so that neither task is scored (cases 07 and 25)."""
    if archive.is_zip and layout.answers != ANSWERS:
        yield f"{archive.source}: no {ANSWERS} at the root of the zip (FileNotFoundError)"
    if layout.answers is None:
        return
    where = archive.where(layout.answers)
    if has_byte_order_mark(read_bytes(archive, layout.answers)):
        yield f"{where}: starts with a byte-order mark (JSONDecodeError)"
    for error, numbers in official_crashes(rows).items():
        yield f"{where}: rows {shorten(map(str, numbers))} have no encounter_id as text ({error})"


def masks_in(archive: Archive, folder: str) -> dict[str, str]:
    """Return image id to member for the masks directly in `folder` that have official names, sorted by member."""
    names = sorted(name for name in archive.members if _child(name, folder))
    members = {image_of(name[len(folder) :]): name for name in names}
    return {image: name for image, name in members.items() if image is not None}


def _misnamed_masks(archive: Archive, folder: str, notes: list[str]) -> dict[str, str]:
    """Return image id to member for files named almost like masks; other ignored files are counted in `notes`."""
    names = [name for name in archive.members if name.startswith(folder)]
    misnamed = [name for name in names if not _child(name, folder) or image_of(name[len(folder) :]) is None]
    if not names:
        notes.append(f"{archive.where(folder)}: empty; the official scorer gives 0 for segmentation.")
    elif misnamed:
        notes.append(f"{archive.where(folder)}: {len(misnamed)} files not named *{SUFFIX} are ignored.")
    parts = ((name[len(folder) :].partition("_mask_"), name) for name in sorted(misnamed) if _child(name, folder))
    return {image: name for (image, mark, _), name in parts if image and mark}


def submitted_files(path: Path) -> list[Path]:
    """Return the files of predictions that are read: official masks, the answers and what lies beside these.

    Whatever else lies in the folder is left out, and so are files that are too large to be read.
    """
    if not path.is_dir():
        return [path]
    with open_archive(path) as archive:
        kinds = (find_pairs(path), find_rankings(path))
        others = [file for found in kinds if found is not None for file in found.files]
        try:
            layout = find_layout(archive)
        except SubmissionError:
            return sorted(others)
        names = [] if layout.masks is None else list(masks_in(archive, layout.masks).values())
        if layout.answers is not None:
            names += [layout.answers, *names_beside(layout.answers)]
        small = (name for name in names if name in archive.members and archive.size(name) <= MAX_MEMBER)
        return sorted((*(path / name for name in small), *others))


def write_answers(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write data_cvqa_sys.json atomically, as UTF-8 without a byte-order mark; equal rows give equal bytes."""
    write_text(path, answers_text(rows))


def answers_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the JSON list as text, one row per line."""
    return "[" + ",".join("\n" + json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows) + "\n]\n"
