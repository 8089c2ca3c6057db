"""`magic package`: write the zip to upload, reproducible byte for byte, checked before and after it is written."""

import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from magic_cli.commands.recording import recorded, refuse_empty_paths
from magic_cli.data.prepared import MANIFEST, open_prepared
from magic_cli.data.prepared_inputs import table_files
from magic_cli.errors import DataError, SubmissionError, UsageError, printable, problem
from magic_cli.io import ownership, run_record
from magic_cli.io.files import StrPath, sha256, sweep, temporary_path, write_atomic
from magic_cli.io.run_record import Hashed, RunFiles, VerbResult, hashed
from magic_cli.report.next_command import command_line, path_word
from magic_cli.submission.answers import read_rows
from magic_cli.submission.archive import Archive, open_archive
from magic_cli.submission.expected import Expected, expected_of
from magic_cli.submission.lint import lint
from magic_cli.submission.reader import (
    ANSWERS,
    MASKS,
    Layout,
    answers_text,
    find_layout,
    mask_name,
    masks_in,
    submitted_files,
)

_EPOCH = (1980, 1, 1, 0, 0, 0)

_UNIX = 3

_FILE, _FOLDER = 0o100644 << 16, 0o40755 << 16


@dataclass(frozen=True, slots=True)
class PackageOptions:
    """How `package` writes.

    Attributes:
        overwrite: replace an `out` that exists.
        dry_run: check everything, write nothing.
    """

    overwrite: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class PackageResult(VerbResult):
    """A submission that passed all checks.

    Attributes:
        out: the zip.
        split: "train", "valid" or "test".
        n_masks: number of masks in it; 0 if segmentation is left out.
        n_encounters: number of encounters with answers in it; 0 if the closed questions are left out.
        size: bytes of the zip, None for a dry run.
        sha256: hex SHA-256 of the zip, None for a dry run. The same predictions give the same bytes.
        predictions: the files and folders that were packed.
        data: the prepared dataset that they were checked against.
        asks: whether it has closed questions, as the challenge's has.
    """

    out: Path
    split: str
    n_masks: int
    n_encounters: int
    size: int | None
    sha256: str | None
    predictions: tuple[Path, ...]
    data: Path
    asks: bool = True

    @property
    def is_written(self) -> bool:
        """Whether the zip was written; not after a dry run."""
        return self.sha256 is not None

    def run_files(self) -> RunFiles | None:
        """Return what was read and written, for run.json; None after a dry run."""
        record = run_record.beside(self.out) if self.is_written else None
        return None if record is None else RunFiles(record, self.out.parent, self._inputs)

    def _inputs(self) -> Hashed:
        yield from hashed(file for path in self.predictions for file in submitted_files(path))
        yield from table_files(self.data)

    @property
    def notes(self) -> list[str]:
        """Remarks for the user: which task is left out, or that the dataset is not the challenge's."""
        if self.asks:
            return _notes(self.n_masks, self.n_encounters)
        return [f"{self.data} has no closed questions: no submission to the challenge, but masks in its layout."]

    def to_json(self) -> dict[str, object]:
        """Return what --json prints (schemas/packaged.schema.json), less "schema" and "command"."""
        head = {"format": "magic-package", "out": str(self.out), "split": self.split, "written": self.is_written}
        size = {"bytes": self.size, "sha256": self.sha256}
        return head | size | {"masks": self.n_masks, "encounters": self.n_encounters, "notes": self.notes}

    def lines(self) -> list[str]:
        """Return the result for the terminal; the last line names the next step."""
        content = _content(self.n_masks, self.n_encounters)
        if self.size is None or self.sha256 is None:
            return [*self.notes, f"{self.out}: would hold {content}; nothing written (--dry-run)"]
        size = f"{self.size / 1000:,.0f} kB, sha256 {self.sha256[:16]}"
        checked = f"{self.out}: {content}, split {self.split}, {size}; checked, written, read back and checked again"
        return [*self.notes, checked, *self._next()]

    def _next(self) -> list[str]:
        """Return what to do with the zip: the platform takes split test; how good others are can be told here."""
        if self.split != "test":
            words = ("score", path_word(self.out), path_word(self.data), "--split", self.split)
            return [f"next: {command_line(*words)} (the challenge platform takes split test)"]
        return [f"next: upload {self.out} to the challenge platform"] if self.asks else []


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A submission without a problem, as `check_submission` read it.

    Attributes:
        source: the zip or folder.
        split: "train", "valid" or "test".
        n_masks: number of masks in it.
        n_encounters: number of encounters with answers in it.
        notes: remarks for the user, such as what could not be checked.
    """

    source: Path
    split: str
    n_masks: int
    n_encounters: int
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Return what --json prints (schemas/packaged.schema.json), less "schema" and "command"."""
        head = {"format": "magic-check", "source": str(self.source), "split": self.split}
        return head | {"masks": self.n_masks, "encounters": self.n_encounters, "notes": list(self.notes)}

    def lines(self) -> list[str]:
        """Return the result for the terminal."""
        content = _content(self.n_masks, self.n_encounters)
        return [*self.notes, f"{self.source}: no problem found; {content}, split {self.split}"]


@recorded
def package(
    seg: StrPath | None = None,
    cvqa: StrPath | None = None,
    data: StrPath = "prepared",
    split: str = "test",
    out: StrPath = "submission.zip",
    options: PackageOptions = PackageOptions(),
) -> PackageResult:
    """Build the submission of a split from predictions; nothing is written unless all checks pass.

    Args:
        seg: folder (or zip) with masks_preds/ or the masks themselves; None leaves segmentation out.
        cvqa: folder with data_cvqa_sys.json, or the file; None leaves the closed questions out.
        data: the prepared dataset, with the split's encounters, questions and photo sizes.
        split: "train", "valid" or "test".
        out: the zip to write.
        options: whether `out` may be replaced, and whether anything is written.

    Raises:
        SubmissionError: all problems that the linter found. UsageError: no predictions given.
        DataError: `out` exists or is one of the predictions, `data` is not prepared, or the split is empty.
    """
    seg, cvqa = (None if path is None else Path(path) for path in (seg, cvqa))
    data, out = Path(data), Path(out)
    if not out.name:
        raise DataError(problem(f"--out {out}", "a folder", "the name of a zip", "choose another --out"))
    if seg is None and cvqa is None:
        raise UsageError("package: nothing given, expected --seg DIR or --cvqa FILE_OR_DIR; run `magic predict` first")
    predictions = tuple(path for path in (seg, cvqa) if path is not None)
    ownership.refuse_inputs(out, (), (*predictions, data))
    if not options.dry_run:
        _check_out(out, options.overwrite)
    expected = expected_of(open_prepared(data, texts=False), split)
    with ExitStack() as stack:
        masks = _open(stack, seg, "masks")
        answers = _open(stack, cvqa, "answers")
        sources = [source for source in (masks, answers) if source is not None]
        _refuse([line for archive, layout in sources for line in lint(archive, expected, layout)])
        plan = _plan(masks, answers, expected)
        if not options.dry_run:
            target = Path(os.path.realpath(out))  # a zip that is a link to another disk stays one
            sweep(target.parent)
            write_atomic(target, lambda file: _build(file, out, plan, expected), partial(_recorded, out))
    size, digest = (None, None) if options.dry_run else (out.stat().st_size, sha256(out))
    return PackageResult(
        out=out,
        split=split,
        n_masks=len(plan.masks),
        n_encounters=len(plan.rows),
        size=size,
        sha256=digest,
        predictions=predictions,
        data=data,
        asks=bool(expected.questions.slots),
    )


def _check_out(out: Path, overwrite: bool) -> None:
    """Refuse a zip to write that is a folder, or is there and may not be replaced, or whose record is somebody's file.

    Raises:
        DataError: as said.
    """
    if out.is_dir():
        raise DataError(problem(out, "a folder", "the name of a zip", "choose another --out"))
    owned = ownership.read(run_record.beside(out))
    if owned is not None and owned.kind != "package":
        line = problem(run_record.beside(out), f"a record of `magic {owned.kind}`", "none", "choose another --out")
        raise DataError(line)
    files = {} if owned is None else owned.files
    names = [name for name in files if ownership.is_file_of(out.parent, name)]
    if out.is_file() and out.is_symlink() and files.get(out.name) == sha256(out):
        names.append(out.name)
    ownership.refuse_foreign(out.parent, names, [out.name])
    if os.path.lexists(out) and not overwrite:
        raise DataError(f"{printable(out)}: already there; use --overwrite, or another --out")


@contextmanager
def _recorded(out: Path, written: Path) -> Iterator[None]:
    """Put the record of the zip that is `written` in place; after an error in the block, the older one is put back."""
    record = run_record.beside(out)
    older = temporary_path(record)
    with suppress(FileNotFoundError):
        shutil.copy2(record, older)
    try:
        run_record.stage(record, record, {out.name: sha256(written)})
        yield
    except BaseException:
        if os.path.lexists(written):  # else it took its place before the interruption, and this is its record
            if older.exists():
                older.replace(record)
            else:
                record.unlink(missing_ok=True)
        raise
    finally:
        older.unlink(missing_ok=True)


Source = tuple[Archive, Layout]


@dataclass(frozen=True)
class Plan:
    """Content of the zip: parsed rows, and for each mask's official name its name in `archive`."""

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
    """Open the predictions of one task; the returned layout leaves out those of the other task."""
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
    """Sort the rows by the split's order of encounters, and map the masks' official names."""
    rows: Sequence[Mapping[str, Any]] = ()
    if answers is not None:
        archive, layout = answers
        order = {encounter: number for number, encounter in enumerate(expected.encounters)}
        rows = sorted(read_rows(archive, layout.answers or "", []), key=lambda row: order[row["encounter_id"]])
    if masks is None:
        return Plan(rows, {}, None)
    archive, layout = masks
    names = {f"{MASKS}/{mask_name(image)}": name for image, name in masks_in(archive, layout.masks or "").items()}
    return Plan(rows, names, archive)


def _build(file: IO[bytes], out: Path, plan: Plan, expected: Expected) -> None:
    """Write the zip into `file`, read it back and lint it, before it is renamed to `out`."""
    checksums = _write(file, plan)
    file.flush()
    # read back through the open file: its name may point elsewhere by now
    with os.fdopen(os.dup(file.fileno()), "rb") as again:
        if _checksums(again) != checksums:
            raise SubmissionError(problem(out, "other bytes than written", "the same", "check the disk"))
        with open_archive(out, again) as archive:
            _refuse(lint(archive, expected))


def _write(file: IO[bytes], plan: Plan) -> dict[str, int]:
    """Write the zip and return its members' CRC-32; the writer's list of members (1 kB each) is freed on return."""
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


def _notes(n_masks: int, n_encounters: int) -> list[str]:
    notes = [] if n_masks else ["Segmentation is left out: the official scorer gives 0 for it."]
    notes += [] if n_encounters else ["The closed questions are left out: the official scorer gives 0 for them."]
    return notes


def _content(n_masks: int, n_encounters: int) -> str:
    return f"{n_masks} masks, answers for {n_encounters} encounters"


def check_submission(path: StrPath, data: StrPath | None = None, split: str = "test") -> CheckResult:
    """Lint a zip or folder, made by any program, as a whole submission.

    Args:
        path: the zip or folder.
        data: the prepared dataset. Without it, or if it is not prepared, ids, sizes and completeness cannot be
            checked (a note says so).
        split: "train", "valid" or "test".

    Raises:
        SubmissionError: all problems that the linter found. ConfigError: a path is empty.
    """
    refuse_empty_paths({"path": path, "data": data})
    path = Path(path)
    is_prepared = data is not None and (Path(data) / MANIFEST).is_file()
    expected = expected_of(open_prepared(Path(data), texts=False), split) if data is not None and is_prepared else None
    with open_archive(path) as archive:
        _refuse(lint(archive, expected))
        layout = find_layout(archive)
        n_encounters = len(read_rows(archive, layout.answers or "", []))
        n_masks = len(masks_in(archive, layout.masks)) if layout.masks else 0
    notes = _notes(n_masks, n_encounters)
    if expected is None:
        notes.append(f"{data or '--data'}: no prepared dataset, so ids, completeness and sizes were not checked.")
    return CheckResult(path, split, n_masks, n_encounters, tuple(notes))
