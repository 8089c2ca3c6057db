"""What befalls a command in its fork: a signal at its N-th dealing with the disk, a full disk, a clock that steps back.

Points are what changes files: each file made, each write (in the middle of it: half of the bytes are there), each
fsync, rename, exchange, removal and folder made or removed, before and after it. Random times rarely hit these.
"""

import ctypes
import dataclasses
import io
import mmap
import os
import re
import signal
import subprocess
import time
import types
from collections.abc import Callable
from typing import Any

_CALLS = ("fsync", "link", "replace", "rename", "unlink", "remove", "mkdir", "rmdir")


class Points:
    """Counts points in memory that the warm process shares, and sends a signal at one of them."""

    def __init__(self, count: mmap.mmap, kill: dict[str, Any]) -> None:
        self.count, self.at, self.group = count, kill.get("at", ()), kill.get("group")
        self.signal = signal.Signals[kill["signal"]] if kill else None

    def passing(self) -> None:
        """Be at the next point."""
        passed = int.from_bytes(self.count[:8], "little") + 1
        self.count[:8] = passed.to_bytes(8, "little")
        if passed in self.at and self.signal is not None:
            os.killpg(0, self.signal) if self.group else os.kill(os.getpid(), self.signal)

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function with a point before it and one after it."""

        def wrapped(*words: Any, **options: Any) -> Any:
            self.passing()
            found = call(*words, **options)
            self.passing()
            return found

        return wrapped

    def open(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Return an `open` whose files for writing bytes have a point in the middle of each write."""
        points = self

        class Watched(io.FileIO):
            def write(self, data: Any) -> int:
                whole = memoryview(data).cast("B")
                half = super().write(whole[: len(whole) // 2])
                points.passing()
                return (half or 0) + (super().write(whole[half:]) or 0)

        def opened(file: Any, mode: str = "r", *words: Any, **options: Any) -> Any:
            kind = mode.replace("b", "")
            if "b" not in mode or kind == "r" or words or any(v not in (None, -1) for v in options.values()):
                return original(file, mode, *words, **options)
            raw = Watched(os.fspath(file) if not isinstance(file, int) else file, kind)
            points.passing()
            return io.BufferedRandom(raw) if "+" in kind else io.BufferedWriter(raw)

        return opened


class Step:
    """A step of the demo as a fork, with what `subprocess.Popen` has of it."""

    def __init__(self, command: list[str], *, cwd: str, stdout: int, **_: Any) -> None:
        self.returncode: int | None = None
        mine, its = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.dup2(its if stdout == subprocess.PIPE else stdout, 1)
            os.chdir(cwd)
            import forks

            forks.be(command[3:])
        os.close(its)
        self._pipe = mine

    def communicate(self) -> tuple[str, None]:
        with os.fdopen(self._pipe) as file:
            text = file.read()
        self.wait()
        return text, None

    def wait(self, seconds: float = 60) -> int:
        end = time.monotonic() + seconds
        while self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > end:
                raise subprocess.TimeoutExpired("step", seconds)
            time.sleep(0.002)
        return self.returncode

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def _quick(step: Any) -> Any:
    return dataclasses.replace(step, words=tuple(re.sub(r"^epochs=.*", "epochs=1", word) for word in step.words))


def arrange(job: dict[str, Any], count: mmap.mmap) -> None:
    """Set up what a job asks for, in its own fork."""
    points = Points(count, job.get("kill") or {})
    for name in _CALLS:
        setattr(os, name, points.around(getattr(os, name)))
    io.open = points.open(io.open)  # type: ignore[assignment]
    from magic_cli.commands import demo, score
    from magic_cli.data.sources.synthetic import dataset
    from magic_cli.io import staging
    from magic_cli.report.score_report import Provenance

    score._provenance = lambda: Provenance((), {}, "")
    staging.exchange = points.around(staging.exchange)
    demo.COUNTS, dataset._SIZES = {"train": 3, "valid": 2, "test": 1}, ((48, 64),)
    steps = demo.steps
    demo.steps = lambda *words: tuple(_quick(step) for step in steps(*words))
    demo.subprocess = types.SimpleNamespace(**vars(subprocess) | {"Popen": Step})
    for name, argument in job.get("faults", {}).items():
        FAULTS[name](argument)


def _clock(kind: str) -> None:
    """Let each look at the clock find it earlier than the last one by a minute, or find it stopped."""
    start, step, seen = time.time(), {"back": -60.0, "stopped": 0.0}[kind], [0]

    def now() -> float:
        seen[0] += 1
        return start + step * seen[0]

    time.time = now


def _size(most: int) -> None:
    """Let no file grow beyond so many bytes; a write beyond them fails, as Python ignores SIGXFSZ."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def _bounds(_: object) -> None:
    """Let permissions count for root too: give up the right to pass them by (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH)."""
    if os.geteuid() == 0:
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        data = (ctypes.c_uint32 * 6)()
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.capget(header, data) == 0
        for row in (0, 1, 2):
            data[row] &= ~0b110
        assert libc.capset(header, data) == 0


def _worker(number: int) -> None:
    """Let the data loader's process that makes the N-th batch be killed while it does."""
    from torch.utils.data import get_worker_info

    from magic_cli.training import loader

    count, original = mmap.mmap(-1, 8), loader._collate

    def collate(*words: Any) -> Any:
        if get_worker_info() is not None:
            count[0] += 1
            if count[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
        return original(*words)

    loader._collate = collate


FAULTS: dict[str, Callable[[Any], None]] = {"clock": _clock, "size": _size, "bounds": _bounds, "worker": _worker}
