"""Curves and settings of a training in TensorBoard, W&B, MLflow or Trackio, by accelerate's trackers (`--log`).

Nothing is logged unless it is asked for. What is logged: the settings, less the folders of paths, the training loss and
the scores of each epoch; no photo, no text, no id. TensorBoard's files stay in the run folder; the others may send what
they get to a server, as their own settings say.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from magic_cli.config import Config
from magic_cli.errors import ConfigError, ExtraError, problem
from magic_cli.io.progress import is_main_process, log
from magic_cli.setting import SettingValue

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

NAMES = ("tensorboard", "wandb", "mlflow", "trackio")

_PLACES = {
    "wandb": "may send settings and scores to wandb.ai; WANDB_MODE=offline keeps them in {out}/wandb",
    "mlflow": "keeps settings and scores here, or where MLFLOW_TRACKING_URI says, which may be a server",
    "trackio": "keeps settings and scores in its folder (TRACKIO_DIR), unless a Hugging Face Space is set for it",
    "tensorboard": "tensorboard --logdir {out}/tensorboard shows them",
}

Rows = Sequence[Mapping[str, object]]
"""Rows of metrics.jsonl: "epoch", "loss" and scores."""


def require(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of trackers, each once; no tracker is imported.

    Raises:
        ConfigError: one is unknown. ExtraError: the library of one is not installed.
    """
    wanted = tuple(dict.fromkeys(names))
    for name in wanted:
        if name not in NAMES:
            raise ConfigError(problem("--log", repr(name[:40]), " or ".join(NAMES), "choose among these"))
        if find_spec(name) is None:
            raise ExtraError(f"--log {name}: {name} is not installed; run: pip install {name}, or leave --log out")
    return wanted


@dataclass(frozen=True)
class Logged:
    """What a run is called where it is logged.

    Attributes:
        task: the project is "magic-TASK".
        out: the run folder, which gives the run its name.
        config: the settings.
    """

    task: str
    out: Path
    config: Config

    @property
    def project(self) -> str:
        """Name of the project, which all runs of a task share."""
        return f"magic-{self.task}"

    def settings(self) -> dict[str, SettingValue]:
        """Return the settings, with the names alone of files that are given by absolute paths."""
        return {
            name: Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
            for name, value in self.config.as_dict().items()
        }


@contextmanager
def logging_to(names: Sequence[str], run: Logged) -> Iterator[Callable[[Rows], None]]:
    """Start trackers for this block; yield a function that logs what is new of all rows of metrics.jsonl so far.

    A resumed run is a new one for the trackers, which get its earlier epochs, too. A tracker that fails later is said
    so once and left out: it ends no training. Of several processes, only the main one logs.

    Raises:
        ConfigError: a tracker cannot start.
    """
    trackers = [_started(name, run) for name in names] if is_main_process() else []
    sent = 0

    def send(rows: Rows) -> None:
        nonlocal sent
        for row in rows[sent:]:
            values, epoch = _values(row), row["epoch"]
            trackers[:] = [tracker for tracker in trackers if _tried(tracker, partial(tracker.log, values, step=epoch))]
        sent = len(rows)

    try:
        yield send
    finally:
        for tracker in trackers:  # not accelerate's end_training: it also ends the exchange between processes
            # trackio's own, which forgets the run: it would end it once more, on stdout, when Python exits
            ends = sys.modules.get("trackio") if tracker.name == "trackio" else None
            _tried(tracker, getattr(ends, "finish", tracker.finish))


def _started(name: str, run: Logged) -> "GeneralTracker":
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # its own reports to its makers
    log(f"note: --log {name}: {_PLACES[name].format(out=run.out)}; no photos, texts or ids are logged")
    kind = LOGGER_TYPE_TO_CLASS[name]
    run.out.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    title = f"{run.out.name}-{stamp}"
    try:
        if kind.requires_logging_directory:  # a folder for each start: a resumed run would go back in its curve
            tracker = kind(stamp, run.out / name)
        elif name == "wandb":  # what it would take by itself: the terminal's text, the program, the git remote
            private = {"console": "off", "disable_git": True, "disable_code": True, "quiet": True}
            tracker = kind(run.project, name=title, dir=os.fspath(run.out), save_code=False, settings=private)
        elif name == "mlflow":
            tracker = kind(run.project, run_name=title)
        else:
            tracker = kind(run.project, name=title)
        with redirect_stdout(sys.stderr):  # stdout is the result's
            tracker.start()
            tracker.store_init_configuration(run.settings())
    except Exception as error:
        first = str(error).strip().partition("\n")[0][:200]
        got = f"a start that failed ({type(error).__name__}: {first})"
        raise ConfigError(problem(f"--log {name}", got, "one that works", "set it up, or leave --log out")) from None
    return tracker


def _tried(tracker: "GeneralTracker", call: Callable[[], None]) -> bool:
    """Return whether a tracker did what it was asked; say so if it did not."""
    try:
        with redirect_stdout(sys.stderr):
            call()
    except Exception as error:
        log(f"warning: --log {tracker.name}: failed ({type(error).__name__}), and gets nothing more; training goes on")
        return False
    return True


def _values(row: Mapping[str, object]) -> dict[str, float]:
    """Return the numbers of a row by the names of curves; undefined scores have none."""
    return {
        "train/loss" if name == "loss" else f"valid/{name}": float(value)
        for name, value in row.items()
        if name != "epoch" and isinstance(value, int | float)
    }
