"""Progress with an ETA on stderr: a Rich bar on a terminal, one plain line per 5 % or 30 s elsewhere."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO, TypeVar

from magic_cli.io.launcher import launched

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")

_SHOWN_AFTER = 2.0  # seconds; of what is shorter nothing is shown

_TORCH_AFTER = 0.3  # seconds; torch alone takes two, and half a minute on a busy machine


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


@contextmanager
def loading_torch() -> Iterator[None]:
    """Log a line at once if the block, which imports torch, is the first to do so and does not end immediately."""
    first = "torch" not in sys.modules
    with log_if_longer(_TORCH_AFTER, "loading torch ...") if first else nullcontext():
        yield


def discard_output(stream: TextIO) -> None:
    """Redirect a stream that cannot be written to os.devnull, with what it still buffers."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of a longer run while a part of it is tracked.

    Attributes:
        text: scores so far, "" for none.
        left: seconds until the end of the whole run, None while not known.
    """

    text: str = ""
    left: float | None = None


def duration(seconds: float) -> str:
    """Return a number of seconds for people.

    >>> duration(4.4), duration(99), duration(1440), duration(7500)
    ('4 s', '99 s', '24 min', '2 h 05 min')
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def track(
    items: Iterable[T],
    label: str,
    total: int | None = None,
    status: Callable[[], Status] | None = None,
    leaves_line: bool = True,
) -> Iterator[T]:
    """Yield from `items` while showing on stderr how many are done and how long the rest will take.

    Nothing is shown in the first two seconds; what took longer leaves a line with its duration.

    Args:
        items: what to iterate over.
        label: what is being done, as "encoding".
        total: number of items; None for the length of `items`, or where it is not known.
        status: gives what is known of the whole run that this is a part of; called from another thread.
        leaves_line: whether the duration is logged at the end; not where the caller's own line has it.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    start = time.monotonic()
    if not is_main_process():
        yield from items
        return
    if sys.stderr.isatty():
        with _bar(status) as bar:
            yield from bar.track(items, total=total, description=label)
    else:
        yield from _log_lines(items, label, total, status)
    spent = time.monotonic() - start
    if leaves_line and spent > _SHOWN_AFTER:
        log(f"{label}: done in {duration(spent)}")


def _bar(status: Callable[[], Status] | None) -> "Progress":
    """Return a bar as wide as the terminal, with words for its times; it vanishes at its end."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn
    from rich.table import Column
    from rich.text import Text

    class Times(ProgressColumn):
        """The times of a task, and the status of the run."""

        def render(self, task: Task) -> Text:
            """Return the column's text."""
            return Text(_times(task.elapsed, task.time_remaining, status), no_wrap=True, overflow="ellipsis")

    bar = BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=6))
    columns = (TextColumn("{task.description}"), bar, TaskProgressColumn(), Times())
    return Progress(*columns, console=Console(stderr=True), transient=True, expand=True)


def _times(elapsed: float | None, left: float | None, status: Callable[[], Status] | None) -> str:
    """Return the words beside a bar: they fit 80 columns."""
    if status is None:
        return f"elapsed {_clock(elapsed)}, left {_clock(left)}"
    now = status()
    words = [f"epoch left {_clock(left)}", *([f"run left {duration(now.left)}"] if now.left is not None else [])]
    return ", ".join([*words, *([now.text] if now.text else [])])


def _clock(seconds: float | None) -> str:
    """Return hours, minutes and seconds as on a clock."""
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _log_lines(
    items: Iterable[T], label: str, total: int | None, status: Callable[[], Status] | None = None
) -> Iterator[T]:
    start = last = time.monotonic()
    shown = 0
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        due = now - last > 30 or (total is not None and (done - shown) * 20 >= total)
        if due and done != total and now - start > _SHOWN_AFTER and now - last > 1:
            if total is None:
                log(f"{label}: {done:,}")
            else:
                left = (now - start) / done * (total - done)
                log(f"{label}: {done}/{total} ({100 * done // total} %), {duration(left)} left{_of_run(status)}")
            last, shown = now, done


def _of_run(status: Callable[[], Status] | None) -> str:
    """Return the status of the run as the end of a line."""
    now = Status() if status is None else status()
    left = f"; run: about {duration(now.left)} left" if now.left is not None else ""
    return left + (f"; {now.text}" if now.text else "")
