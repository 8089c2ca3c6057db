"""The files of a score report: scores.json, report.json, per_item.csv, scores.tex, scores.md and report.html."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from magic_cli.data.gold import Gold, gold_files
from magic_cli.data.prepared import MANIFEST, open_prepared
from magic_cli.errors import DataError, printable, problem
from magic_cli.io.files import sha256, write_parts, write_text
from magic_cli.io.json_files import read_jsonl, write_json
from magic_cli.io.staging import replace_results
from magic_cli.records import Mask
from magic_cli.report import score_page, score_tables
from magic_cli.report.score_report import (
    ITEMS,
    LATEX,
    MARKDOWN,
    PAGE,
    REPORT,
    SCORES,
    PhotoChoice,
    ScoreReport,
    SystemScores,
)
from magic_cli.report.short_names import system_names
from magic_cli.submission.reader import Submission, open_predictions, submitted_files

_ROWS_AT_A_TIME = 4096

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would evaluate a cell that starts with one of these

Row = Mapping[str, object]


def write_report(report: ScoreReport, gold: Gold, choice: PhotoChoice = "all") -> ScoreReport:
    """Write a report to the folder `report.files.out`, and return it with its files and the digests of its inputs.

    scores.json holds the official keys of the first system, those of the others are in files with their number and
    name, as scores_2_cvqa.json; null if the official scorer prints NaN or nothing.

    Raises:
        DataError: the folder cannot be written, or `report.files.run` has no metrics.jsonl.
        ValueError: `report.files.out` is None.
    """
    files = report.files
    if files.out is None:
        raise ValueError("the report has no folder")
    history = () if files.run is None else _history(files.run)
    digests = {str(path): digest(path, submitted_files(path)) for path in files.preds}
    digests[str(files.gold)] = digest(files.gold, gold_files(files.gold))
    report = replace(report, provenance=replace(report.provenance, sha256=digests))
    names, tables = [REPORT, ITEMS, LATEX, MARKDOWN, PAGE], score_tables.score_tables(report)
    called = system_names([system.name for system in report.systems])
    with replace_results(files.out) as folder:
        for number, system in enumerate(report.systems, 1):
            names.append(SCORES if number == 1 else f"scores_{number}{_word(called[system.name])}.json")
            write_json(folder / names[-1], system.official_json())
        write_json(folder / REPORT, {"schema": 1, **report.to_json()})
        write_parts(folder / ITEMS, items_csv(report.systems))
        write_text(folder / LATEX, score_tables.latex(tables))
        write_text(folder / MARKDOWN, score_tables.markdown(tables))
        write_text(folder / PAGE, _page(report, gold, history, score_page.PagePhotos(choice, files.out)))
        if files.export:
            _write_dataset(report, gold, folder)
    return replace(report, files=replace(files, written=tuple(files.out / name for name in names)))


def _word(name: str) -> str:
    """Return a system's name as part of a file name that any system takes: "_" and its letters, or nothing."""
    plain = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")[:40]
    return f"_{plain}" if plain else ""


def _write_dataset(report: ScoreReport, gold: Gold, folder: Path) -> None:
    from magic_cli.commands.export import fiftyone

    with ExitStack() as stack:
        opened = [stack.enter_context(open_predictions(path)) for path in report.files.preds]
        masks = [masks_of(submission, gold) for submission in opened]
        fiftyone.write_dataset(report, gold, masks, folder / fiftyone.NAME)


def _page(report: ScoreReport, gold: Gold, history: Sequence[Row], photos: score_page.PagePhotos) -> str:
    """Return report.html; of a prepared dataset also with photos of cases without masks."""
    root = report.files.gold
    prepared = open_prepared(root, texts=False) if photos.choice != "none" and (root / MANIFEST).is_file() else None
    with ExitStack() as stack:
        opened = zip(report.systems, report.files.preds, strict=True)
        masks = {
            system.name: masks_of(stack.enter_context(open_predictions(path)), gold)
            for system, path in opened
            if gold.masks.images and photos.choice != "none"
        }
        return score_page.html(report, gold, masks, history, prepared, photos)


def _history(run: Path) -> Sequence[Row]:
    path = run / "metrics.jsonl"
    if not path.is_file():
        raise DataError(problem(run, "no metrics.jsonl", "a folder that `magic train` wrote", "check --run"))
    rows = read_jsonl(path)
    for row in rows:
        if not isinstance(row, dict) or not all(isinstance(value, int | float | None) for value in row.values()):
            raise DataError(problem(path, "a line of another kind", "an object of numbers", "train again"))
    return rows


def items_csv(systems: Sequence[SystemScores]) -> Iterator[str]:
    """Yield a CSV of all systems' items, part by part: images with every annotator's scores, then parent questions.

    Cells that a spreadsheet would take for a formula start with an apostrophe.
    """
    import pandas as pd

    columns = list(dict.fromkeys(key for row in _rows(systems) for key in row))
    yield pd.DataFrame(columns=columns).to_csv(index=False, lineterminator="\n")
    rows = _rows(systems)
    while block := [{key: _cell(value) for key, value in row.items()} for row in islice(rows, _ROWS_AT_A_TIME)]:
        frame = pd.DataFrame(block, columns=columns, dtype=object)  # as they are: 3, not 3.0 where others have none
        yield frame.to_csv(index=False, header=False, lineterminator="\n")


def _rows(systems: Sequence[SystemScores]) -> Iterator[Row]:
    for system in systems:
        for scores in system.tasks:
            yield from ({"system": system.name, "task": scores.task, **item} for item in scores.per_item)


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = printable(value)  # a line break in a cell would break the row
    return f"'{text}" if value.startswith(_FORMULA) else text


def digest(path: Path, files: Sequence[Path]) -> str:
    """Return the SHA-256 of a file; of prepared/, that of its prepare.json; of a folder, that of its list of files.

    Args:
        path: the file or folder.
        files: the files in the folder that are read, sorted; others may be of any size and change nothing.
    """
    if path.is_file():
        return sha256(path)
    if (path / MANIFEST).is_file():
        return sha256(path / MANIFEST)
    total = hashlib.sha256()
    for file in files:
        total.update(os.fsencode(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n"))
    return total.hexdigest()


def masks_of(submission: Submission, gold: Gold) -> dict[str, Callable[[], Mask]]:
    """Return a reader for each photo that has a mask, of (H, W) uint8 {0, 1}; call it while `submission` is open."""
    return {image: partial(_mask, submission, image) for image in submission.masks or {} if image in gold.masks.images}


def _mask(submission: Submission, image: str) -> Mask:
    for submitted in submission.submitted_masks([image]):
        if submitted.mask is not None:
            return (submitted.mask > 0).astype(np.uint8)
    raise DataError(f"{image}: is no mask; `magic package --check-only` lists why")
