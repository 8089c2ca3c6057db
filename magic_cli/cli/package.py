"""`magic package`: its options, and how they become those of commands/package.py."""

from pathlib import Path
from typing import Annotated

import typer

from magic_cli.cli import options as opt
from magic_cli.cli.output import emit
from magic_cli.cli.usage_errors import given
from magic_cli.errors import UsageError

_OF_WRITING = ("seg", "cvqa", "out", "overwrite")


def package(
    context: typer.Context,
    seg: Annotated[Path | None, typer.Option(help="Folder of predicted masks.")] = None,
    cvqa: Annotated[Path | None, typer.Option(help="data_cvqa_sys.json, or the folder that contains it.")] = None,
    data: opt.Prepared = Path("prepared"),
    split: opt.Split = "test",
    out: Annotated[Path, typer.Option(help="The zip to upload.")] = Path("submission.zip"),
    check_only: Annotated[Path | None, typer.Option(metavar="SUBMISSION", help="Only check a zip or folder.")] = None,
    overwrite: opt.Overwrite = False,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
) -> None:
    """Check predictions for everything that the official scorer crashes on or scores as zero, then zip them.

    Example: `magic package --seg predictions/seg --cvqa predictions/cvqa --split test`
    """
    from magic_cli.commands import package as module

    if check_only is not None:
        _refuse_writing(context)
        checked = module.check_submission(check_only, data, split)
        emit(as_json, "package", checked)
        return
    packed = module.package(seg, cvqa, data, split, out, module.PackageOptions(overwrite, dry_run))
    emit(as_json, "package", packed)


def _refuse_writing(context: typer.Context) -> None:
    """Refuse options that say what is packed, and where to, beside --check-only, which would ignore them.

    Raises:
        UsageError: with those that are given.
    """
    unused = [name for name in _OF_WRITING if name in given(context)]
    if unused:
        names = ", ".join(f"--{name}" for name in unused)
        raise UsageError(f"--check-only writes nothing; leave out {names}")
