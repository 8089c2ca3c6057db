"""`magic rerun run.json`: repeat a recorded call into a new folder and compare the results.

A record is untrusted input: its arguments are checked against the verb's own types, only
verbs that are recorded can be called, and nothing reaches a shell. The record does not decide where results go, and
nothing that exists is replaced.
"""

import contextlib
import dataclasses
import errno
import inspect
import io
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from magic_cli import tasks
from magic_cli.commands import compare_results
from magic_cli.commands.recording import Recordable, refuse_empty_paths
from magic_cli.config import Config, from_dict
from magic_cli.errors import DataError, SubmissionError, first_lines, printable, problem, shorten
from magic_cli.io import environment, run_record, schema
from magic_cli.io.arguments import Json, from_json
from magic_cli.io.files import StrPath, sha256
from magic_cli.io.json_files import read_json
from magic_cli.io.progress import is_main_process, log, track
from magic_cli.io.regular_file import binary_size, is_regular, open_regular
from magic_cli.io.run_record import ORIGIN, Origin, RunFiles, called_by, relative_name

VERBS = ("prepare", "train", "cross_validate", "predict", "vote", "score", "package")
_TRAINING = ("train", "cross_validate")
# options of a training that are settings too: the record's settings hold their values
_SETTLED = ("config", "modality", "encounter_text", "lang", "finetune", "seed", "weights")
_MOST = 100
_MOST_BYTES = 1 << 26  # of a record
_SHOWN = 20
_LARGEST = 1 << 36  # bytes of an input, as of a zip that is unpacked
_LARGEST_OF_HOLES = 1 << 30
_LONGEST_NAME = 200  # bytes; the record beside the zip has a longer name


@dataclass(frozen=True)
class Checkout:
    """State of the git checkout that a program ran from."""

    commit: str
    changed: bool


@dataclass(frozen=True)
class RunRecord:
    """A run.json of a call that has ended, as `_read` checked it; see schemas/run.schema.json."""

    verb: str
    arguments: Mapping[str, Json]
    argv: Sequence[str] | None
    folder: Path
    record: Path
    exit_code: int
    git: Checkout | None
    versions: Mapping[str, str]
    machine: Mapping[str, Json]
    settings: Mapping[str, Json]
    weights: Mapping[str, str]
    outputs: Mapping[str, str]
    inputs: Mapping[str, str]


def _read(file: Path) -> RunRecord:
    """Read a record.

    Raises:
        DataError: it is none, belongs to an older version, to a call that has not ended, or to a rerun.
    """
    try:
        row = read_json(file, _MOST_BYTES)
    except DataError:
        if file.name.endswith(run_record.FILE) or not (is_regular(file) and os.access(file, os.R_OK)):
            raise
        row = None
    if not (isinstance(row, dict) and (row.get("format") == "magic-run" or row.get("verb") in VERBS)):
        raise DataError(problem(file, "no record of a magic call", "the run.json beside a result", "give that"))
    if (row.get("format"), row.get("schema")) == ("magic-run", 1):
        raise DataError(problem(file, "a record of an older version", "one of this version", "run the command again"))
    lines = schema.problems("run", row, str(file))
    if lines:
        raise DataError(lines)
    if row["exit"] is None:
        goes_on = row["verb"] in _TRAINING
        remedy = "let it end first: the same command with --resume" if goes_on else "run the command again"
        raise DataError(problem(file, "a run that has not ended", "a finished one", remedy))
    if row["repeats"]:
        raise DataError(problem(file, "a rerun", "a first run", f"magic rerun {row['repeats']}"))
    return RunRecord(
        verb=row["verb"],
        arguments=row["arguments"],
        argv=row["argv"],
        folder=Path(row["folder"]),
        record=Path(os.path.normpath(row["record"])),
        exit_code=row["exit"],
        git=None if row["git"] is None else Checkout(**row["git"]),
        versions=row["versions"],
        machine=row["machine"],
        settings=row["settings"] or {},
        weights=row["weights"],
        outputs=row["outputs"],
        inputs=row["inputs"],
    )


@dataclass(frozen=True)
class RerunResult:
    """Whether a recorded call gave the same results again.

    Attributes:
        record: the record that was repeated.
        verb: name of the verb.
        out: the new results.
        notes: what has changed since, besides the results: versions, the machine, the old results.
        compared: number of recorded outputs.
        differences: by file, what differs; empty where all are identical; None after a dry run.
    """

    record: Path
    verb: str
    out: Path
    notes: tuple[str, ...]
    compared: int = 0
    differences: Mapping[str, str] | None = None

    @property
    def identical(self) -> bool | None:
        """Whether all outputs are identical; None after a dry run."""
        return None if self.differences is None else not self.differences

    @property
    def exit_code(self) -> int:
        """4 where results differ, else 0."""
        return SubmissionError.exit_code if self.identical is False else 0

    def to_json(self) -> dict[str, object]:
        """Return what --json prints (schemas/rerun.schema.json), less "schema" and "command"."""
        rows = [{"file": name, "what": what} for name, what in (self.differences or {}).items()]
        head = {"record": str(self.record), "verb": self.verb, "out": str(self.out), "notes": list(self.notes)}
        return head | {"identical": self.identical, "compared": self.compared, "differences": rows}

    def lines(self) -> list[str]:
        """Return the result for the terminal; the last line says what to do next."""
        if self.differences is None:
            return [f"{self.record}: inputs and weights are as recorded; nothing run (--dry-run)"]
        if self.identical:
            same = f"identical: all {self.compared} files are as recorded in {self.record}"
            return [same, f"{self.out}: safe to delete"]
        text = first_lines([f"{name}: {what}" for name, what in self.differences.items()], self.out, _SHOWN)
        number = f"{len(self.differences)} of {self.compared} files differ"
        return [*text, f"not identical: {number}; {self.out} has the new ones"]


class _Plan:
    """A record that can be repeated: the verb, its arguments, and where the old results are."""

    def __init__(self, file: Path) -> None:
        self.file, self.record = file, _read(file)
        self.verb = self.record.verb
        if self.verb not in VERBS:
            known = " or ".join(VERBS)
            raise DataError(problem(f"{file}:verb", repr(self.verb[:40]), known, "is it a run.json of this program?"))
        module = import_module(f"magic_cli.commands.{self.verb}")
        self.function: Callable[..., Recordable] = getattr(module, self.verb)
        self.arguments = from_json(self.function, self.record.arguments, f"{file}:arguments")
        default = inspect.signature(self.function).parameters["options"].default
        self.options: Any = self.arguments.setdefault("options", default)
        self.config: Config | None = None  # what is newer than the record has its default, which changes nothing
        if self.verb in _TRAINING and self.record.settings:
            config = _config_class(file, str(self.arguments["task"]))
            self.config = from_dict(config, self.record.settings, f"{file}:settings")
        self.folder = _folder(self.record, file)
        self.old_root = file.parents[1] if self.verb == "cross_validate" else file.parent
        self.name = _zip_name(self.arguments, file) if self.verb == "package" else ""

    def default_out(self) -> Path:
        """Return where the results go unless --out says otherwise: beside the old ones."""
        old_result = self.old_root / self.name if self.name else self.old_root
        return old_result.parent / f"{old_result.name}.rerun"

    def redirect(self, out: Path) -> None:
        """Change the arguments that must differ from the recorded ones: the output, overwrite, resume and dry run."""
        new = relative_name(out / self.name)
        changes: dict[str, object] = {"resume": False, "overwrite": False, "dry_run": False, "log": ()}
        if self.verb == "score":
            changes["out"] = new
        else:
            self.arguments["out"] = new
        if self.config is not None:  # --resume may leave them out, and presets may have changed since
            values = {name: value for name, value in self.config.as_dict().items() if name != "preset"}
            changes |= {"preset": self.config.preset, "settings": values, **dict.fromkeys(_SETTLED)}
        names = {field.name for field in dataclasses.fields(self.options)}
        self.options = dataclasses.replace(self.options, **{k: v for k, v in changes.items() if k in names})
        self.arguments["options"] = self.options


def rerun(record: StrPath, out: StrPath | None = None, dry_run: bool = False) -> RerunResult:
    """Repeat a recorded call and compare its results with what the record says.

    Args:
        record: a run.json, or the folder that holds it.
        out: a new folder for the results; by default OUT.rerun beside the old ones.
        dry_run: check record, inputs and weights, note what differs here, run nothing.

    Raises:
        DataError: no record of a finished call, inputs or pretrained weights that are missing or differ (all of
            them), or `out` exists. ConfigError: a path is empty. MagicError: what the verb itself raises.
    """
    refuse_empty_paths({"record": record, "out": out})
    file = Path(record)
    plan = _Plan((file / run_record.FILE if file.is_dir() else file).resolve())
    target = plan.default_out() if out is None else _target(out)
    is_in_the_way = os.path.lexists(target) and (out is not None or not dry_run)
    if is_main_process() and is_in_the_way:  # the first of several processes makes it
        raise DataError(printable(f"{target}: already exists, and nothing is replaced; use another --out"))
    with contextlib.chdir(plan.folder):
        _check_inputs(plan)
        notes = tuple(_notes(plan))
        for note in notes:
            log(f"note: {note}")
        if dry_run:
            return RerunResult(plan.file, plan.verb, target, notes)
        plan.redirect(target)
        result = _repeat(plan)
        files = result.run_files()
        differences = dict(_differences(plan, files)) if files is not None and is_main_process() else {}
        if result.exit_code != plan.record.exit_code:
            differences[run_record.FILE] = f"exit {plan.record.exit_code} then, {result.exit_code} now"
    return RerunResult(plan.file, plan.verb, target, notes, len(plan.record.outputs), differences)


def _target(out: StrPath) -> Path:
    """Return where results go that the user wants elsewhere; nothing is written through a link.

    Raises:
        DataError: it is no name of a folder, or a link leads to its place.
    """
    target = Path(out)
    if target.name in ("", "..") or "\0" in target.name:
        raise DataError(problem(f"--out {out}", "no name of a new folder", "one", "choose another --out"))
    named = [target.parent, *([] if target.is_absolute() else target.parent.parents)]
    for folder in named:
        if folder.is_symlink():
            raise DataError(problem(folder, "a link to another folder", "a folder", "choose another --out"))
    return target.absolute()


def _zip_name(arguments: Mapping[str, object], file: Path) -> str:
    """Return the name of the zip that a call of package wrote; one that leads elsewhere is refused."""
    out = str(arguments.get("out", "submission.zip"))
    name = Path(out).name
    if name in ("", "..") or "\0" in name or len(os.fsencode(name)) > _LONGEST_NAME:
        raise DataError(problem(f"{file}:arguments:out", "no name of a file", "one", "is it a run.json?"))
    return name


def _config_class(file: Path, task: str) -> type[Config]:
    if task not in tasks.NAMES:
        raise DataError(
            problem(f"{file}:arguments:task", repr(task[:40]), " or ".join(tasks.NAMES), "is it a run.json?")
        )
    return tasks.config_class(task)


def _folder(record: RunRecord, file: Path) -> Path:
    """Return the working folder; if it was moved or copied with its results, it is located from the record's path."""
    parts = record.record.parts
    moved = not record.record.is_absolute() and file.parts[-len(parts) :] == parts
    folder = file.parents[len(parts) - 1] if moved else record.folder
    if not folder.is_dir():
        raise DataError(problem(file, f"folder {folder}, which does not exist", "its working folder", "restore it"))
    return folder


def _check_inputs(plan: _Plan) -> None:
    """Compare all inputs and pretrained weights with the record. Raises DataError: a line for each that differs."""
    lines = []
    for name, digest in track(list(plan.record.inputs.items()), "inputs"):
        try:
            got = _digest(Path(name))
        except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a null byte in the name
            got = "no such file"
        except OSError as error:
            got = f"a file that cannot be read ({error.strerror})"
        if got != digest:
            lines.append(_unlike(name, got, digest))
    weights = _weights(plan) if plan.record.weights and not lines else {}
    for name, digest in plan.record.weights.items() if not lines else ():
        if (got := weights.get(name, "no such weights")) != digest:
            lines.append(_unlike(name, got, digest))
    if lines:
        raise DataError(first_lines(lines, plan.file, _MOST))


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file that a record names, which may be any file of this machine.

    Raises:
        OSError: the file cannot be read without waiting, or is larger than any that a command reads or writes; a
            terabyte of holes, which takes no room on the disk, would take an hour to read.
    """
    with open_regular(path) as file:
        status = os.fstat(file.fileno())
        on_disk = getattr(status, "st_blocks", status.st_size) * 512
        if status.st_size > _LARGEST or (status.st_size > _LARGEST_OF_HOLES and on_disk < status.st_size // 8):
            raise OSError(errno.EFBIG, f"{binary_size(status.st_size)}, more than any that is read", str(path))
    return sha256(path)


def _weights(plan: _Plan) -> dict[str, str]:
    """Return the SHA-256 of the pretrained encoders that the call would load now."""
    from magic_cli.models.weights import encoder_digests

    folder = getattr(plan.options, "weights", None)
    if plan.verb in _TRAINING:
        return encoder_digests([plan.record.settings], folder)
    from magic_cli.training.checkpoint import best_meta

    return encoder_digests([best_meta(Path(n))["config"] for n in plan.record.inputs if n.endswith(".pt")], folder)


def _unlike(name: str, got: str, digest: str) -> str:
    seen = f"SHA-256 {got[:16]}..." if len(got) == len(digest) else got
    return problem(name, seen, f"SHA-256 {digest[:16]}... as recorded", "restore it, or run the command again")


def _notes(plan: _Plan) -> Iterator[str]:
    """Yield what has changed since: versions, the program's commit, the machine, the old results."""
    record = plan.record
    for package, then in record.versions.items():
        if (now := environment.version(package)) != then:
            yield f"{package}: {then} then, {now} now"
    if (checkout := _checkout()) != record.git:
        yield f"magic: {_state(record.git)} then, {_state(checkout)} now"
    if record.machine["threads"]:
        import torch  # noqa: F401  environment.machine reads from it
    runtime = getattr(plan.options, "runtime", None) if record.machine["threads"] else None
    machine = environment.machine(None if runtime is None else runtime.device)
    for name, recorded in record.machine.items():
        remedy = f" (OMP_NUM_THREADS={recorded} repeats it)" if name == "threads" else ""
        if machine[name] != recorded:
            yield f"{name}: {recorded} then, {machine[name]} now{remedy}"
    changed = [name for name, digest in record.outputs.items() if _old_digest(plan, name) != digest]
    if changed:
        yield f"no longer as recorded in {plan.old_root}: {shorten(changed)}"


def _old_digest(plan: _Plan, name: str) -> str:
    """Return the SHA-256 of an old output, "" if it is gone or its name leads outside the results."""
    path = plan.old_root / name
    try:
        inside = path.resolve().is_relative_to(plan.old_root.resolve())
        return _digest(path) if inside and path.is_file() else ""
    except (OSError, ValueError):  # no name of a file: too long, or with a null byte
        return ""


def _checkout() -> Checkout | None:
    state = environment.git()
    return None if state is None else Checkout(str(state["commit"]), bool(state["changed"]))


def _state(git: Checkout | None) -> str:
    return f"commit {git.commit[:12]}{', changed' if git.changed else ''}" if git else "an installed version"


def _repeat(plan: _Plan) -> Recordable:
    """Call the verb and return its result; its stdout is discarded."""
    words = shlex.join(plan.record.argv) if plan.record.argv else f"{plan.verb}(…), as called from Python"
    log(printable(f"$ magic {words} (into {plan.arguments.get('out') or plan.options.out})"))
    origin = Origin(ORIGIN.get().words, plan.file)
    with called_by(origin), contextlib.redirect_stdout(io.StringIO()):
        return plan.function(**plan.arguments)


def _differences(plan: _Plan, files: RunFiles) -> Iterator[tuple[str, str]]:
    """Yield each file that differs from the recorded one, and how."""
    root = files.root.absolute()
    places = compare_results.ResultPaths(plan.old_root, root, plan.record.folder, plan.folder)
    fresh, recorded = files.written(), plan.record.outputs
    for name in track(sorted(recorded.keys() | fresh.keys()), "comparing"):
        if name not in fresh:
            yield name, "was not made again"
        elif name not in recorded:
            yield name, "was not there then"
        elif sha256(fresh[name]) != recorded[name]:
            if _old_digest(plan, name) != recorded[name]:
                yield name, "other bytes; the old ones are gone"
            elif what := compare_results.difference(plan.old_root / name, fresh[name], places):
                yield name, what
