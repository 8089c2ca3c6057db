"""run.json: which call it was, on which machine, from which inputs, and what came out of it: enough to repeat it.

OUT/run.json               of prepare, train, predict, vote and score     schemas/run.schema.json
OUT/folds/run.json         of a cross-validation
submission.zip.run.json    beside the zip of package: nothing but the submission goes into it

It comes with the results, in the same step, with their names and SHA-256 and `exit` null (`stage`), and is completed
when the call has ended (`write`). So a folder of results always has the list of them, which io/ownership.py takes as
the proof of what may be replaced. A training writes one when it starts, for `--resume` to find how it was started. It
holds ids and paths, no patient's text. commands/recording.py completes it for every verb; commands/rerun.py reads it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from magic_cli.errors import DataError, MagicError
from magic_cli.io import durations, environment
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
        outputs: names of the outputs below `root`; () for those that came with the record (`stage`).
        inputs: yields the files that were read, with their SHA-256; called once.
        settings: the resolved settings, JSON values; {} where there are none.
        weights: SHA-256 of the files of pretrained encoders.
        device: "auto", "cpu", … of a verb that computes with torch, else None.
        resumed: whether the call went on with an earlier one.
        started: the command line of that earlier one, where it is known (`started_with`).
    """

    record: Path
    root: Path
    inputs: Callable[[], Hashed]
    outputs: tuple[str, ...] = ()
    settings: Mapping[str, Json] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    device: str | None = None
    resumed: bool = False
    started: tuple[str, ...] | None = None

    def written(self) -> dict[str, Path]:
        """Return the outputs that exist, by their path below `root`, sorted."""
        names = self.outputs or _listed(self.record)
        return {name: self.root / name for name in sorted(names) if (self.root / name).is_file()}


def recorded_settings(folder: Path) -> Mapping[str, Json]:
    """Return the settings in the run.json of a folder; {} without a record that can be read."""
    row = _read(folder / FILE)
    settings = row.get("settings") if isinstance(row, dict) else None
    return settings if isinstance(settings, dict) else {}


def _listed(record: Path) -> Sequence[str]:
    """Return the names of the outputs that a record of this program lists."""
    row = _read(record)
    names = row.get("outputs") if isinstance(row, dict) else None
    return list(names) if isinstance(names, dict) else []


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
_STAGED: ContextVar[dict[Path, dict[str, object]]] = ContextVar("staged")  # by place: the records of this call


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
    """Let `start` know the call that runs in this block, and time it."""
    token, staged = _RUNNING.set(call), _STAGED.set({})
    try:
        with durations.timed():
            yield
    finally:
        _STAGED.reset(staged)
        _RUNNING.reset(token)


def beside(file: Path) -> Path:
    """Return the place of the record of a file that is the only output."""
    return file.with_name(file.name + _BESIDE)


def running_call() -> Call | None:
    """Return the call that runs, None outside of one."""
    return _RUNNING.get()


def stage(record: Path, place: Path, digests: Mapping[str, str]) -> None:
    """Write the record that comes with results, if a call is running; `write` completes it.

    Args:
        record: the file to write, in the folder in which the results are built.
        place: where it will be.
        digests: SHA-256 of the results, by their path below the root of the record.

    Raises:
        DataError: the file cannot be written.
    """
    call = _RUNNING.get()
    if call is None or not is_main_process():
        return
    before = _read(place)
    goes_on = isinstance(before, dict) and before.get("exit", 0) is None  # a training that has not ended
    files = RunFiles(place, place.parent, lambda: iter(()), started=started_with(place) if goes_on else None)
    row = _as_json(call, files, None, dict(digests))
    _STAGED.get()[place.resolve()] = row
    write_json(record, row)


def start(files: RunFiles) -> None:
    """Write the record of a run that starts, with `exit` null; a resumed run keeps the one that is there.

    Raises:
        DataError: the folder cannot be written.
    """
    call = _RUNNING.get()
    if call is not None and is_main_process() and not (files.resumed and files.record.is_file()):
        write_json(files.record, _as_json(call, files, None, {}))


def write(files: RunFiles, exit_code: int) -> None:
    """Write the record of the call that is running, which has ended; of several processes, one writes it.

    Raises:
        DataError: the record cannot be written, or another process replaced the results meanwhile.
    """
    call = _RUNNING.get()
    if call is None or not is_main_process():
        return
    staged = _STAGED.get().get(files.record.resolve()) if not files.outputs else None
    if staged is not None and _read(files.record) != staged:
        line = "other results took the place of these meanwhile; is another command writing there?"
        raise DataError(f"{files.root}: {line}")
    try:
        outputs = _digests(files) if staged is None else staged["outputs"]
        record = _as_json(call, files, exit_code, outputs)
    except OSError as error:
        reason = f"cannot be recorded ({error.strerror}: {error.filename}); is another command writing there?"
        raise DataError(f"{files.root}: {reason}") from None
    write_json(files.record, record)


def _digests(files: RunFiles) -> dict[str, str]:
    return {name: sha256(path) for name, path in files.written().items()}


def _read(record: Path) -> object:
    try:
        return read_json(record)
    except MagicError:
        return None


def _as_json(call: Call, files: RunFiles, exit_code: int | None, outputs: object) -> dict[str, object]:
    """Return schemas/run.schema.json; inputs are empty until the call has ended."""
    origin, ended = ORIGIN.get(), exit_code is not None
    return {
        "schema": SCHEMA,
        "format": "magic-run",
        "verb": call.verb,
        "arguments": dict(call.arguments),
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
        "times": durations.so_far(ended),
        "seed": files.settings.get("seed"),
        "settings": dict(files.settings) or None,
        "weights": dict(files.weights),
        "outputs": outputs,
        "inputs": {relative_name(path): digest for path, digest in files.inputs()} if ended else {},
    }


def started_with(record: Path) -> tuple[str, ...] | None:
    """Return the command line that the run of a record was first started with, None where it is not known."""
    before = _read(record)
    words = before.get("started") or before.get("argv") if isinstance(before, dict) else None
    return tuple(words) if isinstance(words, list) and all(isinstance(word, str) for word in words) else None


def unfinished_settings(record: Path) -> Mapping[str, object]:
    """Return "task" and "config" of a training that has not ended; {} where there is none, or its record says less."""
    row = _read(record)
    arguments, settings = (row.get(key) if isinstance(row, dict) else None for key in ("arguments", "settings"))
    if not (isinstance(row, dict) and isinstance(arguments, dict) and isinstance(settings, dict)):
        return {}
    if row.get("exit") is not None:
        return {}
    return {"task": arguments.get("task"), "config": settings}


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
