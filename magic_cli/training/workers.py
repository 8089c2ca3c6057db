"""Processes that load samples for a training or a prediction: what they need, how they end, how others' ends are told.

A worker hands tensors over in shared memory (/dev/shm), whose descriptors it sends through a socket in the folder of
temporary files. Where either does not work, a worker's thread prints a traceback and its batch never comes: the needs
are checked before anything is computed, and a worker that still cannot hand over a batch ends, with the reason as its
exit code.
"""

import errno
import multiprocessing.queues
import multiprocessing.util
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from magic_cli.config import Config
from magic_cli.errors import MagicError, ResourceError, problem
from magic_cli.io.launcher import as_peer_error
from magic_cli.io.progress import log_if_longer
from magic_cli.io.resources import as_resource_error
from magic_cli.io.signals import Interrupt, interruptible

RESUMES = "the same command with --resume goes on"

_SHARED = Path("/dev/shm")  # noqa: S108
_LEAST_SHARED = 1 << 20  # bytes; semaphores and one small batch
_SOCKET_NAME = len("/pymp-12345678/listener-12345678")
_SOCKET_PATH = 107 if sys.platform.startswith("linux") else 103  # bytes; sun_path of the system without its end
_PATIENCE = 60.0  # seconds
_BASE = 64  # a worker's exit code is this plus the error number; those of Python and of signals are others
_ALONE = "or load without other processes: --set workers=0"


def require_workers(config: Config) -> None:
    """Check that loading in other processes will work; with workers=0, do nothing.

    Raises:
        ResourceError: no folder for a socket with a short enough name, or no usable shared memory; one line each.
    """
    if not config.workers or sys.platform == "win32":
        return
    _use_short_folder()
    if not sys.platform.startswith("linux"):
        return
    try:
        with tempfile.TemporaryFile(dir=_SHARED) as file:
            os.posix_fallocate(file.fileno(), 0, _LEAST_SHARED)
    except OSError as error:
        reason = error.strerror if error.errno != errno.ENOSPC else "less than 1 MiB is free"
        got = f"no shared memory for {config.workers} workers ({reason})"
        remedy = f"give it space (docker run --shm-size=2g), {_ALONE}"
        raise ResourceError(problem(_SHARED, got, "a writable tmpfs", remedy)) from None


def _use_short_folder() -> None:
    """Let multiprocessing, and workers that are forked later, make their sockets in a folder with a short path."""
    longest = _SOCKET_PATH - _SOCKET_NAME
    try:
        usual = tempfile.gettempdir()
    except OSError as error:
        line = f"TMPDIR: no folder for temporary files ({error.strerror}); export TMPDIR=/tmp, {_ALONE}"
        raise ResourceError(line) from None
    if len(os.fsencode(usual)) <= longest:
        return
    for folder in ("/tmp", "/var/tmp", os.environ.get("XDG_RUNTIME_DIR", ""), str(_SHARED)):  # noqa: S108
        if folder and len(os.fsencode(folder)) <= longest and os.access(folder, os.W_OK | os.X_OK):
            with suppress(OSError):
                tempfile.tempdir = folder
                multiprocessing.util.get_temp_dir()  # made once for a process and its children, removed at its end
                return
            tempfile.tempdir = usual
    got = f"a path of {len(os.fsencode(usual))} bytes"
    remedy = f"export TMPDIR=/tmp, {_ALONE}"
    raise ResourceError(problem("TMPDIR", got, f"at most {longest} for the workers' sockets", remedy))


def start_worker(_number: int) -> None:
    """Set up a worker: Ctrl-C is the main process's, and a batch that cannot be handed over ends the worker."""
    Interrupt.ignore(_number)
    setattr(multiprocessing.queues.Queue, "_on_queue_feeder_error", staticmethod(_end_worker))  # noqa: B010  a hook


def _end_worker(error: BaseException, _batch: object) -> None:
    number = getattr(error, "errno", None) or _number_in(str(error)) or 0
    os._exit(_BASE + number if 0 < number < 190 else _BASE)


def _number_in(text: str) -> int:
    found = re.search(
        r"\((\d{1,3})\)", text
    )  # torch: "unable to allocate shared memory(shm) ...: No space left ... (28)"
    return int(found[1]) if found else errno.EMFILE if "open files" in text else 0


@contextmanager
def waiting(is_for_workers: bool) -> Iterator[None]:
    """Log a line if the block, which waits for a batch of workers, takes longer than a minute; a signal ends it."""
    if not is_for_workers:
        yield
        return
    line = f"no batch from the workers for {_PATIENCE:.0f} s: still waiting; Ctrl-C ends it, --set workers=0 loads here"
    with log_if_longer(_PATIENCE, line), interruptible():
        yield


@contextmanager
def report_ends(where: object, remedy: str, for_memory: Callable[[], str] | None = None) -> Iterator[None]:
    """Turn the errors that come of a machine's limits, or of other processes that end, into one line.

    A signal handler may raise torch's error for a dead worker at any time.

    Args:
        where: what was being written, for messages.
        remedy: what to do afterwards.
        for_memory: gives the remedy where memory ran out; None: a general one.

    Raises:
        MagicError: a worker died. ResourceError: memory, shared memory or open files did not suffice.
        PeerError: another process of a distributed run ended.
    """
    try:
        yield
    except MagicError:
        raise
    except Exception as error:
        raised = _as_magic_error(error, where, remedy, for_memory)
        if raised is None:
            raise
        raise raised from None


def _as_magic_error(
    error: Exception, where: object, remedy: str, for_memory: Callable[[], str] | None
) -> MagicError | None:
    text, kept = str(error), f"{where}: {remedy}"
    if isinstance(error, RuntimeError) and "DataLoader worker" in text and "Caught" not in text:
        code = re.search(r"exit code (\d+)", text)
        number = int(code[1]) - _BASE if code else 0
        cause = _of_worker(number) if number > 0 else RuntimeError("Bus error" if "Bus error" in text else "")
        return as_resource_error(cause, kept) or _dead(text, where, remedy)
    return as_peer_error(error, kept) or as_resource_error(error, kept, for_memory)


def _of_worker(number: int) -> OSError | RuntimeError:
    """Return the error that a worker met when it handed over a batch; without space, it was shared memory."""
    is_shared = number in (errno.ENOSPC, errno.EROFS, errno.ENOENT, errno.EACCES)
    return RuntimeError("shared memory") if is_shared else OSError(number, os.strerror(number))


def _dead(text: str, where: object, remedy: str) -> MagicError:
    got = f"the end of a data loader's process ({text.splitlines()[0].rstrip('. ')})"
    return MagicError(problem(where, got, "one that works to the end", f"free memory; {remedy}"))
