"""Options that several commands share, and their checks."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from magic_cli import __version__
from magic_cli.errors import printable


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"magic {__version__}")
        raise typer.Exit


def _task_or_none(name: str | None) -> str | None:
    return None if name is None else _task(name)


def _task(name: str) -> str:
    from magic_cli import tasks

    if name not in tasks.NAMES:
        guess = f"; did you mean {_TASK_WORDS[name]}?" if name in _TASK_WORDS else ""
        raise typer.BadParameter(f"{printable(name)!r} is not one of {', '.join(tasks.NAMES)}{guess}")
    return name


_TASK_WORDS = {
    "segmentation": "seg",
    "segment": "seg",
    "mask": "seg",
    "masks": "seg",
    "vqa": "cvqa",
    "qa": "cvqa",
    "answers": "cvqa",
    "contrastive": "pretrain",
    "pretraining": "pretrain",
    "retrieval": "retrieve",
    "search": "retrieve",
}


def _tasks(incomplete: str) -> list[str]:
    """Return the tasks that a shell completes a word to."""
    from magic_cli import tasks

    return [name for name in tasks.NAMES if name.startswith(incomplete)]


Version = Annotated[
    bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
]

Task = Annotated[
    str,
    typer.Argument(metavar="TASK", help="seg, cvqa, pretrain or retrieve.", callback=_task, autocompletion=_tasks),
]

TaskOrNone = Annotated[
    str | None,
    typer.Argument(
        metavar="TASK", help="seg, cvqa, pretrain or retrieve.", callback=_task_or_none, autocompletion=_tasks
    ),
]

Prepared = Annotated[Path, typer.Option("--data", help="Folder written by `magic prepare`.")]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing results.")]

DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, write nothing.")]

Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Where to compute.")]

_CACHE = "Folder of cached features; limit: MAGIC_CACHE_GB (20) gigabytes."

CacheDir = Annotated[Path | None, typer.Option(help=_CACHE)]

NoCache = Annotated[bool, typer.Option("--no-cache", help="Do not cache features of frozen encoders.")]

_WEIGHTS = "Folder with the Hugging Face checkpoints of presets paper and large."

Weights = Annotated[Path | None, typer.Option(help=_WEIGHTS)]

Split = Annotated[Literal["train", "valid", "test"], typer.Option(help="Split of the data.")]
