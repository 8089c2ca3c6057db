"""Errors of libtiff, which Pillow does not ask for: printed to stderr, and a damaged fax-coded image passes as a whole.

libtiff gives them to a function that a program may set. Where Pillow's copy of it cannot be reached (Windows, a build
without it), they stay where they were.
"""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

_told = threading.local()
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)


class LibtiffError(Exception):
    """libtiff met an error in a file that it nevertheless gave pixels for."""


def _hear(_module: bytes, _text: bytes, _values: int) -> None:
    _told.errors = getattr(_told, "errors", 0) + 1


_kept = _HANDLER(_hear)  # as long as libtiff may call it


@cache
def _listen() -> None:
    from PIL import _imaging

    with suppress(OSError, AttributeError):
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(_kept)


@contextmanager
def strict() -> Iterator[None]:
    """Keep libtiff's errors in this thread from stderr; raise LibtiffError when the block ends after one."""
    _listen()
    _told.errors = 0
    yield
    if _told.errors:
        raise LibtiffError
