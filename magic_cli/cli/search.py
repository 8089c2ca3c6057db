"""`magic search`: its options, and how they become those of commands/search.py."""

from pathlib import Path
from typing import Annotated

import typer

from magic_cli.cli import options as opt
from magic_cli.cli.output import emit

_ATTR = "What is stated of the lesion, name=value, repeatable: --attr streaks=present."

_WHERE = "Which cases: \"age >= 40 and site in ('back', 'chest')\"."

_SERVE = "Serve a page to search with, on this computer alone, until Ctrl-C."


def search(
    image: Annotated[Path | None, typer.Option(metavar="FILE", help="The photo to compare.")] = None,
    text: Annotated[str, typer.Option(metavar="WORDS", help="What is known, in words.")] = "",
    attr: Annotated[list[str] | None, typer.Option("--attr", metavar="NAME=VALUE", help=_ATTR)] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="How many cases.")] = 10,
    where: Annotated[str, typer.Option(metavar="FILTER", help=_WHERE)] = "",
    index: Annotated[str, typer.Option(metavar="PLACE", help="Folder or address of `magic index`.")] = "index",
    beta: Annotated[
        float | None, typer.Option(min=0, max=1, help="Weight of local similarity; default: the index's own.")
    ] = None,
    ckpt: Annotated[Path | None, typer.Option(metavar="FILE", help="Model of the index; default: its own.")] = None,
    weights: opt.Weights = None,
    device: opt.Device = "auto",
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page of photos.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a table.")] = None,
    trec: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a TREC run.")] = None,
    serve: Annotated[bool, typer.Option("--serve", help=_SERVE)] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --serve; default: any that is free.")] = 0,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """Find the cases that are most like a photo and what is known in words; for comparison, not a diagnosis.

    Example: `magic search --image lesion.jpg --text "flat, on the back" --attr streaks=present --html search.html`
    """
    from magic_cli.commands import search as verb
    from magic_cli.training.runtime import RuntimeOptions

    options = verb.SearchOptions(
        image=image,
        text=text,
        attributes=tuple(attr or ()),
        index=index,
        k=k,
        where=where,
        beta=beta,
        html=html,
        csv=csv,
        trec=trec,
        ckpt=ckpt,
        weights=weights,
        overwrite=overwrite,
        runtime=RuntimeOptions(device),
    )
    if serve:
        if as_json or image is not None or text or options.files:
            raise typer.BadParameter("--serve takes photo and words on its page: leave out the query and the files")
        verb.serve_page(options, port=port)
        return
    emit(as_json, "search", verb.search(options))
