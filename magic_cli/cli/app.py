"""The `magic` command: its verbs, one module each, and the small ones; imports no torch until a command needs it."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from magic_cli.cli import index
from magic_cli.cli import options as opt
from magic_cli.cli.command_line import MagicCommand, MagicGroup
from magic_cli.cli.config import config
from magic_cli.cli.export import export
from magic_cli.cli.output import emit
from magic_cli.cli.package import package
from magic_cli.cli.predict import predict
from magic_cli.cli.prepare import prepare
from magic_cli.cli.process import open_streams, run_and_exit
from magic_cli.cli.runs import runs, show
from magic_cli.cli.score import score
from magic_cli.cli.search import search
from magic_cli.cli.train import train
from magic_cli.io.launcher import ignore_leftovers
from magic_cli.io.progress import log
from magic_cli.io.run_record import Origin, called_by
from magic_cli.io.signals import install_handlers

app = typer.Typer(
    name="magic",
    cls=MagicGroup,
    help="Segment skin lesions and answer closed questions for MEDIQA-MAGIC 2025, from raw folder to submission.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    version: opt.Version = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Segment skin lesions and answer closed questions for MEDIQA-MAGIC 2025, from raw folder to submission."""


def rerun(
    record: Annotated[Path, typer.Argument(metavar="RUN_JSON", help="run.json of a result, or its folder.")],
    out: Annotated[Path | None, typer.Option(help="New folder; default: OUT.rerun beside the old result.")] = None,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
) -> None:
    """Repeat the call recorded in a run.json in a new folder and compare the results (exit 4 if they differ).

    Example: `magic rerun runs/cvqa/run.json`
    """
    from magic_cli.commands import rerun as module

    result = module.rerun(record, out, dry_run)
    emit(as_json, "rerun", result)
    raise typer.Exit(result.exit_code)


def demo(
    out: Annotated[Path, typer.Option(help="Folder to work in.")] = Path("magic-demo"),
    preset: Annotated[Literal["quick", "small", "tiny"], typer.Option(help="Preset of both trainings.")] = "quick",
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """Generate a small synthetic dataset and run all five verbs on it; takes minutes on a CPU.

    Example: `magic demo`
    """
    from magic_cli.commands import demo as module

    result = module.run(out, preset, overwrite)
    emit(as_json, "demo", result)


def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Also verify checksums, and query torch for devices.")] = False,
    clear_cache: Annotated[bool, typer.Option("--clear-cache", help="Remove cached features and photos.")] = False,
    cache_dir: opt.CacheDir = None,
    as_json: opt.Json = False,
) -> None:
    """Report what is installed, what is missing and how to fix it, and what the cache contains.

    Example: `magic doctor`, `magic doctor --clear-cache`
    """
    from magic_cli.commands import doctor as module

    report = module.inspect(deep, cache_dir, clear_cache)
    emit(as_json, "doctor", report)
    raise typer.Exit(report.exit_code)


_FIRST, _STEPS, _CASES, _RECORDS = "Start here", "From raw data to submission", "Similar cases", "Records"

_VERBS: list[tuple[Callable[..., None], str]] = [
    (demo, _FIRST),
    (doctor, _FIRST),
    (prepare, _STEPS),
    (config, _STEPS),
    (train, _STEPS),
    (predict, _STEPS),
    (score, _STEPS),
    (package, _STEPS),
    (search, _CASES),
    (export, "Other programs"),
    (runs, _RECORDS),
    (show, _RECORDS),
    (rerun, _RECORDS),
]

for _verb, _panel in _VERBS:
    app.command(cls=MagicCommand, rich_help_panel=_panel)(_verb)
app.add_typer(index.app, rich_help_panel=_CASES)


def _may_be_one_of_several(words: Sequence[str]) -> bool:
    """Return whether several processes may share a command: training, predicting with checkpoints, encoding cases."""
    verb = next((word for word in words if not word.startswith("-")), "")
    return verb in ("train", "index") or (verb == "predict" and "--vote" not in words)


def main() -> None:
    """Run the command line; cli/process.py says how it ends."""
    install_handlers()
    open_streams()
    note = ignore_leftovers(alone=not _may_be_one_of_several(sys.argv[1:]))
    if note:
        log(f"note: {note}")
    with called_by(Origin(tuple(word for word in sys.argv[1:] if word != "--debug"))):
        run_and_exit(app)
