"""`magic index`: its verbs and their options, and how they become calls of commands/index.py."""

from pathlib import Path
from typing import Annotated

import typer

from magic_cli.cli import options as opt
from magic_cli.cli.output import emit
from magic_cli.cli.process import MagicGroup

Location = Annotated[str, typer.Argument(metavar="PLACE", help="Folder, lance:FOLDER, or http(s)://HOST:6333/NAME.")]

app = typer.Typer(
    name="index",
    cls=MagicGroup,
    help="Indexes of cases to search: remove cases, and show what there is.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
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


@app.command()
def info(location: Location, as_json: opt.Json = False) -> None:
    """Show what an index holds: cases, vectors, the model that made them, fields and licences.

    Example: `magic index info index`
    """
    from magic_cli.commands import index as module

    emit(as_json, "index", module.index_info(location))
