"""`magic demo`: draws a small dataset in the challenge's layout, then runs the five verbs on it as a user would."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from magic_cli.config import Config, resolve
from magic_cli.data.sources.synthetic.dataset import draw_dataset
from magic_cli.errors import Interrupted, MagicError
from magic_cli.io.files import refuse_existing, write_text
from magic_cli.io.progress import log
from magic_cli.io.signals import Terminated
from magic_cli.io.staging import check_target, staged

COUNTS = {"train": 40, "valid": 12, "test": 8}

DATA, MARK = "DermaVQA", "drawn-by-magic-demo.txt"

_STDERR = 2  # the descriptor itself: sys.stderr may be an object without one

_GRACE = 60.0  # seconds that an interrupted step has to save its state


@dataclass(frozen=True, slots=True)
class Step:
    """One command line of the demo, without the program's name; `parse` where its stdout is one JSON object."""

    words: tuple[str, ...]
    parse: bool = False


def run(out: Path, preset: str, overwrite: bool, counts: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Draw the dataset into `out`, run every verb there, and return what was made, the scores and the time.

    Raises:
        DataError: `out` is taken and `overwrite` is false, or data that was not drawn lies there.
        ConfigError: no such preset.
        MagicError: a step failed; its own error line is on stderr, its exit code is this error's.
        Interrupted: SIGINT or SIGTERM during a step, which saved what it could.
    """
    refuse_existing(out, overwrite)
    check_target(out / DATA, None, MARK, overwrite)  # real data may lie there
    resolve(Config, preset)  # a misspelt preset is said now, not after the drawing
    start = time.monotonic()
    log(f"drawing skin photos, outlines and questions to {out / DATA} ...")
    with staged(out / DATA) as folder:
        drawn = draw_dataset(folder, counts or COUNTS)
        write_text(folder / MARK, "Drawn by `magic demo`: no photo, text or answer is a patient's.\n")
    log(f"drawn: {drawn['encounters']} encounters, {drawn['images']} photos, {drawn['masks']} masks")
    result: dict[str, Any] = {}
    for step in steps(preset, overwrite):
        log("\n$ magic " + " ".join(step.words))
        result = _call(step, out) or result
    return {
        "out": str(out),
        "drawn": drawn,
        "scores": result,
        "report": str(out / "report" / "report.html"),
        "submission": str(out / "submission.zip"),
        "seconds": round(time.monotonic() - start, 1),
    }


def summary(found: Mapping[str, Any]) -> list[str]:
    """Return the table of scores, what lies where, and the line to type with one's own data."""
    text = ["scores on drawn photos (they show that everything works, not how well on patients):"]
    for report in (r for system in found["scores"].get("systems", ()) for r in system["reports"]):
        text.append(f"  {report['task']}")
        for name, value in report["figures"].items():
            if not name.startswith("number_"):
                text.append(f"    {name:<20} {'undefined' if value is None else f'{value:.3f}'}")
    text.append(f"{found['report']}: open it in a browser")
    text.append(f"{found['submission']}: a checked submission; all of {found['out']}/ took {found['seconds']:.0f} s")
    return [*text, "next, with your own data: magic prepare --data DermaVQA/"]


def steps(preset: str, overwrite: bool) -> tuple[Step, ...]:
    """Return the command lines of the demo, in order; those that write get --overwrite where it is asked for."""
    again = ("--overwrite",) if overwrite else ()
    few = ("--preset", preset, "--set")
    valid = ("--split", "valid", "--out")
    judged = ("--split", "valid", "--run", "runs/seg", "--out", "report", "--json")
    pack = ("--split", "valid", "--seg", "valid/seg", "--cvqa", "valid/cvqa", "--out", "valid.zip")
    return (
        Step(("prepare", "--data", DATA, *again)),
        Step(("train", "seg", *few, "epochs=4", "--set", "views=1", *again)),
        Step(("train", "cvqa", *few, "epochs=15", *again)),
        Step(("predict", "seg", "--ckpt", "best.pt", *valid, "valid/seg", *again)),
        Step(("predict", "cvqa", "--ckpt", "best.pt", *valid, "valid/cvqa", *again)),
        Step(("package", *pack, *again)),
        Step(("score", "valid.zip", "prepared", *judged, *again), parse=True),
        Step(("predict", "seg", "--ckpt", "best.pt", *again)),
        Step(("predict", "cvqa", "--ckpt", "best.pt", *again)),
        Step(("package", "--seg", "predictions/seg", "--cvqa", "predictions/cvqa", *again)),
    )


def _call(step: Step, cwd: Path) -> dict[str, Any] | None:
    """Run one step; its stdout is returned when it is JSON, and goes to stderr with its logs otherwise."""
    command, stdout = [sys.executable, "-m", "magic_cli", *step.words], subprocess.PIPE if step.parse else _STDERR
    safe = os.environ | {"PYTHONSAFEPATH": "1"}  # modules that lie in that folder are not imported
    process = subprocess.Popen(command, cwd=cwd, env=safe, stdin=subprocess.DEVNULL, stdout=stdout, text=True)
    try:
        output, _ = process.communicate()
    except KeyboardInterrupt as interruption:
        if isinstance(interruption, Terminated):  # a Ctrl-C reached the step too; others come to one process
            process.terminate()
        _stop(process)
        raise Interrupted("demo: interrupted; the same line with --overwrite starts again") from None
    if process.returncode:
        raise _failed(step, process.returncode)
    if not step.parse:
        return None
    found: dict[str, Any] = json.loads(output)
    return found


def _stop(process: subprocess.Popen[str]) -> None:
    """Let a step that was told to stop save its state; end it when it takes too long."""
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
    if code < 0:  # it could say nothing
        told = f"was ended by signal {-code}{' (out of memory?)' if code == -9 else ''}; --overwrite starts again"
    else:
        told = f"ended with exit code {code}; its own message is above"
    line = f"demo: `magic {' '.join(step.words)}` {told}"
    if code in (130, -2):
        return Interrupted(line)
    error = MagicError(line)
    error.exit_code = code if code > 0 else 1
    return error
