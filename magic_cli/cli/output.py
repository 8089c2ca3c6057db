"""Print a result: one JSON object, or lines for people."""

import errno
import sys
from typing import Protocol

import typer

from magic_cli.errors import DataError, printable
from magic_cli.io.json_files import finite, json_text
from magic_cli.io.progress import discard_output, is_main_process


class Result(Protocol):
    """The interface of every verb's result."""

    def to_json(self) -> dict[str, object]:
        """Return the result as JSON."""
        ...

    def lines(self) -> list[str]:
        """Return the result for the terminal."""
        ...


def emit(as_json: bool, command: str, result: Result) -> None:
    """Print a result: one JSON object, or lines for people, the last of which names the next command."""
    if as_json:
        text = json_text(finite({"schema": 1, "command": command, **result.to_json()}))
    else:
        text = "\n".join(map(printable, result.lines()))  # ids and names of files come from data
    if is_main_process():
        print_text(text)


def print_text(text: str) -> None:
    """Write to stdout; raises DataError if that fails, as for a file on a full disk."""
    try:
        typer.echo(text)
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader closed the pipe; Typer exits quietly
            raise
        discard_output(sys.stdout)
        raise DataError(f"stdout: cannot be written ({error.strerror}); free space, or send it elsewhere") from None
