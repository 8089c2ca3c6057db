"""What a run says about damaged files of the cache: how many, once, though the processes that load data find them."""

import mmap
import os
from pathlib import Path

from magic_cli.io.progress import log

_SLOTS = 512

_DAMAGED, _LOST, _REFUSED = range(3)  # slots that hold whether it was said


class Notes:
    """Counts of one run, in memory that forked processes share; each adds to a slot of its own."""

    def __init__(self) -> None:
        self._said = memoryview(mmap.mmap(-1, 8 * 8)).cast("q")
        self._counts = {kind: memoryview(mmap.mmap(-1, 8 * _SLOTS)).cast("q") for kind in (_DAMAGED, _LOST)}
        self._seen: set[str] = set()

    def add(self, path: str, is_lost: bool) -> None:
        """Count a file that is damaged, or lost while in use; each once."""
        if path not in self._seen:
            self._seen.add(path)
            self._counts[_LOST if is_lost else _DAMAGED][os.getpid() % _SLOTS] += 1

    def refused(self, where: object, reason: object) -> None:
        """Log that the cache cannot be written, and that the run goes on without; only the first time."""
        if not self._said[_REFUSED]:
            self._said[_REFUSED] = self._said[_DAMAGED] = self._said[_LOST] = 1
            count = sum(self._counts[_DAMAGED])
            damaged = f"; {_files(count)} damaged" if count else ""
            anew = "what is missing is computed without it; another --cache-dir would keep it"
            log(f"{where}: the cache cannot be written ({reason}){damaged}: {anew}")

    def report(self) -> None:
        """Log how many files were damaged or lost so far; the first number is the only one."""
        for kind, what in ((_DAMAGED, "damaged"), (_LOST, "lost while in use")):
            count = sum(self._counts[kind])
            if count and not self._said[kind]:
                self._said[kind] = 1
                log(f"{_files(count)} {what} and {'is' if count == 1 else 'are'} made again")


def _files(count: int) -> str:
    return f"{count} cached file{' was' if count == 1 else 's were'}"


_current = Notes()
_run: tuple[int, Path] = 0, Path()


def begin(root: Path) -> None:
    """Start the counts of a run, which are those of this process with a cache folder: folds of a run share them."""
    global _current, _run
    if _run != (os.getpid(), root.absolute()):
        _current, _run = Notes(), (os.getpid(), root.absolute())


def current() -> Notes:
    """Return the counts of the run."""
    return _current
