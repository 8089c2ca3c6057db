"""Progress with an ETA on stderr: a Rich bar on a terminal, one plain line per 5 % or 30 s elsewhere."""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from typing import TextIO, TypeVar

from magic_cli.io.launcher import launched

T = TypeVar("T")


def is_main_process() -> bool:
    """Return whether this process may print and write results: of several that a launcher started, only the first."""
    return launched().rank == 0


def log(message: str, everywhere: bool = False) -> None:
    """Write one line to stderr; results go to stdout instead.

    On a full disk, or if the terminal is gone, the line is lost and the work goes on.

    Args:
        message: the line.
        everywhere: of several processes, all write it, not only the first: it is about this one.
    """
    if everywhere or is_main_process():
        try:
            print(message, file=sys.stderr, flush=True)  # noqa: T201
        except OSError:
            discard_output(sys.stderr)


@contextmanager
def log_if_longer(seconds: float, message: str, everywhere: bool = False) -> Iterator[None]:
    """Log a line, as `log`, if the block takes longer than `seconds`."""
    import threading  # not at the top: only trainings wait

    timer = threading.Timer(seconds, log, (message, everywhere))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def discard_output(stream: TextIO) -> None:
    """Redirect a stream that cannot be written to os.devnull, with what it still buffers."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Yield from `items` while showing on stderr how many are done and how long the rest will take.

    Nothing is shown in the first two seconds.

    Args:
        items: what to iterate over.
        label: what is being done, as "encoding".
        total: number of items; None for the length of `items`, or where it is not known.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if not is_main_process():
        yield from items
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress, TimeElapsedColumn, TimeRemainingColumn

        columns = (*Progress.get_default_columns()[:3], TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            yield from bar.track(items, total=total, description=label)
    else:
        yield from _log_lines(items, label, total)


def _log_lines(items: Iterable[T], label: str, total: int | None) -> Iterator[T]:
    start = last = time.monotonic()
    shown = 0
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        due = now - last > 30 or (total is not None and (done - shown) * 20 >= total)
        if due and now - start > 2 and now - last > 1:
            if total is None:
                log(f"{label}: {done:,}")
            else:
                left = (now - start) / done * (total - done)
                log(f"{label}: {done}/{total} ({100 * done // total} %), {left:.0f} s left")
            last, shown = now, done
