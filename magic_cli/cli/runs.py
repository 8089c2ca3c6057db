"""`magic runs` and `magic show`: their options, and how they become calls of commands/trainings/."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from magic_cli.cli import options as opt
from magic_cli.cli.output import emit

_FOLDERS = "Folders of trainings; default: runs/."

_TASK = "Only those of this task."

_SORT = "Newest last; by name; best first, by task; shortest first."

_COMPARE = "Write a page: curves of all in one plot, scores, settings that differ."

_CARD = "Write a model card in Markdown for a model hub; - prints it."


def runs(
    folders: Annotated[list[Path] | None, typer.Argument(metavar="[FOLDER]...", help=_FOLDERS)] = None,
    task: Annotated[Literal["seg", "cvqa", "pretrain", "retrieve"] | None, typer.Option(help=_TASK)] = None,
    sort: Annotated[Literal["date", "name", "score", "time"], typer.Option(help=_SORT)] = "date",
    compare: Annotated[Path | None, typer.Option(metavar="FILE", help=_COMPARE)] = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """List trainings: settings that were changed, best score with its interval, epochs, time; compare their curves.

    Example: `magic runs`, `magic runs --task seg --sort score --compare FILE`
    """
    from magic_cli.commands.trainings import listing

    emit(as_json, "runs", listing.runs(folders or (), task=task, sort=sort, compare=compare, overwrite=overwrite))


def show(
    checkpoint: Annotated[Path, typer.Argument(metavar="CKPT", help="best.pt, or the folder of a run.")],
    card: Annotated[Path | None, typer.Option(metavar="FILE", help=_CARD)] = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """Describe a trained model: settings, scores, data, encoders and their licences; write its model card.

    Example: `magic show runs/seg`, `magic show runs/seg --card FILE`
    """
    from magic_cli.commands.trainings import show as module

    emit(as_json, "show", module.show(checkpoint, card, overwrite=overwrite))
