"""The process of a command: standard streams, errors as lines on stderr, and exit codes (errors.py)."""

import contextlib
import errno
import os
import re
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from magic_cli.cli.output import print_text
from magic_cli.cli.usage_errors import in_words
from magic_cli.errors import ConfigError, DataError, Interrupted, MagicError, PeerError, ResourceError, printable
from magic_cli.io.json_files import json_text
from magic_cli.io.launcher import as_peer_error, launched, says_first
from magic_cli.io.progress import is_main_process, log
from magic_cli.io.resources import as_resource_error
from magic_cli.io.signals import has_raised

# Messages of the system, torch and imports name paths, sizes and devices; those of other exceptions may quote the data.
_SAFE_TO_QUOTE = (OSError, RuntimeError, MemoryError, ImportError)

_PACKAGE = Path(__file__).parents[1]

_READ_BY_TORCH = ("TORCH", "PYTORCH_", "CUDA_", "CUBLAS_", "NCCL_", "GLOO_", "OMP_", "MKL_", "KMP_", "ACCELERATE_")
_ALLOCATORS = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
_PLAIN = re.compile(r"(?:[a-z0-9_]+:[\w.]+(?:,(?=.)|$))*")  # what torch reads without ending the process
_ADVISED = ("CUDA_LAUNCH_BLOCKING", "TORCH_USE_CUDA_DSA")  # any CUDA error advises to set them

_FIRST_SPEAKS = 1.0  # seconds that the other processes leave to the first one

_INTERRUPTED = "interrupted; what was there before is kept, and nothing half done"

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

_INACCESSIBLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO}


def run_and_exit(app: Callable[..., Any]) -> NoReturn:
    """Run a Typer app on the command line and exit with its exit code; errors are one line each on stderr.

    With --json, a failure is one object on stdout too (schemas/error.schema.json); --debug adds the traceback.
    """
    debug, as_json, everywhere = "--debug" in sys.argv, "--json" in sys.argv, False
    sys.argv = [word for word in sys.argv if word != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError):  # an ASCII terminal shows \u2013, not a traceback
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = app(standalone_mode=False) or 0
        lines = [_INTERRUPTED] if code == 130 else []
    except KeyboardInterrupt:  # before Typer handles it
        code, lines = 130, [_INTERRUPTED]
    except Exception as error:
        if debug:
            traceback.print_exc()
        with contextlib.suppress(RuntimeError):  # a frame that is still running
            traceback.clear_frames(error.__traceback__)  # where memory ran out, this gives it back
        code, lines = _exit_code_and_lines(error)
        everywhere = not isinstance(error, MagicError) or isinstance(error, ResourceError | PeerError)
        if has_raised() and not isinstance(error, Interrupted):
            code, lines = 130, [_INTERRUPTED]
    for line in lines:
        _tell(line, code, everywhere)
    if as_json and lines and is_main_process():
        with contextlib.suppress(MagicError):
            print_text(json_text({"schema": 1, "exit_code": code, "errors": lines}))
    raise SystemExit(code)


def _tell(line: str, code: int, everywhere: bool) -> None:
    """Write the line of an error; of several processes, those after the first name their rank.

    What all of them find, the first one says. What only another one finds, it says a second later.
    """
    rank = launched().rank
    if rank == 0 or code == 130:
        says_first(line)
        log(line if code == 130 else f"error: {line}")
        return
    if not everywhere:
        time.sleep(_FIRST_SPEAKS)
    if everywhere or says_first(line):
        log(f"error: rank {rank}: {line}", everywhere=True)


def _exit_code_and_lines(error: Exception) -> tuple[int, list[str]]:
    """Return the exit code of an error, and its lines."""
    error = as_peer_error(error) or as_resource_error(error) or error
    if isinstance(error, OSError):  # about a path or stdout; no command handled it
        error = _as_data_error(error) or error
    if isinstance(error, MagicError):
        return error.exit_code, list(error.problems)
    usage: Callable[[], str] | None = getattr(error, "format_message", None)  # an invalid command line
    if usage is not None:
        path = getattr(getattr(error, "ctx", None), "command_path", "magic")
        if type(error).__name__ == "NoArgsIsHelpError":
            log(usage())
            return 2, [f"no command; see {path} --help"]
        line = printable(usage()).removeprefix("Invalid value: ").replace(": Value error, ", ": ").rstrip(".")
        return getattr(error, "exit_code", 2), [f"{in_words(line, error)}; see {path} --help"]
    variable = _misread_variable(error)
    if variable:
        reads = f"{variable}={os.environ[variable][:60]}"
        return 3, [f"{printable(reads)}: torch cannot be loaded with it ({type(error).__name__}); correct or unset it"]
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(_PACKAGE)]
    location = f" in {Path(frames[-1].filename).relative_to(_PACKAGE).as_posix()}:{frames[-1].lineno}" if frames else ""
    text = f": {printable(error)[:300]}" if isinstance(error, _SAFE_TO_QUOTE) and str(error) else ""
    return 1, [f"unexpected {type(error).__name__}{location}{text}; run again with --debug and report it"]


def _misread_variable(error: Exception) -> str | None:
    """Return the variable of the environment that an error of a library's import is about, None for other errors."""
    names = [name for name in os.environ if name.startswith(_READ_BY_TORCH) and name not in _ADVISED]
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    text = str(error)
    named = [name for name in names if name in text]
    if named:
        return max(named, key=len)
    logs = [name for name in names if name.startswith("TORCH_LOGS")]
    return logs[0] if logs and any("_logging" in Path(file).parts for file in files) else None


def require_loadable_torch() -> None:
    """Check that torch can be loaded: an allocator's settings that it cannot parse end the process (SIGABRT).

    Raises:
        ConfigError: a variable of the environment that holds such settings; one line each.
    """
    odd = [name for name in _ALLOCATORS if not _PLAIN.fullmatch(os.environ.get(name, ""))]
    if not odd:
        return
    import subprocess

    if subprocess.run([sys.executable, "-c", "import torch"], capture_output=True, check=False).returncode >= 0:
        return
    lines = [f"{name}={os.environ[name][:60]}: torch cannot be loaded with it; correct or unset it" for name in odd]
    raise ConfigError(lines)


def _as_data_error(error: OSError) -> DataError | None:
    """Return an OSError that the user can fix as a DataError; None for any other."""
    path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    if error.errno in _DISK_FULL:
        where = path or "stdout or a file"
        return DataError(f"{where}: cannot be written ({error.strerror}); free space, or send it elsewhere")
    if error.errno in _INACCESSIBLE and path:
        return DataError(f"{path}: cannot be used ({error.strerror}); check the path and its permissions")
    return None


def open_streams() -> None:
    """Give a process without stdin, stdout or stderr (`>&-`, some schedulers) streams to the null device.

    Otherwise the next file opened would get the closed stream's descriptor, and C libraries would write their warnings
    into it; and Python's own stream would be None.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor: `number`
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123  for the whole process
