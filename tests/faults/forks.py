"""Commands as forks of one warm process: what a kill costs is the command's own work, not the import of torch.

`python forks.py` is that process. It imports what commands need, starts no thread, and for each line of JSON on stdin
runs jobs side by side, each in a fork with Python's signal handlers as they are at a start, until all have ended. What
befalls a job is moments.py's. `Forks` is the other end of its pipes; test_matrix.py compares it with real processes.
"""

import atexit
import contextlib
import ctypes
import gc
import json
import mmap
import os
import select
import signal
import subprocess
import sys
import time
import traceback
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

Job = dict[str, Any]
LONGEST = 120.0  # seconds: a job that takes longer hangs
MODULES = (
    *(
        "magic_cli.__main__",
        "magic_cli.cli.app",
        "magic_cli.cli.process",
        "magic_cli.commands.prepare",
        "magic_cli.commands.cross_validate",
    ),
    *(
        "magic_cli.commands.package",
        "magic_cli.commands.score",
        "magic_cli.commands.score_files",
        "magic_cli.commands.demo",
        "magic_cli.report.run_text",
        "magic_cli.report.train_text",
    ),
    *("magic_cli.tasks.seg", "magic_cli.tasks.seg.model", "magic_cli.tasks.cvqa", "magic_cli.tasks.cvqa.model"),
    *("magic_cli.tasks.cvqa.vote", "jsonschema", "jsonschema_rs", "tifffile", "typer._adapters"),
    "torch.utils.serialization.config",
    *("pandas.io.formats.csvs", "jinja2"),
)


@dataclass(frozen=True)
class Ended:
    """A job that ended: its exit code (minus the signal that ended it), stdout, stderr, points passed, seconds."""

    code: int
    out: str
    err: str
    points: int
    seconds: float

    @property
    def errors(self) -> list[str]:
        """Lines on stderr that are no progress."""
        return [line for line in self.err.splitlines() if line.startswith("error: ") or "interrupted" in line]


def job(*words: object, **options: Any) -> Job:
    """Describe a command line.

    Options: `cwd`; `kill`, {"signal", "at": points of moments.py, or "after": seconds, in a list, "group": true as a
    terminal does it}; `faults`, {name: argument} of moments.FAULTS.
    """
    return {"words": [str(word) for word in words], **options}


class Forks:
    """The warm process, from its start to `close`."""

    def __init__(self, root: Path) -> None:
        here, log = Path(__file__).parent, root / "forks.log"
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        environment |= {"XDG_CACHE_HOME": str(root / "xdg"), "PYTHONPATH": f"{here}{os.pathsep}{here.parent}"}
        environment |= {"PYTHONPATH": environment["PYTHONPATH"] + os.pathsep + os.environ.get("PYTHONPATH", "")}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._log = log
        with log.open("w") as file:
            words = [sys.executable, str(here / "forks.py")]
            self._process = subprocess.Popen(words, env=environment, stderr=file, **pipes)

    def _ask(self, jobs: list[Job]) -> list[Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(jobs) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self._log.read_text()
        found: list[Any] = json.loads(line)
        return found

    def run(self, *jobs: Job) -> list[Ended]:
        """Run jobs at the same time and return how each ended."""
        return [Ended(**one) for one in self._ask([one | {"cwd": str(one.get("cwd", "."))} for one in jobs])]

    def one(self, *words: object, **options: Any) -> Ended:
        """Run one command line."""
        return self.run(job(*words, **options))[0]

    def disk(self, place: Path, **options: Any) -> Path | None:
        """Mount a disk for the jobs alone, or mount it `again`; return the folder where this process sees it.

        Options: `bytes` it holds, `read_only`. None where this system does not let us. It goes with the warm process.
        """
        [found] = self._ask([{"disk": str(place), **options}])
        return Path(f"/proc/{self._process.pid}/root{place}") if found else None

    def undo(self, place: Path) -> None:
        """Take a disk away again."""
        assert self._ask([{"disk": str(place), "undo": True}]) == [True]

    def close(self) -> None:
        """End the warm process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Child:
    """A fork that runs a job."""

    def __init__(self, job: Job) -> None:
        self.job, self.start = job, time.monotonic()
        (self.out, out), (self.err, err) = os.pipe(), os.pipe()
        self.texts, self.shared = {self.out: b"", self.err: b""}, mmap.mmap(-1, 9)
        self.pid = os.fork()
        if not self.pid:
            _become(job, out, err, self.shared)
        for end in (out, err):
            os.close(end)
        for end in self.texts:
            os.set_blocking(end, False)
        self.after: list[float] = list((job.get("kill") or {}).get("after", ()))
        self.code: int | None = None

    def look(self) -> bool:
        """Read what there is, send the signal that is due; tell whether the job is still running."""
        now = time.monotonic()
        if not self.shared[8]:
            self.start = now
        elif self.after and now >= self.start + self.after[0]:
            self.after.pop(0)
            kill = self.job["kill"]
            (os.killpg if kill.get("group") else os.kill)(self.pid, signal.Signals[kill["signal"]])
        if now - self.start > LONGEST:
            os.kill(self.pid, signal.SIGKILL)
        ended, status = os.waitpid(self.pid, os.WNOHANG)
        for end in self.texts:
            with contextlib.suppress(BlockingIOError):
                while block := os.read(end, 1 << 16):
                    self.texts[end] += block
        if ended:
            self.code = os.waitstatus_to_exitcode(status)
            with contextlib.suppress(ProcessLookupError):  # workers of a data loader that was killed
                os.killpg(self.pid, signal.SIGKILL)
        return not ended

    def result(self) -> dict[str, Any]:
        """Return how it ended."""
        for end in self.texts:
            os.close(end)
        out, err = (self.texts[end].decode("utf-8", "replace") for end in (self.out, self.err))
        points = int.from_bytes(self.shared[:8], "little")
        seconds = round(time.monotonic() - self.start, 4)
        return {"code": self.code, "out": out, "err": err, "points": points, "seconds": seconds}


def _become(job: Job, out: int, err: int, shared: mmap.mmap) -> NoReturn:
    """Be the command: its streams, place, environment, and what befalls it; never return."""
    try:
        os.setpgid(0, 0)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.chdir(job["cwd"])
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
        import moments

        moments.arrange(job, shared)
        shared[8] = 1
        be(job["words"])
    except BaseException:
        os.write(2, traceback.format_exc().encode())
        os._exit(1)


def be(words: list[str]) -> NoReturn:
    """Run a command line as `python -m magic_cli` does, in a fork; what it lets out ends it as in Python."""
    from magic_cli import __main__ as program

    sys.stdout, sys.stderr = (open(end, "w", closefd=False) for end in (1, 2))  # noqa: SIM115
    sys.argv, code = ["magic", *words], 0
    try:
        program.start()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except KeyboardInterrupt:
        traceback.print_exc()
        sys.stderr.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve() -> None:
    """Be the warm process."""
    import importlib

    sys.modules["pyarrow"] = None  # type: ignore[assignment]  # pandas would import it, and it starts threads
    for name in MODULES:
        with contextlib.suppress(ImportError):  # some are extras, or inner parts of another version
            importlib.import_module(name)
    from PIL import Image

    from magic_cli.report import page

    Image.init()
    for template in page.TEMPLATES.glob("*.jinja"):
        page._environment().get_template(template.name)
    for one in list(weakref.finalize._registry):
        one.atexit = False  # torch's, which take half of a short job's time; those of a command are run at its end
    gc.collect()
    gc.freeze()  # else each fork's first collection would copy all of this
    assert len(os.listdir("/proc/self/task")) == 1, "a fork would lose the other threads"  # noqa: PTH208
    answers = os.dup(1)
    os.dup2(2, 1)
    for line in sys.stdin:
        asked = json.loads(line)
        found = [_mount(one) for one in asked] if "disk" in asked[0] else _ran(asked)
        os.write(answers, (json.dumps(found) + "\n").encode())


def _ran(jobs: list[Job]) -> list[dict[str, Any]]:
    running = children = [Child(job) for job in jobs]
    while running := [child for child in running if child.look()]:
        select.select([], [], [], 0.001)
    return [child.result() for child in children]


def _mount(asked: Job) -> bool:
    """Mount a disk in memory where this process and its forks alone see it; tell whether that went well."""
    libc, place = ctypes.CDLL(None, use_errno=True), asked["disk"].encode()
    if not _alone and (libc.unshare(_CLONE_NEWNS) or libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)):
        return False
    _alone.append(True)
    if asked.get("undo"):
        return not libc.umount2(place, _MNT_DETACH)
    flags = (_MS_RDONLY if asked.get("read_only") else 0) | (_MS_REMOUNT if asked.get("again") else 0)
    return not libc.mount(b"magic", place, b"tmpfs", flags, f"size={asked['bytes']},mode=755".encode())


_alone: list[bool] = []  # once this process has a namespace of its own
_CLONE_NEWNS, _MS_RDONLY, _MS_REMOUNT, _MS_REC, _MS_PRIVATE = 0x20000, 1, 32, 1 << 14, 1 << 18
_MNT_DETACH = 2


if __name__ == "__main__":
    serve()
