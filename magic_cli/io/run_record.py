"""run.json: what a command was, on which machine, from which inputs, and what came out of it: enough to repeat it.

OUT/run.json               of prepare, train, predict and score       schemas/run.schema.json
OUT/folds/run.json         of a cross-validation
submission.zip.run.json    beside the zip of package: nothing but the submission goes into it

It is written last: `exit` is there when the command has ended. Until then, that of a training says how it was started
(`exit` null), and an older one of another command is gone. It holds ids and paths, no patient's text.
"""

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from magic_cli.errors import DataError, MagicError
from magic_cli.io import environment
from magic_cli.io.files import each_row, read_json, sha256, write_json
from magic_cli.io.progress import is_main_process

FILE = "run.json"

_BESIDE = ".run.json"  # after the name of a file that is the only output

_FOLDS = "folds"

_OUTPUTS = {
    "prepare": ("*.json", "*.jsonl", "index.html", "mean_mask.png", "masks/*.tiff"),
    "train": ("best.pt", "metrics.jsonl", "review.json"),  # state.pt is no result
    "train folds": ("folds.json", "fold-*/best.pt", "fold-*/metrics.jsonl", "folds/*", "folds/masks_preds/*.tiff"),
    "predict seg": ("masks_preds/*.tiff",),
    "predict cvqa": ("data_cvqa_sys.json", "predictions.jsonl"),
    "score": ("scores*.json", "report.json", "per_item.csv", "report.html"),
}

Options = Mapping[str, Any]

Files = Iterator[tuple[Path, str]]  # with their SHA-256

_WORDS, _REPEATS = "magic_cli.words", "magic_cli.repeats"


@dataclass(frozen=True)
class Command:
    """A command that runs: its words as typed, its options as parsed, and the record that it repeats."""

    verb: str
    words: tuple[str, ...]
    options: Options
    repeats: str | None = None


_running: ContextVar[Command | None] = ContextVar("running", default=None)


class Recorded(TyperCommand):
    """A command whose results are recorded: while it runs, `begin` and `keep` know what was typed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as any command does, after taking down the words."""
        ctx.meta[_WORDS] = (ctx.info_name, *args)
        return list(super().parse_args(ctx, args))

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        command = Command(ctx.info_name, ctx.meta[_WORDS], ctx.params, ctx.meta.get(_REPEATS))
        token = _running.set(command)
        try:
            return super().invoke(ctx)
        finally:
            _running.reset(token)

    def repeat(self, ctx: Any, of: Path) -> Any:
        """Run the command again, as the record `of` says."""
        ctx.meta[_REPEATS] = str(of)
        with ctx:
            return self.invoke(ctx)


@dataclass(frozen=True)
class Place:
    """Where a command's record lies, and its outputs: the files below `root` that `patterns` name."""

    file: Path
    root: Path
    patterns: tuple[str, ...]

    def outputs(self) -> dict[str, Path]:
        """Return the outputs that are there, by their path below `root`, sorted."""
        found = {path for pattern in self.patterns for path in self.root.glob(pattern) if path.is_file()}
        return {path.relative_to(self.root).as_posix(): path for path in sorted(found - {self.file})}


def place(verb: str, options: Options) -> Place | None:
    """Return where a command with these options keeps its record, None where it writes nothing."""
    given = options.get("out")
    if options.get("dry_run") or options.get("check_only") or (verb == "score" and not given):
        return None
    default = Path("predictions" if verb == "predict" else "runs") / (options.get("task") or "")
    root = Path(given) if given else default
    if verb == "package":
        return Place(beside(root), root.parent, (glob.escape(root.name),))
    if options.get("folds"):
        return Place(root / _FOLDS / FILE, root, _OUTPUTS["train folds"])
    return Place(root / FILE, root, _OUTPUTS[f"predict {options['task']}" if verb == "predict" else verb])


def beside(file: Path) -> Path:
    """Return where the record of a file lies that is the only output."""
    return file.with_name(file.name + _BESIDE)


def with_record(files: list[Path], folder: Path) -> list[Path]:
    """Return the files of a result, and the record in its folder; alone, that is of a run that has not begun."""
    record = folder / FILE
    return [*files, record] if files and record.is_file() else files


def begin(file: Path) -> None:
    """Results beside the record `file` are about to be replaced: what it says of the old ones ends here.

    A training puts down how it was started, for `--resume` to find.

    Raises:
        DataError: a training's folder cannot be written.
    """
    command = _running.get()
    where = place(command.verb, command.options) if command and command.verb == "train" else None
    if not is_main_process():
        return
    if command is None or where is None:
        with suppress(OSError):  # what is wrong there is said when the results are written
            file.unlink(missing_ok=True)
    elif not (command.options["resume"] and file.is_file()):
        write_json(file, _record(command, replace(where, file=file), None, {}))


def keep(found: Options, code: int = 0) -> None:
    """Write the record of the command that ends now; of one that wrote nothing, or outside of a command, do nothing.

    Args:
        found: what the command returns; its settings and the files it names are recorded.
        code: its exit code.

    Raises:
        DataError: the record cannot be written, or another command replaced the results meanwhile.
    """
    command = _running.get()
    where = place(command.verb, command.options) if command else None
    if command and where and is_main_process():
        try:
            record = _record(command, where, code, found)
        except OSError as error:
            reason = f"cannot be recorded ({error.strerror}: {error.filename}); is another command writing there?"
            raise DataError(f"{where.root}: {reason}") from None
        write_json(where.file, record)


def _record(command: Command, where: Place, code: int | None, found: Options) -> dict[str, Any]:
    """Return schemas/run.schema.json; nothing is `found` yet where the exit code is None."""
    resumed = bool(command.options.get("resume"))
    settings = found.get("config") or found.get("settings") or {}
    outputs = where.outputs().items() if found else ()
    inputs = _INPUTS[command.verb](command.options, found) if found else ()
    return {
        "schema": 1,
        "format": "magic-run",
        "argv": list(command.words),
        "folder": str(Path.cwd()),
        "exit": code,
        "resumed": resumed,
        "started": _started(where.file) if resumed else None,
        "repeats": command.repeats,
        "git": environment.git(),
        "versions": environment.versions(),
        "machine": environment.machine(None if command.options.get("vote") else command.options.get("device")),
        "seed": settings.get("seed"),
        "settings": settings or None,
        "weights": weights(command.options, found),
        "outputs": {name: sha256(path) for name, path in outputs},
        "inputs": {called(path): digest for path, digest in inputs},
    }


def weights(options: Options, found: Options) -> dict[str, str]:
    """Return the SHA-256 of the files of all pretrained encoders that a command needs, as weights.digests does.

    Args:
        options: the command's; --weights of a prediction goes before that of its checkpoints.
        found: {"config"} of a training, {"checkpoints"} of a prediction; any other needs none.
    """
    configs = [found["config"]] if "config" in found else []
    if found.get("checkpoints"):
        from magic_cli.training.checkpoint import best_meta

        configs = [best_meta(Path(path))["config"] for path in found["checkpoints"]]
    digests: dict[str, str] = {}
    for config in configs:
        from magic_cli.models import weights

        folder = options.get("weights") or config.get("weights_dir")
        names = [str(config.get(key)) for key in ("image_encoder", "text_encoder")]
        digests |= weights.digests(names, Path(folder) if folder else None)
    return digests


def _started(file: Path) -> list[str] | None:
    """Return the words that a resumed training was started with, None where they are not known."""
    try:
        before = read_json(file)
    except MagicError:
        return None
    words = before.get("started") or before.get("argv") if isinstance(before, dict) else None
    return words if isinstance(words, list) and all(isinstance(word, str) for word in words) else None


def called(path: Path) -> str:
    """Return how a path is called in a record: relative to the working folder where it lies in it."""
    here = Path.cwd()
    return (path.relative_to(here) if path.is_relative_to(here) else path).as_posix()


def _of_prepare(options: Options, found: Options) -> Files:
    yield from ((Path(options["data"]) / name, digest) for name, digest in found["inputs"]["files"].items())
    yield from _pictures(Path(options["out"]), None, masks=True)


def _of_train(options: Options, _: Options) -> Files:
    data = Path(options["data"])
    yield from _tables(data)
    yield from _pictures(data, ("train", "valid"), masks=options["task"] == "seg")


def _of_predict(options: Options, found: Options) -> Files:
    data = Path(options["data"])
    yield from _hashed(found.get("checkpoints") or found["voted"])
    yield from _tables(data)
    yield from _pictures(data, () if "voted" in found else (options["split"],))


def _of_score(options: Options, found: Options) -> Files:
    *preds, gold = map(Path, options["files"])
    curves = Path(options["run"]) / "metrics.jsonl" if options["run"] else None
    yield from _hashed((*preds, options["against"], curves))
    seg = any(one["task"] == "seg" for system in found["systems"] for one in system["reports"])
    tables = list(_tables(gold))
    yield from tables or _hashed([gold])
    yield from _pictures(gold, (options["split"],), masks=True) if tables and seg else ()


def _of_package(options: Options, _: Options) -> Files:
    yield from _hashed((options["seg"], options["cvqa"]))
    yield from _tables(Path(options["data"]))


_INPUTS: Mapping[str, Callable[[Options, Options], Files]] = {
    "prepare": _of_prepare,
    "train": _of_train,
    "predict": _of_predict,
    "score": _of_score,
    "package": _of_package,
}


def _hashed(paths: Iterable[Any]) -> Files:
    """Yield files, and those in folders but their records; what cannot be read, or is not given, is left out."""
    for path in (Path(path) for path in paths if path):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            with suppress(OSError):
                if file.is_file() and file.name != FILE:
                    yield file, sha256(file)


def _tables(prepared: Path) -> Files:
    """Yield the files of a prepared dataset but its masks; none of another folder."""
    from magic_cli.data.prepared import CASES, IMAGES, MANIFEST, MEAN_MASK, QUESTIONS

    if (prepared / MANIFEST).is_file():
        yield from _hashed(prepared / name for name in (MANIFEST, CASES, IMAGES, QUESTIONS, MEAN_MASK))


def _pictures(prepared: Path, splits: Sequence[Any] | None, masks: bool = False) -> Files:
    """Yield the photos of splits, as `prepare` read them, and their masks; without `splits` the raw ones of all."""
    from magic_cli.data.prepared import IMAGES

    root = prepared.resolve()
    for row in each_row(prepared / IMAGES):
        if splits is None or row["split"] in splits:
            photo = Path(os.path.normpath(root / (row["path"] or ".")))
            if photo.is_file():
                yield photo, row["sha256"]
            merged = [row["mask"]] if row["mask"] and splits else []
            names = [*merged, *row["annotators"].values()] if masks else []
            yield from _hashed(os.path.normpath(root / name) for name in names)
