"""The zip to upload: checked before it is written, byte for byte reproducible, read back and compared."""

import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from magic_cli.data.prepared import MANIFEST, open_prepared
from magic_cli.errors import DataError, SubmissionError, UsageError, problem
from magic_cli.io import run_record
from magic_cli.io.files import refuse_existing, sha256, sweep, write_atomic
from magic_cli.submission.answers import read_rows
from magic_cli.submission.archive import Archive, open_archive
from magic_cli.submission.expected import Expected, expected_of
from magic_cli.submission.lint import lint
from magic_cli.submission.reader import ANSWERS, MASKS, Layout, answers_text, find_layout, mask_name, masks_in

_EPOCH = (1980, 1, 1, 0, 0, 0)

_UNIX = 3

_FILE, _FOLDER = 0o100644 << 16, 0o40755 << 16


def package(
    seg: Path | None,
    cvqa: Path | None,
    data: Path,
    split: str,
    out: Path,
    overwrite: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Build the submission of a split from predictions; nothing is written while a problem is left.

    Args:
        seg: folder (or zip) with masks_preds/ or the masks themselves; None leaves segmentation out.
        cvqa: folder with data_cvqa_sys.json, or the file; None leaves the closed questions out.
        data: the prepared dataset, which knows the split's encounters, questions and photo sizes.
        dry_run: check everything, write nothing.

    Returns:
        {"schema", "format", "out", "split", "written", "bytes", "sha256", "masks", "encounters", "notes"}; bytes
        and sha256 are None for a dry run. The same predictions give the same bytes.

    Raises:
        SubmissionError: everything that the linter found. UsageError: no predictions given.
        DataError: `out` exists or is one of the predictions, `data` is not prepared, or the split is empty.
    """
    if seg is None and cvqa is None:
        raise UsageError("package: nothing given, expected --seg DIR or --cvqa FILE_OR_DIR; run `magic predict` first")
    if not dry_run:
        refuse_existing(out, overwrite)
    if any(path is not None and path.resolve() == out.resolve() for path in (seg, cvqa)):
        raise DataError(problem(out, "predictions to pack", "another file", "choose another --out"))
    expected = expected_of(open_prepared(data, texts=False), split)
    with ExitStack() as stack:
        masks = _open(stack, seg, "masks")
        answers = _open(stack, cvqa, "answers")
        sources = [source for source in (masks, answers) if source is not None]
        _refuse([line for archive, layout in sources for line in lint(archive, expected, layout)])
        plan = _plan(masks, answers, expected)
        if not dry_run:
            sweep(out.parent)
            write_atomic(out, lambda file: _build(file, out, plan, expected))
    head = {"schema": 1, "format": "magic-package", "out": str(out), "split": split, "written": not dry_run}
    size = {"bytes": None, "sha256": None} if dry_run else {"bytes": out.stat().st_size, "sha256": sha256(out)}
    return head | size | _summary(len(plan.masks), len(plan.rows))


Source = tuple[Archive, Layout]


@dataclass(frozen=True)
class Plan:
    """What goes into the zip: parsed rows, and masks by their official name with their name in `archive`."""

    rows: Sequence[Mapping[str, Any]]
    masks: Mapping[str, str]
    archive: Archive | None

    def members(self) -> Iterator[tuple[str, bytes]]:
        """Yield (name, bytes) in the zip's order; one mask is in memory at a time."""
        yield ANSWERS, answers_text(self.rows).encode()
        if self.archive is None:
            yield f"{MASKS}/", b""
            return
        for official, name in sorted(self.masks.items()):
            with self.archive.read(name) as file:
                yield official, file.read()


def _open(stack: ExitStack, path: Path | None, kind: str) -> Source | None:
    """Open predictions of one task; the layout names this task alone."""
    if path is None:
        return None
    archive = stack.enter_context(open_archive(path))
    layout = find_layout(archive)
    layout = Layout(layout.masks, None) if kind == "masks" else Layout(None, layout.answers)
    if layout == Layout(None, None):
        expected = f"{MASKS}/*_mask_sys.tiff" if kind == "masks" else ANSWERS
        raise SubmissionError(problem(path, f"no {kind}", expected, "run `magic predict` for this task"))
    return archive, layout


def _plan(masks: Source | None, answers: Source | None, expected: Expected) -> Plan:
    """Put rows into the order of the encounters, and masks under their official names."""
    rows: Sequence[Mapping[str, Any]] = ()
    if answers is not None:
        archive, layout = answers
        place = {encounter: number for number, encounter in enumerate(expected.encounters)}
        rows = sorted(read_rows(archive, layout.answers or "", []), key=lambda row: place[row["encounter_id"]])
    if masks is None:
        return Plan(rows, {}, None)
    archive, layout = masks
    return Plan(rows, {f"{MASKS}/{mask_name(i)}": n for i, n in masks_in(archive, layout.masks or "").items()}, archive)


def _build(file: IO[bytes], out: Path, plan: Plan, expected: Expected) -> None:
    """Write the zip into `file`, then read it back through the linter before it gets its name."""
    checksums = _write(file, plan)
    file.flush()
    # the temporary file has no name of its own yet, but mkstemp opened it for reading too
    with os.fdopen(os.dup(file.fileno()), "rb") as again:
        if _checksums(again) != checksums:
            raise SubmissionError(problem(out, "other bytes than written", "the same", "check the disk"))
        with open_archive(out, again) as archive:
            _refuse(lint(archive, expected))
    run_record.begin(run_record.beside(out))


def _write(file: IO[bytes], plan: Plan) -> dict[str, int]:
    """Write the zip and return its members' checksums; its list of members, a kB each, goes when this returns."""
    checksums = {}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in plan.members():
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system, info.external_attr = _UNIX, _FOLDER if name.endswith("/") else _FILE
            info.compress_type = zipfile.ZIP_STORED if name.endswith("/") else zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
            checksums[name] = zlib.crc32(data)
    return checksums


def _checksums(file: IO[bytes]) -> dict[str, int]:
    with zipfile.ZipFile(file) as archive:
        return {info.filename: info.CRC for info in archive.infolist()}


def _refuse(lines: Sequence[str]) -> None:
    if lines:
        raise SubmissionError(lines)


def _summary(masks: int, rows: int) -> dict[str, Any]:
    notes = [] if masks else ["Segmentation is left out: the official scorer gives 0 for it."]
    notes += [] if rows else ["The closed questions are left out: the official scorer gives 0 for them."]
    return {"masks": masks, "encounters": rows, "notes": notes}


def check_submission(path: Path, data: Path | None, split: str) -> dict[str, Any]:
    """Lint a zip or folder that anybody made, as a whole submission.

    Without a prepared dataset at `data`, ids, sizes and completeness cannot be checked (a note says so).

    Returns:
        {"schema", "format", "source", "split", "masks", "encounters", "notes"} of a submission without a problem.

    Raises:
        SubmissionError: everything that the linter found.
    """
    known = data if data is not None and (data / MANIFEST).is_file() else None
    expected = expected_of(open_prepared(known, texts=False), split) if known else None
    with open_archive(path) as archive:
        _refuse(lint(archive, expected))
        layout = find_layout(archive)
        rows = read_rows(archive, layout.answers or "", [])
        found = _summary(len(masks_in(archive, layout.masks)) if layout.masks else 0, len(rows))
    if expected is None:
        found["notes"].append(
            f"{data or '--data'}: no prepared dataset, so ids, completeness and sizes were not checked."
        )
    return {"schema": 1, "format": "magic-check", "source": str(path), "split": split} | found


def summary(result: Mapping[str, Any]) -> list[str]:
    """Return what `package` or `check_submission` did, for people; the last line says what comes next."""
    held = f"{result['masks']} masks, answers for {result['encounters']} encounters"
    if "source" in result:
        return [*result["notes"], f"{result['source']}: no problem found; {held}, split {result['split']}"]
    if not result["written"]:
        return [*result["notes"], f"{result['out']}: would hold {held}; nothing written (--dry-run)"]
    size = f"{result['bytes'] / 1000:,.0f} kB, sha256 {result['sha256'][:16]}"
    checked = f"{result['out']}: {held}, split {result['split']}, {size}; checked, written, read back and checked again"
    return [*result["notes"], checked, f"next: upload {result['out']} to the challenge platform"]
