"""`magic export`: its options, and how they become those of commands/export/model.py."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from magic_cli.cli import options as opt
from magic_cli.cli.output import emit

_CKPT = "best.pt, here or in runs/TASK/, or its folder."

_HUB = "Folder to write with weights, settings and model card, as model hubs show them; nothing is sent."

_DATA = "Prepared dataset with photos to check the ONNX file on; without it, drawn ones."

_TEXT = "seg: none: the text is fixed to no text; input: its vector is an input."

_TTA = "seg: average over flipped views inside the graph, or not; default: the model's."


def export(
    ckpt: Annotated[Path, typer.Argument(metavar="CKPT", help=_CKPT)],
    onnx: Annotated[Path | None, typer.Option(metavar="FILE", help="ONNX file to write; extra `onnx`.")] = None,
    hub_folder: Annotated[Path | None, typer.Option(metavar="DIR", help=_HUB)] = None,
    data: Annotated[Path, typer.Option(help=_DATA)] = Path("prepared"),
    text: Annotated[Literal["none", "input"], typer.Option(help=_TEXT)] = "none",
    tta: Annotated[bool | None, typer.Option("--tta/--no-tta", help=_TTA)] = None,
    photos: Annotated[int, typer.Option(min=2, max=64, help="Photos to check the ONNX file on.")] = 8,
    weights: opt.Weights = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """Export a trained model: as an ONNX file, compared with torch before it is kept; as a folder for a model hub.

    Example: `magic export runs/seg/best.pt --onnx model.onnx --hub-folder hub`
    """
    from magic_cli.commands.export import model

    options = model.ExportOptions(text, tta, photos, weights, overwrite)
    emit(as_json, "export", model.export(ckpt, onnx, hub_folder, data, options))
