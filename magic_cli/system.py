"""What the system refuses to any command: a path that may not be entered, a stream or a working folder that is gone."""

import errno
import os
import sys
from pathlib import Path
from typing import Any

from typer.core import TyperGroup

from magic_cli.errors import DataError, MagicError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_WAY = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO}


class Commands(TyperGroup):
    """All commands. Paths are asked for in a hundred places, and a path that nobody may enter fails in the first."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command line. Raises DataError for what the system says of a path or of stdout."""
        try:
            return super().main(*args, **options)
        except OSError as error:
            known = _refused(error)
            if known is None:
                raise
            raise known from error

    def invoke(self, ctx: Any) -> Any:
        """Run a command. Raises DataError where the working folder was removed: every path begins there."""
        try:
            Path.cwd()
        except OSError as error:
            line = f"the working folder cannot be used ({error.strerror}); cd to a folder that is there"
            raise DataError(line) from None
        return super().invoke(ctx)


def _refused(error: OSError) -> MagicError | None:
    """Return what the user can mend, None for what only a programmer can."""
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
