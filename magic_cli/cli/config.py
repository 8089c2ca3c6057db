"""`magic config`: the settings of a task as a file, and the list of presets."""

from typing import Annotated

import typer

from magic_cli.cli import options as opt
from magic_cli.cli.output import emit

_PRESET = "Preset whose values are written: a name of --list, or FILE.toml."

_LIST = "List the presets, shipped and your own: what for, what they need, what they cost."


def config(
    task: opt.TaskOrNone = None,
    preset: Annotated[str, typer.Option(help=_PRESET)] = "small",
    list_all: Annotated[bool, typer.Option("--list", help=_LIST)] = False,
    as_json: opt.Json = False,
) -> None:
    """Print all settings of a task as a file for `magic train --config`, with their meanings and ranges.

    Example: `magic config seg > FILE`, `magic config --list`
    """
    if list_all:
        from magic_cli.commands.settings.presets import list_presets

        emit(as_json, "config", list_presets())
    elif task is None:
        raise typer.BadParameter("give a task: seg, cvqa, pretrain or retrieve; or --list")
    else:
        from magic_cli.commands.settings.config_file import config_file

        emit(as_json, "config", config_file(task, preset))
