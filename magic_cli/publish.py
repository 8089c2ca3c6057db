"""What `magic score --out` leaves behind: scores.json, report.json, per_item.csv and report.html."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from magic_cli import provenance, report, report_page
from magic_cli.data.gold import Gold
from magic_cli.data.prepared import MANIFEST
from magic_cli.data.staging import replace_results
from magic_cli.errors import DataError, printable, problem
from magic_cli.files import read_jsonl, refuse_existing, sha256, write_json, write_parts, write_text
from magic_cli.records import Mask
from magic_cli.submission import Submission, open_predictions

SCORES, REPORT, ITEMS, PAGE = "scores.json", "report.json", "per_item.csv", "report.html"
_AT_A_TIME = 4096  # rows
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run a cell that starts so


def publish(
    found: dict[str, Any],
    gold: Gold,
    preds: Sequence[Path],
    gold_path: Path,
    out: Path,
    run: Path | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write the report of `referee.judge` to the folder `out` and return the files.

    scores.json holds the official keys of the first system alone (those of others: scores_2.json, ...); null where
    the official scorer prints NaN or nothing. `run` is a run folder whose metrics.jsonl gives training curves.

    Raises:
        DataError: `out` is taken and `overwrite` is false, it cannot be written, or `run` has no metrics.jsonl.
    """
    refuse_existing(out, overwrite)
    history = None if run is None else _history(run)
    found["provenance"]["sha256"] = {str(path): digest(path) for path in (*preds, gold_path)}
    with replace_results(out, (REPORT, ITEMS, PAGE, "scores*.json")) as folder:
        names = [REPORT, ITEMS, PAGE]
        for number, system in enumerate(found["systems"], 1):
            names.append(SCORES if number == 1 else f"scores_{number}.json")
            write_json(folder / names[-1], report.scores(system["reports"]))
        write_json(folder / REPORT, found)
        write_parts(folder / ITEMS, items_csv(found["systems"]))
        with open_predictions(preds[0]) as first:
            write_text(folder / PAGE, report_page.html(found, gold, masks_of(first, gold), history))
        provenance.begin(out / provenance.FILE)
    return [out / name for name in names]


def _history(run: Path) -> list[Mapping[str, Any]]:
    path = run / "metrics.jsonl"
    if not path.is_file():
        raise DataError(problem(run, "no metrics.jsonl", "a folder that `magic train` wrote", "check --run"))
    rows = read_jsonl(path)
    numbers = (type(None), int, float)
    for row in rows:
        if not isinstance(row, dict) or not all(isinstance(value, numbers) for value in row.values()):
            raise DataError(problem(path, "a line of another kind", "an object of figures", "train again"))
    return rows


def items_csv(systems: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a CSV of all systems' items, part by part: images with every annotator's figures, then parent questions.

    Cells that a spreadsheet would take for a formula are preceded by an apostrophe.
    """
    import pandas as pd

    columns, rows = list(dict.fromkeys(key for row in _rows(systems) for key in row)), _rows(systems)
    yield pd.DataFrame(columns=columns).to_csv(index=False, lineterminator="\n")
    while some := [{key: _cell(value) for key, value in row.items()} for row in islice(rows, _AT_A_TIME)]:
        frame = pd.DataFrame(some, columns=columns, dtype=object)  # as they are: 3, not 3.0 where others have none
        yield frame.to_csv(index=False, header=False, lineterminator="\n")


def _rows(systems: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for system in systems:
        for one in system["reports"]:
            yield from ({"system": system["name"], "task": one["task"], **item} for item in one["items"])


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = printable(value)  # an end of a line in a cell would be one of a row
    return f"'{text}" if value.startswith(_FORMULA) else text


def digest(path: Path) -> str:
    """Return the SHA-256 of a file; of prepared/, that of its prepare.json; of a folder, that of its list of files.

    run.json, which says when and where they were made, is none of them.
    """
    if path.is_file():
        return sha256(path)
    if (path / MANIFEST).is_file():
        return sha256(path / MANIFEST)
    whole = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name != provenance.FILE):
        whole.update(os.fsencode(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n"))
    return whole.hexdigest()


def masks_of(found: Submission, gold: Gold) -> dict[str, Callable[[], Mask]]:
    """Return a reader for each photo that has a mask, of (H, W) uint8 {0, 1}; call it while `found` is open."""
    return {image: partial(_mask, found, image) for image in found.masks or {} if image in gold.images}


def _mask(found: Submission, image: str) -> Mask:
    for prediction in found.select([image]):
        if "mask" in prediction.arrays:
            return (prediction.arrays["mask"] > 0).astype(np.uint8)
    raise DataError(f"{image}: is no mask; `magic package --check-only` says more")
