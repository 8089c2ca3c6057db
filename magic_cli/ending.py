"""How a command ends: its result on stdout, or lines on stderr, and the exit code (errors.py has the table)."""

import contextlib
import errno
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import typer

from magic_cli.errors import DataError, Interrupted, MagicError, printable
from magic_cli.files import finite, json_text
from magic_cli.interrupt import broken_off
from magic_cli.progress import log, silence, speaks

# What the system, torch and imports say names paths, sizes and devices; other exceptions quote the data.
_QUOTED = (OSError, RuntimeError, MemoryError, ImportError)
_PACKAGE = Path(__file__).parent
_INTERRUPTED = "interrupted; what was finished is kept"


def emit(as_json: bool, command: str, result: dict[str, Any], lines: Sequence[str]) -> None:
    """Print the result: one JSON object, or lines for people of which the last names the next command."""
    shown = "\n".join(map(printable, lines))  # ids and names of files come from data
    text = json_text(finite({"schema": 1, "command": command, **result})) if as_json else shown
    if speaks():
        _print(text)


def _print(text: str) -> None:
    """Write to stdout; raises DataError where that is a file on a full disk."""
    try:
        typer.echo(text)
    except OSError as error:
        if error.errno == errno.EPIPE:  # a reader that leaves early; Typer ends quietly
            raise
        silence(sys.stdout)
        raise DataError(f"stdout: cannot be written ({error.strerror}); free space, or send it elsewhere") from None


def leave(app: Callable[..., Any]) -> NoReturn:
    """Run a Typer app on the command line and leave with its exit code: one line an error on stderr.

    With --json, a failure is one object on stdout too (schemas/error.schema.json); --debug adds the traceback.
    """
    debug, as_json = "--debug" in sys.argv, "--json" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError):  # a terminal in ASCII shows \u2013 instead of a traceback
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = app(standalone_mode=False) or 0
        lines = [_INTERRUPTED] if code == 130 else []
    except KeyboardInterrupt:  # before Typer listens
        code, lines = 130, [_INTERRUPTED]
    except Exception as error:
        if debug:
            traceback.print_exc()
        code, lines = _said(error)
        if broken_off() and not isinstance(error, Interrupted):
            code, lines = 130, [_INTERRUPTED]
    for line in lines:
        log(f"error: {line}" if code != 130 else line)
    if as_json and lines and speaks():
        with contextlib.suppress(MagicError):
            _print(json_text({"schema": 1, "exit_code": code, "errors": lines}))
    raise SystemExit(code)


def _said(error: Exception) -> tuple[int, list[str]]:
    """Return the exit code of an error, and its lines."""
    if isinstance(error, MagicError):
        return error.exit_code, list(error.problems)
    usage: Callable[[], str] | None = getattr(error, "format_message", None)  # of a command line that is not understood
    if usage is not None:
        path = getattr(getattr(error, "ctx", None), "command_path", "magic")
        if type(error).__name__ == "NoArgsIsHelpError":
            log(usage())
            return 2, [f"no command; see {path} --help"]
        return getattr(error, "exit_code", 2), [f"{printable(usage()).rstrip('.')}; see {path} --help"]
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(_PACKAGE)]
    place = f" in {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    told = f": {printable(error)[:300]}" if isinstance(error, _QUOTED) and str(error) else ""
    return 1, [f"unexpected {type(error).__name__}{place}{told}; run again with --debug and report it"]
