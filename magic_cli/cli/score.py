"""`magic score`: its options, and how they become those of commands/score.py."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from magic_cli.cli import options as opt
from magic_cli.cli.output import emit

_IDENTICAL = "pretrain: in retrieval, any photo with the very same text is a hit, or its own only."

GroupIdentical = Annotated[bool, typer.Option("--group-identical/--no-group-identical", help=_IDENTICAL)]

StrictOnly = Annotated[bool, typer.Option("--strict", help="Only the strict scores; exit 4 if any item is rejected.")]

_FILES = "One or more predictions (JSON, folder or zip); gold last."

PhotosShown = Annotated[Literal["all", "worst", "none"], typer.Option("--photos", help="Photos in report.html.")]

PredsAndGold = Annotated[list[Path], typer.Argument(metavar="PRED... GOLD", help=_FILES)]

_BY = (
    "Also by subgroup: attributes of the prepared cases, label, photos, questions, or what photos show (ruler, pen,"
    " hair, corners, patch; artefact: all of these): --by sex,age,CQID011,hair."
)

_EXPORT = "Also write masks and scores as a dataset that FiftyOne reads, in OUT/fiftyone; photos are not copied."

Export = Annotated[Literal["fiftyone"] | None, typer.Option("--export", help=_EXPORT)]

By = Annotated[str | None, typer.Option(metavar="NAME[,NAME]", help=_BY)]


def score(
    files: PredsAndGold,
    split: opt.Split = "valid",
    official: Annotated[bool, typer.Option("--official", help="Only the official scores.")] = False,
    strict: StrictOnly = False,
    empty: Annotated[Literal["one", "zero", "skip"], typer.Option(help="Strict score of two empty masks.")] = "one",
    accept_255: Annotated[bool, typer.Option("--accept-255", help="Strict: read masks of 0/255 as 0/1.")] = False,
    group_identical: GroupIdentical = True,
    against: Annotated[
        Path | None, typer.Option(help="Other predictions to compare with: paired differences, p-values.")
    ] = None,
    by: By = None,
    leaderboard: Annotated[bool, typer.Option("--leaderboard", help="Show the published test-set scores.")] = False,
    resamples: Annotated[
        int, typer.Option(min=100, max=1_000_000, help="Number of bootstrap resamples and of sign flips.")
    ] = 10_000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Threads that read and score masks.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder for report.html, per_item.csv, *.json, *.tex, *.md.")] = None,
    export: Export = None,
    run: Annotated[Path | None, typer.Option(help="Run folder, for training curves in report.html.")] = None,
    photos: PhotosShown = "all",
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """Score predictions: official scores, strict scores with 95 % intervals, and trivial baselines.

    Example: `magic score preds.json gold.json`, `magic score runA.zip runB.zip prepared/ --out report`
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads cost more than they save here
    if len(files) < 2 or (official and strict):
        raise typer.BadParameter("PRED... GOLD needs two paths or more" if len(files) < 2 else "--official or --strict")
    names = tuple(filter(None, (name.strip() for name in (by or "").split(","))))
    if by is not None and not names:
        raise typer.BadParameter("--by: got no name; give attributes, such as sex,age; is a variable unset?")
    from magic_cli.commands import score as module

    *preds, gold = files
    options = module.ScoreOptions(
        split=split,
        track="official" if official else "strict" if strict else "both",
        empty=empty,
        accept_255=accept_255,
        group_identical=group_identical,
        resamples=resamples,
        workers=workers,
        against=against,
        leaderboard=leaderboard,
        out=out,
        run=run,
        photos=photos,
        overwrite=overwrite,
        export=export or "",
        by=names,
    )
    report = module.score(preds, gold, options)
    emit(as_json, "score", report)
    raise typer.Exit(report.exit_code)
