"""Options that commands share, or that are too long to read among others."""

from pathlib import Path
from typing import Annotated

import typer

from magic_cli.errors import printable


def _task(name: str) -> str:
    from magic_cli import tasks

    if name not in tasks.NAMES:
        raise typer.BadParameter(f"{printable(name)!r} is not one of {', '.join(tasks.NAMES)}")
    return name


Task = Annotated[str, typer.Argument(metavar="TASK", help="seg or cvqa.", callback=_task)]
Prepared = Annotated[Path, typer.Option("--data", help="Folder that `magic prepare` wrote.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, write nothing.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
CacheDir = Annotated[Path | None, typer.Option(help="Folder of cached features; MAGIC_CACHE_GB (20) limits it.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Encode anew instead of keeping frozen features.")]
Weights = Annotated[Path | None, typer.Option(help="Folder with the Hugging Face checkpoints of preset paper.")]
Split = Annotated[str, typer.Option(help="train, valid or test.")]
Tune = Annotated[str | None, typer.Option(help="What learns beside the head: head (nothing), last, all or lora.")]
_CUT = "seg: lesion lies above it; default: the checkpoint's own."
Threshold = Annotated[float | None, typer.Option(min=0.001, max=0.999, help=_CUT)]
Largest = Annotated[bool, typer.Option("--largest", help="seg: keep the largest region only.")]
FillHoles = Annotated[bool, typer.Option("--fill-holes", help="seg: fill holes in lesions.")]
_QUERY = typer.Option("--encounter-text/--no-encounter-text", help="cvqa, head options: read the query.")
EncounterText = Annotated[bool | None, _QUERY]
StrictOnly = Annotated[bool, typer.Option("--strict", help="Only strict figures; exit 4 if an item is refused.")]
_FILES = "Predictions (JSON, folder or zip), one or several; gold last."
PredsAndGold = Annotated[list[Path], typer.Argument(metavar="PRED... GOLD", help=_FILES)]
