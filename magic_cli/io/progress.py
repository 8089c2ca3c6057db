"""Progress with an ETA on stderr: a Rich bar on a terminal, one plain line per 5 % or 30 s elsewhere."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TextIO, TypeVar

T = TypeVar("T")


def speaks() -> bool:
    """Tell whether this process may print: of several that a launcher started, the first one alone does."""
    return os.environ.get("RANK", "0") == "0"


def log(message: str) -> None:
    """Write one line to stderr; results, which go to stdout, are never written here.

    A full disk or a terminal that is gone costs the lines, not the work.
    """
    if speaks():
        try:
            print(message, file=sys.stderr, flush=True)  # noqa: T201
        except OSError:
            silence(sys.stderr)


def silence(stream: TextIO) -> None:
    """Send what a stream that cannot be written still holds, and all that follows, to nowhere."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Yield from `items` while showing how many are done and when the rest will be.

    `total` is needed where `items` has no length. Nothing is shown for less than two seconds of work.
    """
    if total is None:
        total = len(items)  # type: ignore[arg-type]
    if not speaks():
        yield from items
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress, TimeElapsedColumn, TimeRemainingColumn

        columns = (*Progress.get_default_columns()[:3], TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            yield from bar.track(items, total=total, description=label)
    else:
        yield from _plain(items, label, total)


def _plain(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    start = last = time.monotonic()
    shown = 0
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        due = now - last > 30 or (done - shown) * 20 >= total
        if due and now - start > 2 and now - last > 1:
            left = (now - start) / done * (total - done)
            log(f"{label}: {done}/{total} ({100 * done // total} %), {left:.0f} s left")
            last, shown = now, done
