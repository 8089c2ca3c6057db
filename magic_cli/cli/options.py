"""Options that several commands share, and their checks."""

from pathlib import Path
from typing import Annotated

import typer

from magic_cli import __version__
from magic_cli.errors import printable


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"magic {__version__}")
        raise typer.Exit


def _task(name: str) -> str:
    from magic_cli import tasks

    if name not in tasks.NAMES:
        raise typer.BadParameter(f"{printable(name)!r} is not one of {', '.join(tasks.NAMES)}")
    return name


Version = Annotated[
    bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
]

Task = Annotated[str, typer.Argument(metavar="TASK", help="seg, cvqa, pretrain or retrieve.", callback=_task)]

Prepared = Annotated[Path, typer.Option("--data", help="Folder written by `magic prepare`.")]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing results.")]

DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, write nothing.")]

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]

CacheDir = Annotated[Path | None, typer.Option(help="Folder of cached features; limit: MAGIC_CACHE_GB (20) gigabytes.")]

NoCache = Annotated[bool, typer.Option("--no-cache", help="Do not cache features of frozen encoders.")]

Weights = Annotated[
    Path | None, typer.Option(help="Folder with the Hugging Face checkpoints of presets paper and large.")
]

Split = Annotated[str, typer.Option(help="train, valid or test.")]
