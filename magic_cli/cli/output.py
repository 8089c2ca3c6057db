"""Print a result: one JSON object, or lines for people."""

import errno
import sys
from collections.abc import Sequence
from typing import Any

import typer

from magic_cli.errors import DataError, printable
from magic_cli.io.files import finite, json_text
from magic_cli.io.progress import discard_output, is_main_process


def emit(as_json: bool, command: str, result: dict[str, Any], lines: Sequence[str]) -> None:
    """Print the result: one JSON object, or lines for people of which the last names the next command."""
    shown = "\n".join(map(printable, lines))  # ids and names of files come from data
    text = json_text(finite({"schema": 1, "command": command, **result})) if as_json else shown
    if is_main_process():
        print_text(text)


def print_text(text: str) -> None:
    """Write to stdout; raises DataError where that is a file on a full disk."""
    try:
        typer.echo(text)
    except OSError as error:
        if error.errno == errno.EPIPE:  # a reader that leaves early; Typer ends quietly
            raise
        discard_output(sys.stdout)
        raise DataError(f"stdout: cannot be written ({error.strerror}); free space, or send it elsewhere") from None
