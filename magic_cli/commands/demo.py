"""`magic demo`: draw a small dataset in the challenge's layout and run all steps on it, from prepare to search."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from magic_cli.commands.recording import refuse_empty_paths
from magic_cli.config import Config, resolve
from magic_cli.data.sources.synthetic.dataset import draw_dataset
from magic_cli.errors import DataError, Interrupted, MagicError, problem
from magic_cli.io import ownership
from magic_cli.io.files import StrPath, is_empty, refuse_existing, write_text
from magic_cli.io.progress import log
from magic_cli.io.signals import Terminated
from magic_cli.io.staging import replace_results

COUNTS = {"train": 40, "valid": 12, "test": 8}

DATA, MARK = "DermaVQA", "drawn-by-magic-demo.txt"

_STDERR = 2  # the descriptor itself: sys.stderr may be an object without one

_GRACE = 60.0  # seconds that an interrupted step has to save its state


@dataclass(frozen=True, slots=True)
class Step:
    """One command line of the demo, without the program's name; `parse` if its stdout is one JSON object."""

    words: tuple[str, ...]
    parse: bool = False


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Result of the demo.

    Attributes:
        out: the folder.
        drawn: number of drawn "encounters", "images" and "masks".
        scores: the report of `magic score` (schemas/report.schema.json).
        seconds: how long all steps took.
    """

    out: Path
    drawn: Mapping[str, int]
    scores: Mapping[str, object]
    seconds: float

    @property
    def report(self) -> Path:
        """The page of the scores."""
        return self.out / "report" / "report.html"

    @property
    def search(self) -> Path:
        """The page of the cases that are most like a photo."""
        return self.out / "search.html"

    @property
    def submission(self) -> Path:
        """The checked submission of split test."""
        return self.out / "submission.zip"

    def to_json(self) -> dict[str, object]:
        """Return what --json prints (schemas/demo.schema.json), less "schema" and "command"."""
        return {
            "out": str(self.out),
            "drawn": dict(self.drawn),
            "scores": dict(self.scores),
            "report": str(self.report),
            "submission": str(self.submission),
            "search": str(self.search),
            "seconds": self.seconds,
        }

    def lines(self) -> list[str]:
        """Return the scores as a table, where the results are, and the command line for the user's own data."""
        text = ["scores on drawn photos (they show that everything works, not how well on patients):"]
        systems: Any = self.scores.get("systems", ())
        for report in (report for system in systems for report in system["reports"]):
            text.append(f"  {report['task']}")
            for name, value in report["figures"].items():
                if not name.startswith("number_"):
                    text.append(f"    {name:<20} {'undefined' if value is None else f'{value:.3f}'}")
        text.append(f"{self.report}: open it in a browser")
        text.append(f"{self.search}: the cases most like a photo")
        text.append(f"{self.submission}: a checked submission; all of {self.out}/ took {self.seconds:.0f} s")
        return [*text, "next, with your own data: magic prepare --data DermaVQA/"]


def run(
    out: StrPath = "magic-demo",
    preset: str = "quick",
    overwrite: bool = False,
    counts: Mapping[str, int] | None = None,
) -> DemoResult:
    """Draw a dataset into `out` and run every verb there.

    Args:
        out: folder for all results.
        preset: of masks and answers: "quick", "small" or "tiny"; retrieval is always "tiny".
        overwrite: replace an earlier demo in `out`.
        counts: number of encounters of each split; None for those of `COUNTS`.

    Raises:
        DataError: `out` is taken and `overwrite` is false, or it holds data that the demo did not draw.
        ConfigError: no such preset, or `out` is empty.
        MagicError: a step failed; its own error line is on stderr, its exit code is this error's.
        Interrupted: SIGINT or SIGTERM during a step, which saved what it could.
    """
    refuse_empty_paths({"out": out})
    out = Path(out)
    refuse_existing(out, overwrite)
    _check(out)
    resolve(Config, preset)  # refuse a misspelt preset before drawing
    start, counts = time.monotonic(), counts or COUNTS
    log(f"drawing skin photos, outlines and questions to {out / DATA} ...")
    with replace_results(out / DATA, MARK) as folder:
        drawn = draw_dataset(folder, counts)
        write_text(folder / MARK, "Drawn by `magic demo`: no photo, text or answer is a patient's.\n")
    log(f"drawn: {drawn['encounters']} encounters, {drawn['images']} photos, {drawn['masks']} masks")
    scores: Mapping[str, object] = {}
    for step in steps(preset, overwrite, counts):
        log("\n$ magic " + " ".join(step.words))
        scores = _call(step, out) or scores
    return DemoResult(out, drawn, scores, round(time.monotonic() - start, 1))


def _check(out: Path) -> None:
    """Refuse a folder that is not empty and holds no demo: real data, and real runs beside them, are never replaced."""
    if out.is_dir() and not is_empty(out) and ownership.refuse_other(out / DATA, "demo", MARK) is None:
        line = problem(
            out, f"a folder without {DATA}/{MARK}", "a new folder, or one of `magic demo`", "choose another --out"
        )
        raise DataError(line)


def steps(preset: str, overwrite: bool, counts: Mapping[str, int] = COUNTS) -> tuple[Step, ...]:
    """Return the command lines of the demo, in order; with --overwrite if asked for.

    The photo that is compared at the end is the first of split valid: no case that is trained on, or indexed.
    """
    again = ("--overwrite",) if overwrite else ()
    settings = ("--preset", preset, "--set")
    valid = ("--split", "valid", "--out")
    score = ("--split", "valid", "--run", "runs/seg", "--out", "report", "--json")
    first = f"IMG_ENC{counts['train'] + 1:05d}_00001.jpg"
    query = ("--image", f"{DATA}/images_final/images_valid/{first}", "--text", "It itches.", "--index", "cases")
    pack = ("--split", "valid", "--seg", "valid/seg", "--cvqa", "valid/cvqa", "--out", "valid.zip")
    return (
        Step(("prepare", "--data", DATA, *again)),
        Step(("train", "seg", *settings, "epochs=12", *again)),
        Step(("train", "cvqa", *settings, "epochs=15", *again)),
        Step(("predict", "seg", "--ckpt", "best.pt", *valid, "valid/seg", *again)),
        Step(("predict", "cvqa", "--ckpt", "best.pt", *valid, "valid/cvqa", *again)),
        Step(("package", *pack, *again)),
        Step(("score", "valid.zip", "prepared", *score, *again), parse=True),
        Step(("predict", "seg", "--ckpt", "best.pt", *again)),
        Step(("predict", "cvqa", "--ckpt", "best.pt", *again)),
        Step(("package", "--seg", "predictions/seg", "--cvqa", "predictions/cvqa", *again)),
        Step(("train", "retrieve", "--preset", "tiny", *again)),
        Step(("index", "build", "cases", "--ckpt", "runs/retrieve", *(("--rebuild",) if overwrite else ()))),
        Step(("search", *query, "-k", "5", "--html", "search.html", *again)),
    )


def _call(step: Step, cwd: Path) -> Mapping[str, object] | None:
    """Run one step and return its stdout if that is JSON; any other stdout goes to stderr with the step's logs."""
    command, stdout = [sys.executable, "-m", "magic_cli", *step.words], subprocess.PIPE if step.parse else _STDERR
    safe = os.environ | {"PYTHONSAFEPATH": "1"}  # do not import modules from that folder
    process = subprocess.Popen(command, cwd=cwd, env=safe, stdin=subprocess.DEVNULL, stdout=stdout, text=True)
    try:
        output, _ = process.communicate()
    except KeyboardInterrupt as interruption:
        if isinstance(interruption, Terminated):  # Ctrl-C reaches the step too, other signals only this process
            process.terminate()
        _stop(process)
        raise Interrupted("demo: interrupted; rerun with --overwrite to start again") from None
    if process.returncode:
        raise _failed(step, process.returncode)
    if not step.parse:
        return None
    result: dict[str, object] = json.loads(output)
    return result


def _stop(process: subprocess.Popen[str]) -> None:
    """Give an interrupted step time to save its state, then terminate it, then kill it."""
    try:
        process.wait(_GRACE)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _failed(step: Step, code: int) -> MagicError:
    if code < 0:  # killed by a signal, so it printed no message
        reason = f"was ended by signal {-code}{' (out of memory?)' if code == -9 else ''}; --overwrite starts again"
    else:
        reason = f"ended with exit code {code}; its own message is above"
    line = f"demo: `magic {' '.join(step.words)}` {reason}"
    if code in (130, -2):
        return Interrupted(line)
    error = MagicError(line)
    error.exit_code = code if code > 0 else 1
    return error
