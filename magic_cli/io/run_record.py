"""run.json: which call it was, on which machine, from which inputs, and what came out of it: enough to repeat it.

OUT/run.json               of prepare, train, predict, vote and score     schemas/run.schema.json
OUT/folds/run.json         of a cross-validation
submission.zip.run.json    beside the zip of package: nothing but the submission goes into it

It is written last, so `exit` says that the call has ended. A training also writes one when it starts (`exit` null),
for `--resume` to find how it was started. An older record of other results goes with them (io/staging.py). It holds
ids and paths, no patient's text. commands/recording.py writes it for every verb; commands/rerun.py reads it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from magic_cli.errors import DataError, MagicError
from magic_cli.io import environment
from magic_cli.io.arguments import Json
from magic_cli.io.files import sha256
from magic_cli.io.json_files import read_json, write_json
from magic_cli.io.progress import is_main_process

FILE = "run.json"
SCHEMA = 2
_BESIDE = ".run.json"  # after the name of a file that is the only output

Hashed = Iterator[tuple[Path, str]]  # files with their SHA-256


@dataclass(frozen=True)
class Call:
    """A call of a verb: its name and its arguments as JSON (io/arguments.py)."""

    verb: str
    arguments: Mapping[str, Json]


@dataclass(frozen=True)
class Origin:
    """Who made a call.

    Attributes:
        words: the command line, None from Python.
        repeats: the record that it repeats, None for a first run.
    """

    words: tuple[str, ...] | None = None
    repeats: Path | None = None


@dataclass(frozen=True)
class RunFiles:
    """What a verb read and wrote, as it hands it over for the record.

    Args:
        record: where the record is written.
        root: folder that the names of outputs are relative to.
        outputs: glob patterns of the outputs below `root`.
        inputs: yields the files that were read, with their SHA-256; called once.
        settings: the resolved settings, JSON values; {} where there are none.
        weights: SHA-256 of the files of pretrained encoders.
        device: "auto", "cpu", … of a verb that computes with torch, else None.
        resumed: whether the call went on with an earlier one.
        started: the command line of that earlier one, where it is known (`started_with`).
    """

    record: Path
    root: Path
    outputs: tuple[str, ...]
    inputs: Callable[[], Hashed]
    settings: Mapping[str, Json] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    device: str | None = None
    resumed: bool = False
    started: tuple[str, ...] | None = None

    def written(self) -> dict[str, Path]:
        """Return the outputs that exist, by their path below `root`, sorted."""
        paths = {path for pattern in self.outputs for path in self.root.glob(pattern) if path.is_file()}
        return {path.relative_to(self.root).as_posix(): path for path in sorted(paths - {self.record})}


class VerbResult:
    """The result of a verb."""

    __slots__ = ()

    @property
    def exit_code(self) -> int:
        """Exit code of the command."""
        return 0


@dataclass(frozen=True, kw_only=True)
class RecordedResult(VerbResult):
    """The result of a verb that made its `RunFiles` itself."""

    recorded: RunFiles | None = field(default=None, repr=False, compare=False)

    def run_files(self) -> RunFiles | None:
        """Return what was read and written, for run.json; None after a dry run."""
        return self.recorded


ORIGIN: ContextVar[Origin] = ContextVar("origin", default=Origin())  # noqa: B039  frozen
_RUNNING: ContextVar[Call | None] = ContextVar("running", default=None)


@contextmanager
def called_by(origin: Origin) -> Iterator[None]:
    """Record calls in this block as made by `origin`."""
    token = ORIGIN.set(origin)
    try:
        yield
    finally:
        ORIGIN.reset(token)


@contextmanager
def running(call: Call) -> Iterator[None]:
    """Let `start` know the call that runs in this block."""
    token = _RUNNING.set(call)
    try:
        yield
    finally:
        _RUNNING.reset(token)


def beside(file: Path) -> Path:
    """Return the place of the record of a file that is the only output."""
    return file.with_name(file.name + _BESIDE)


def with_record(files: Sequence[Path], folder: Path) -> list[Path]:
    """Return the files of a result and the record in its folder; a record alone belongs to a run that has not begun."""
    record = folder / FILE
    return [*files, record] if files and record.is_file() else list(files)


def discard_stale(record: Path) -> None:
    """Delete a record whose results are about to be replaced."""
    if is_main_process():
        with suppress(OSError):  # what is wrong with the folder is reported when the results are written
            record.unlink(missing_ok=True)


def start(files: RunFiles) -> None:
    """Write the record of a run that starts, with `exit` null; a resumed run keeps the one that is there.

    Raises:
        DataError: the folder cannot be written.
    """
    call = _RUNNING.get()
    if call is not None and is_main_process() and not (files.resumed and files.record.is_file()):
        write_json(files.record, _as_json(call, files, None))


def write(files: RunFiles, exit_code: int) -> None:
    """Write the record of the call that is running, which has ended; of several processes, one writes it.

    Raises:
        DataError: the record cannot be written, or another process replaced the results meanwhile.
    """
    call = _RUNNING.get()
    if call is None or not is_main_process():
        return
    try:
        record = _as_json(call, files, exit_code)
    except OSError as error:
        reason = f"cannot be recorded ({error.strerror}: {error.filename}); is another command writing there?"
        raise DataError(f"{files.root}: {reason}") from None
    write_json(files.record, record)


def _as_json(call: Call, files: RunFiles, exit_code: int | None) -> dict[str, object]:
    """Return schemas/run.schema.json; outputs and inputs are empty until the call has ended."""
    origin, ended = ORIGIN.get(), exit_code is not None
    return {
        "schema": SCHEMA,
        "format": "magic-run",
        "verb": call.verb,
        "arguments": call.arguments,
        "argv": None if origin.words is None else list(origin.words),
        "folder": str(Path.cwd()),
        "record": relative_name(files.record),
        "exit": exit_code,
        "resumed": files.resumed,
        "started": None if files.started is None else list(files.started),
        "repeats": None if origin.repeats is None else str(origin.repeats),
        "git": environment.git(),
        "versions": environment.versions(),
        "machine": environment.machine(files.device),
        "seed": files.settings.get("seed"),
        "settings": dict(files.settings) or None,
        "weights": dict(files.weights),
        "outputs": {name: sha256(path) for name, path in files.written().items()} if ended else {},
        "inputs": {relative_name(path): digest for path, digest in files.inputs()} if ended else {},
    }


def started_with(record: Path) -> tuple[str, ...] | None:
    """Return the command line that the run of a record was first started with, None where it is not known."""
    try:
        before = read_json(record)
    except MagicError:
        return None
    words = before.get("started") or before.get("argv") if isinstance(before, dict) else None
    return tuple(words) if isinstance(words, list) and all(isinstance(word, str) for word in words) else None


def relative_name(path: Path) -> str:
    """Return the name of a path in a record: relative to the working folder where it lies below it."""
    folder = Path.cwd()
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def hashed(paths: Iterable[Path | None]) -> Hashed:
    """Yield files, and those in folders but their records; None and what cannot be read are left out."""
    for path in paths:
        for file in sorted(path.rglob("*")) if path and path.is_dir() else [path]:
            with suppress(OSError):
                if file and file.is_file() and file.name != FILE:
                    yield file, sha256(file)
