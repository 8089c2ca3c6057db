"""`magic rerun run.json`: the recorded command again, into a new folder, and whether the results are the same.

A record is a file like any other, perhaps a stranger's: what it says is parsed as a command line of this program, of
one of the commands that are recorded, and never reaches a shell. Where the results go is not up to it, and nothing
that is there is replaced.
"""

import contextlib
import io
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from magic_cli import tasks
from magic_cli.commands import compare_results
from magic_cli.config import from_dict
from magic_cli.errors import DataError, SubmissionError, first_lines, printable, problem, shorten
from magic_cli.io import environment, run_record, schema
from magic_cli.io.files import read_json, sha256
from magic_cli.io.progress import is_main_process, log, track
from magic_cli.io.run_record import Place, Recorded

_MOST = 100

_SHOWN = 20

# options of a training that are settings too
_SETTLED = ("modality", "encounter_text", "lang", "finetune", "seed", "weights")


class _Plan:
    """A record that can be repeated: its command as parsed, and where the old results are."""

    def __init__(self, file: Path, commands: Mapping[str, Any]) -> None:
        self.file, self.record = file, _read(file)
        self.verb, *words = self.record["argv"]
        self.command, self.context = _parsed(file, self.verb, words, commands)
        self.options: dict[str, Any] = self.context.params
        if self.verb == "train" and self.record["settings"]:
            from_dict(tasks.config_class(self.options["task"]), self.record["settings"], f"{file}:settings")
        where = run_record.place(self.verb, self.options)
        if where is None:
            line = problem(f"{file}:argv", "a command that writes no results", "one that does", "is it a run.json?")
            raise DataError(line)
        self.folder = _folder(self.record, where, file)
        up = file.parents[len(where.file.relative_to(where.root).parts) - 1]
        self.old = Place(file, up, where.patterns)
        self.name = Path(self.options["out"]).name if self.verb == "package" else ""

    def outside(self) -> Path:
        """Return where the results go unless --out says otherwise: beside the old ones."""
        whole = self.old.root / self.name if self.name else self.old.root
        return whole.parent / f"{whole.name}.rerun"

    def prepare(self, out: Path) -> Place:
        """Set the options that differ from the recorded ones, and return where the results will be."""
        changed = {
            "out": Path(run_record.called(out / self.name)),
            "resume": False,
            "overwrite": False,
            "as_json": False,
        }
        self.options |= {name: value for name, value in changed.items() if name in self.options}
        settings = self.record["settings"]
        if self.verb == "train" and settings:  # --resume may leave them out, and presets may have changed since
            pairs = [f"{name}={value}" for name, value in settings.items() if name != "preset"]
            self.options |= {"preset": settings.get("preset", ""), "settings": pairs, **dict.fromkeys(_SETTLED)}
        found = run_record.place(self.verb, self.options)
        assert found is not None  # noqa: S101  it has an --out
        return Place(found.file.absolute(), found.root.absolute(), found.patterns)


def rerun(file: Path, out: Path | None, dry_run: bool, commands: Mapping[str, Any]) -> dict[str, Any]:
    """Repeat a recorded command and compare what comes out of it with what the record says.

    Args:
        file: a run.json, or the folder that holds it.
        out: a new folder for the results; by default OUT.rerun beside the old ones.
        dry_run: check record, inputs and weights, tell what differs here, run nothing.
        commands: of this program, by name.

    Returns:
        schemas/rerun.schema.json.

    Raises:
        DataError: no record of a finished command, inputs or pretrained weights that are missing or differ (all of
            them), or `out` is taken. MagicError: what the command itself raises.
    """
    plan = _Plan((file / run_record.FILE if file.is_dir() else file).resolve(), commands)
    target = out.absolute() if out else plan.outside()
    # of several processes, the main one makes and compares the result
    if is_main_process() and not dry_run and os.path.lexists(target):
        raise DataError(printable(f"{target}: already there, and nothing is replaced; remove it, or use another --out"))
    with contextlib.chdir(plan.folder):
        _check_inputs(plan)
        notes = list(_notes(plan))
        for note in notes:
            log(f"note: {note}")
        new = plan.prepare(target)
        found = {"record": str(plan.file), "verb": plan.verb, "out": str(target), "notes": notes}
        if dry_run:
            return found | {"identical": None, "compared": 0, "differences": []}
        code = _repeat(plan)
        unlike = list(_differences(plan, new)) if is_main_process() else []
        if code != plan.record["exit"]:
            unlike.append({"file": run_record.FILE, "what": f"exit {plan.record['exit']} then, {code} now"})
    return found | {"identical": not unlike, "compared": len(plan.record["outputs"]), "differences": unlike}


def _read(file: Path) -> dict[str, Any]:
    """Return a record of a finished command; DataError for anything else."""
    record: dict[str, Any] = read_json(file)
    lines = schema.problems("run", record, str(file))
    if lines:
        raise DataError(lines)
    if record["exit"] is None:
        remedy = "let it end first: the same command with --resume"
        raise DataError(problem(file, "a run that has not ended", "a finished one", remedy))
    if record["repeats"]:
        raise DataError(problem(file, "a rerun", "a first run", f"magic rerun {record['repeats']}"))
    return record


def _parsed(file: Path, verb: str, words: list[str], commands: Mapping[str, Any]) -> tuple[Recorded, Any]:
    """Return the command that a record names, and its options as this program reads them."""
    command, where = commands.get(verb), f"{file}:argv"
    if not isinstance(command, Recorded):
        known = " or ".join(name for name, one in commands.items() if isinstance(one, Recorded))
        raise DataError(problem(where, f"command {verb[:40]!r}", known, "is it a run.json of this program?"))
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # --help would print
            return command, command.make_context(verb, words)
    except typer.Exit:
        raise DataError(problem(where, "a question for help", "a command", "is it a run.json?")) from None
    except Exception as error:
        usage = getattr(error, "format_message", None)  # of a command line that is not understood
        if usage is None:
            raise
        got = f"what this version does not understand ({usage().rstrip('.')})"
        raise DataError(problem(where, got, "a command line", "use the version that the record names")) from None


def _folder(record: Mapping[str, Any], where: Place, file: Path) -> Path:
    """Return the working folder: what was moved or copied together with its results is found from them."""
    parts = Path(os.path.normpath(where.file)).parts
    moved = not where.file.is_absolute() and file.parts[-len(parts) :] == parts
    folder = file.parents[len(parts) - 1] if moved else Path(record["folder"])
    if not folder.is_dir():
        raise DataError(problem(file, f"folder {folder}, which is not here", "its working folder", "bring it back"))
    return folder


def _check_inputs(plan: _Plan) -> None:
    """Compare all inputs and pretrained weights with the record. Raises DataError: a line for each that differs."""
    lines = []
    for name, digest in track(list(plan.record["inputs"].items()), "inputs"):
        try:
            got = sha256(Path(name)) if Path(name).is_file() else "no such file"
        except OSError as error:
            got = f"a file that cannot be read ({error.strerror})"
        if got != digest:
            lines.append(_unlike(name, got, digest))
    checkpoints = [name for name in plan.record["inputs"] if name.endswith(".pt")]
    found = {"config": plan.record["settings"] or {}} if plan.verb == "train" else {"checkpoints": checkpoints}
    here = run_record.weights(plan.options, found) if plan.record["weights"] and not lines else {}
    for name, digest in plan.record["weights"].items() if not lines else ():
        if (got := here.get(name, "no such weights")) != digest:
            lines.append(_unlike(name, got, digest))
    if lines:
        raise DataError(first_lines(lines, plan.file, _MOST))


def _unlike(name: str, got: str, digest: str) -> str:
    seen = f"SHA-256 {got[:16]}..." if len(got) == len(digest) else got
    return problem(name, seen, f"SHA-256 {digest[:16]}... as recorded", "bring it back, or run the command anew")


def _notes(plan: _Plan) -> Iterator[str]:
    """Yield what is not as it was: versions, the program's own state, the machine, the old results."""
    record = plan.record
    for package, then in record["versions"].items():
        if (now := environment.version(package)) != then:
            yield f"{package}: {then} then, {now} now"
    if (checkout := environment.git()) != record["git"]:
        yield f"magic: {_state(record['git'])} then, {_state(checkout)} now"
    if record["machine"]["threads"]:
        import torch  # noqa: F401  machine.of asks it
    here = environment.machine(None if plan.options.get("vote") else plan.options.get("device"))
    for name, then in record["machine"].items():
        remedy = f" (OMP_NUM_THREADS={then} repeats it)" if name == "threads" else ""
        if here[name] != then:
            yield f"{name}: {then} then, {here[name]} now{remedy}"
    there = plan.old.outputs()
    changed = [name for name, digest in record["outputs"].items() if name not in there or sha256(there[name]) != digest]
    if changed:
        yield f"no longer as recorded in {plan.old.root}: {shorten(changed)}"


def _state(git: Mapping[str, Any] | None) -> str:
    return f"commit {git['commit'][:12]}{', changed' if git['changed'] else ''}" if git else "an installed version"


def _repeat(plan: _Plan) -> int:
    """Run the command and return its exit code; what it prints on stdout is not this command's answer."""
    log(printable(f"$ magic {shlex.join(plan.record['argv'])} (into {plan.options['out']})"))
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            plan.command.repeat(plan.context, plan.file)
        except typer.Exit as left:
            return int(left.exit_code)
    return 0


def _differences(plan: _Plan, new: Place) -> Iterator[dict[str, str]]:
    """Yield each file that is not the recorded one, and how it differs."""
    paths = compare_results.ResultPaths(plan.old.root, new.root, Path(plan.record["folder"]), plan.folder)
    fresh, there, recorded = new.outputs(), plan.old.outputs(), plan.record["outputs"]
    for name in track(sorted(recorded.keys() | fresh.keys()), "comparing"):
        what = ""
        if name not in fresh:
            what = "was not made again"
        elif name not in recorded:
            what = "was not there then"
        elif sha256(fresh[name]) != recorded[name]:
            kept = name in there and sha256(there[name]) == recorded[name]
            what = "other bytes; the old ones are gone"
            if kept:
                what = compare_results.difference(there[name], fresh[name], paths)
        if what:
            yield {"file": name, "what": what}


def exit_code(found: Mapping[str, Any]) -> int:
    """Return 4 where the results are not identical."""
    return SubmissionError.exit_code if found["identical"] is False else 0


def lines(found: Mapping[str, Any]) -> list[str]:
    """Return what a rerun found, for people; the last line says what comes next."""
    if found["identical"] is None:
        return [f"{found['record']}: inputs and weights are as recorded; nothing run (--dry-run)"]
    if found["identical"]:
        same = f"identical: all {found['compared']} files are as recorded in {found['record']}"
        return [same, f"{found['out']}: of no more use; it may be removed"]
    unlike = found["differences"]
    text = [f"{one['file']}: {one['what']}" for one in unlike]
    text = first_lines(text, found["out"], _SHOWN)
    return [*text, f"not identical: {len(unlike)} of {found['compared']} files differ; {found['out']} has the new ones"]
