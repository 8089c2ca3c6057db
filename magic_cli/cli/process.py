"""The process of a command: its streams, its result on stdout or lines on stderr, and its exit code (errors.py)."""

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from typer.core import TyperGroup

from magic_cli.cli.output import print_text
from magic_cli.errors import DataError, Interrupted, MagicError, printable
from magic_cli.io.files import json_text
from magic_cli.io.progress import is_main_process, log
from magic_cli.io.signals import has_raised

# What the system, torch and imports say names paths, sizes and devices; other exceptions quote the data.
_QUOTED = (OSError, RuntimeError, MemoryError, ImportError)

_PACKAGE = Path(__file__).parents[1]

_INTERRUPTED = "interrupted; what was finished is kept"

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

_NO_WAY = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO}


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
        code, lines = _exit_code_and_lines(error)
        if has_raised() and not isinstance(error, Interrupted):
            code, lines = 130, [_INTERRUPTED]
    for line in lines:
        log(f"error: {line}" if code != 130 else line)
    if as_json and lines and is_main_process():
        with contextlib.suppress(MagicError):
            print_text(json_text({"schema": 1, "exit_code": code, "errors": lines}))
    raise SystemExit(code)


def _exit_code_and_lines(error: Exception) -> tuple[int, list[str]]:
    """Return the exit code of an error, and its lines."""
    if isinstance(error, OSError):  # of a path or of stdout, that no command handled
        error = _as_data_error(error) or error
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
    place = f" in {Path(frames[-1].filename).relative_to(_PACKAGE).as_posix()}:{frames[-1].lineno}" if frames else ""
    text = f": {printable(error)[:300]}" if isinstance(error, _QUOTED) and str(error) else ""
    return 1, [f"unexpected {type(error).__name__}{place}{text}; run again with --debug and report it"]


class Commands(TyperGroup):
    """All commands; they need a working folder that exists, as every path begins there."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; raises DataError if the working folder was removed."""
        try:
            Path.cwd()
        except OSError as error:
            line = f"the working folder cannot be used ({error.strerror}); cd to a folder that is there"
            raise DataError(line) from None
        return super().invoke(ctx)


def _as_data_error(error: OSError) -> DataError | None:
    """Return the error for what the user can fix, None for what only a programmer can."""
    place = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    if error.errno in _NO_ROOM:
        where = place or "stdout or a file"
        return DataError(f"{where}: cannot be written ({error.strerror}); free space, or send it elsewhere")
    if error.errno in _NO_WAY and place:
        return DataError(f"{place}: cannot be used ({error.strerror}); check the path and its permissions")
    return None


def open_streams() -> None:
    """Give a process without stdin, stdout or stderr (`>&-`, some schedulers) streams that lead nowhere.

    Otherwise the next file that is opened gets the number of the one that is closed, and warnings of C libraries go
    into it; and Python has None in place of the stream.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123  for the whole process
