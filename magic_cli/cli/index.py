"""`magic index`: its verbs and their options, and how they become calls of commands/index.py."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from magic_cli.cli import options as opt
from magic_cli.cli.command_line import MagicCommand, MagicGroup
from magic_cli.cli.output import emit

Location = Annotated[str, typer.Argument(metavar="PLACE", help="Folder, lance:FOLDER, or http(s)://HOST:6333/NAME.")]

Splits = Annotated[list[str] | None, typer.Option("--split", help="train (default), valid or test; repeatable.")]
Limit = Annotated[int | None, typer.Option(min=1, max=1_000_000_000, help="Only the first N photos.")]
Thumbs = Annotated[bool, typer.Option("--thumbs/--no-thumbs", help="Keep small pictures for the page.")]
Model = Annotated[Path | None, typer.Option("--ckpt", metavar="FILE", help="Model of the index; default: its own.")]

_FIELDS = "What is kept of each case, by names, divided by commas; a server gets the diagnosis alone."

_REBUILD = "Build anew; the older index is searched until the new one is complete."


app = typer.Typer(
    name="index",
    cls=MagicGroup,
    help="Indexes of cases to search: build one from prepared photos, add and remove cases, show what there is.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(cls=MagicCommand)
def build(
    location: Location,
    ckpt: Annotated[Path, typer.Option(metavar="FILE", help="best.pt of `magic train retrieve` or `pretrain`.")],
    data: opt.Prepared = Path("prepared"),
    split: Splits = None,
    fields: Annotated[str, typer.Option(metavar="NAMES", help=_FIELDS)] = "",
    dtype: Annotated[Literal["float32", "float16"], typer.Option(help="float16: half the space.")] = "float32",
    thumbs: Thumbs = True,
    limit: Limit = None,
    weights: opt.Weights = None,
    device: opt.Device = "auto",
    cache_dir: opt.CacheDir = None,
    no_cache: opt.NoCache = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help=_REBUILD)] = False,
    as_json: opt.Json = False,
) -> None:
    """Encode the photos of a prepared dataset into a new index; the same call goes on where it was stopped.

    Example: `magic index build cases --ckpt runs/retrieve/best.pt`
    """
    from magic_cli.commands.cases import build as module
    from magic_cli.training.runtime import RuntimeOptions

    options = module.IndexOptions(
        splits=tuple(split or ("train",)),
        fields=tuple(filter(None, (name.strip() for name in fields.split(",")))),
        dtype=dtype,
        thumbs=thumbs,
        limit=limit,
        weights=weights,
        rebuild=rebuild,
        runtime=RuntimeOptions(device, cache_dir, no_cache),
    )
    emit(as_json, "index", module.index_build(location, ckpt, data, options))


@app.command(cls=MagicCommand)
def add(
    location: Location,
    data: opt.Prepared = Path("prepared"),
    ckpt: Model = None,
    split: Splits = None,
    thumbs: Thumbs = True,
    limit: Limit = None,
    weights: opt.Weights = None,
    device: opt.Device = "auto",
    cache_dir: opt.CacheDir = None,
    no_cache: opt.NoCache = False,
    as_json: opt.Json = False,
) -> None:
    """Encode further photos into an index; those that it has are skipped, changed ones are replaced.

    Example: `magic index add cases --data more/`
    """
    from magic_cli.commands.cases import build as module
    from magic_cli.training.runtime import RuntimeOptions

    options = module.IndexOptions(
        splits=tuple(split or ("train",)),
        thumbs=thumbs,
        limit=limit,
        weights=weights,
        runtime=RuntimeOptions(device, cache_dir, no_cache),
    )
    emit(as_json, "index", module.index_add(location, data, ckpt, options))


@app.command(cls=MagicCommand)
def remove(
    location: Location,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Cases to remove.")] = None,
    listed: Annotated[Path | None, typer.Option("--ids", metavar="FILE", help="A file of ids, one per line.")] = None,
    purge: Annotated[bool, typer.Option("--purge", help="Free their space at once: nothing of them is left.")] = False,
    as_json: opt.Json = False,
) -> None:
    """Remove cases from an index by their ids; one that it does not have is counted, and no error.

    Example: `magic index remove index IMG_0001 IMG_0002 --purge`
    """
    from magic_cli.commands import index as module

    names = [*(ids or ()), *(module.read_ids(listed) if listed is not None else ())]
    emit(as_json, "index", module.index_remove(location, names, purge))


@app.command(cls=MagicCommand)
def info(location: Location, as_json: opt.Json = False) -> None:
    """Show what an index holds: cases, vectors, the model that made them, fields and licences.

    Example: `magic index info index`
    """
    from magic_cli.commands import index as module

    emit(as_json, "index", module.index_info(location))
