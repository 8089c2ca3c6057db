"""Errors that mean that the machine does not suffice: memory, shared memory, open files, threads, processes.

The system, Python, numpy, torch, CUDA and the C++ library each say so with an exception of their own.
"""

import errno
import os
import re
from collections.abc import Callable

from magic_cli.errors import ResourceError, printable

_MEMORY = "use less at a time (a smaller --set batch_size= or image_size=, --set workers=0), or allow more memory"
_OF_A_LIBRARY = "allow this process more memory (ulimit -v, the memory of a batch job): torch maps up to 4 GB"
_OF_THE_GPU = "use less at a time (a smaller --set batch_size= or image_size=), another GPU, or --device cpu"
_SHARED = "give /dev/shm more space (docker run --shm-size=2g), or load without it: --set workers=0"
_FILES = "allow more (ulimit -n 4096), or load without other processes: --set workers=0"
_PROCESSES = "allow more (ulimit -u, the memory of a batch job), or ask for fewer: OMP_NUM_THREADS=1, --set workers=0"

# how the message of an exception tells what ran out; the first that fits
_PATTERNS = {
    "memory of the GPU": r"(CUDA|MPS).*out of memory|CUDA_ERROR_OUT_OF_MEMORY|CUBLAS_STATUS_ALLOC_FAILED",
    "shared memory": r"shared memory|/dev/shm|shm_open|Bus error|torch_\d+_\d+",
    "open files": r"too many open files|items of ancdata",
    "threads or processes": r"can't start new thread|pthread_create|resource temporarily unavailable",
    "memory to load a library": r"failed to map segment|cannot (map|allocate memory in) |cannot create shared object",
    "memory": r"out of memory|can(no|')t allocate memory|DefaultCPUAllocator|not enough memory|bad_alloc"
    r"|failed to map|unable to (allocate|mmap)",
}
_REMEDIES = {
    "memory of the GPU": _OF_THE_GPU,
    "shared memory": _SHARED,
    "open files": _FILES,
    "threads or processes": _PROCESSES,
    "memory to load a library": _OF_A_LIBRARY,
    "memory": _MEMORY,
}
_OF_THE_PATH = {errno.ENAMETOOLONG, errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.EINVAL}
_OF_STEPS = ("memory of the GPU", "memory")  # what smaller steps of a training need less of
_ERRNOS = {
    errno.ENOMEM: "memory",
    errno.EMFILE: "open files",
    errno.ENFILE: "open files",
    errno.EAGAIN: "threads or processes",
}
_EXCEPTIONS = (OSError, RuntimeError, ImportError, SystemError)


def as_resource_error(
    error: BaseException, what: str = "", for_memory: Callable[[], str] | None = None
) -> ResourceError | None:
    """Return an exception as the ResourceError that it means; None for any other.

    Args:
        error: the exception.
        what: is put before the remedy, as in "runs/seg: --resume goes on".
        for_memory: gives the remedy where memory ran out, of the machine or its GPU; None: a general one.
    """
    kind = _kind(error)
    if kind is None:
        return None
    first = str(error).strip().partition("\n")[0][:120].rstrip(". ")
    cause = f" ({first})" if first else ""
    if for_memory is not None and kind in _OF_STEPS:
        kept = f"; if others took it, {what}" if what else ""
        return ResourceError(f"not enough {kind}{cause}: {for_memory()}{kept}")
    return ResourceError(f"not enough {kind}{cause}: {f'{what}; ' if what else ''}{_REMEDIES[kind]}")


def is_memory(error: BaseException) -> bool:
    """Return whether an exception says that the memory of the machine, or of its GPU, does not suffice."""
    return _kind(error) in _OF_STEPS


def _kind(error: BaseException) -> str | None:
    if isinstance(error, ResourceError):
        return None
    if isinstance(error, MemoryError):
        return "memory"
    if not isinstance(error, _EXCEPTIONS):
        return None
    number = getattr(error, "errno", None)
    if number == errno.ENOSPC and not getattr(error, "filename", None) and _is_full_for_semaphores():
        return "shared memory"
    if number in _ERRNOS:
        return _ERRNOS[number]
    if number in _OF_THE_PATH and getattr(error, "filename", None):  # wherever it lies, /dev/shm too
        return None
    text = printable(str(error)[:2000])
    return next((kind for kind, pattern in _PATTERNS.items() if re.search(pattern, text, re.IGNORECASE)), None)


def _is_full_for_semaphores() -> bool:
    """Return whether /dev/shm has no page left: semaphores lie there, and their error names no file."""
    try:
        state = os.statvfs("/dev/shm")  # noqa: S108
    except OSError:
        return False
    return state.f_bavail == 0
