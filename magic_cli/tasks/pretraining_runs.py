"""Settings that name a pretraining run: which file it is, which kind of encoder it trained, and whether it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magic_cli.errors import CheckpointError, ConfigError, problem
from magic_cli.io.progress import log

if TYPE_CHECKING:
    from magic_cli.config import Config

TASK = "pretrain"

BEST = "best.pt"

_KINDS = ("lite0", "lite1", "lite2", "minilm", "tiny")  # of encoders that are no Hub names


def with_runs(config: Config) -> Config:
    """Return settings in which `image_encoder` and `text_encoder` are kinds of encoders.

    Where one of them names a run, it becomes what that run trained, and `image_weights` or `text_weights` its best.pt.
    Other settings that name a run (`Config.run_settings`) become the path of its best.pt. If the run read its published
    weights from a folder, so does the new one, unless its settings say otherwise.

    Raises:
        CheckpointError: a run does not exist, is damaged, or was of another task. ConfigError: weights of a run were
            given for another kind of encoder.
    """
    changes: dict[str, Any] = {}
    for part in ("image", "text"):
        kind, weights = getattr(config, f"{part}_encoder"), getattr(config, f"{part}_weights")
        named = kind if is_run(kind) else weights
        if not named:
            continue
        run = open_run(named)
        trained = str(run.settings[f"{part}_encoder"])
        if not is_run(kind) and kind != trained:
            remedy = f"--set {part}_encoder={named} sets both"
            raise ConfigError(problem(f"{part}_weights={named}", f"a run of {trained}", kind, remedy))
        if f"{part}s" not in run.trained:
            log(f"{run.file}: the run did not train its {part} encoder; its own vectors are those of {trained}")
        changes |= {f"{part}_encoder": trained, f"{part}_weights": str(run.file)}
        if "/" in trained and not config.weights_dir and run.settings.get("weights_dir"):
            changes["weights_dir"] = str(run.settings["weights_dir"])
    for setting in config.run_settings.keys() - {"image_weights", "text_weights"}:
        if named := getattr(config, setting):
            changes[setting] = str(open_run(named).file)
    if config.init:
        changes["init"] = str(open_run(config.init, config.task).file)
    return replace(config, **changes) if changes else config


def is_run(name: str) -> bool:
    """Return whether the name of an encoder is the path of a run, or of its best.pt, and no Hub name (owner/name)."""
    if name.endswith(".pt") or name.startswith(("runs/", "./", "../", "/", "~")) or name.count("/") > 1:
        return True
    is_folder = "/" not in name and name not in _KINDS and Path(name).is_dir()
    return bool(name) and (is_folder or (Path(name) / BEST).is_file())


@dataclass(frozen=True)
class PretrainingRun:
    """A finished training.

    Attributes:
        file: its best.pt.
        settings: its settings.
        trained: the first words of its tensors' names: "images" and "texts" if those encoders were trained.
    """

    file: Path
    settings: Mapping[str, object]
    trained: frozenset[str]


def open_run(name: str, task: str = TASK) -> PretrainingRun:
    """Find a run of a task by its folder or its best.pt.

    Raises:
        CheckpointError: there is none or there are several, it is damaged, or of another task.
    """
    from magic_cli.training import checkpoint

    folder = Path(name).expanduser()
    if folder.is_dir() and not (folder / BEST).is_file() and not any(folder.glob(f"*/{BEST}")):
        begun = (folder / "state.pt").is_file()
        remedy = "finish its training with --resume" if begun else f"name a run's folder or its {BEST}"
        raise CheckpointError(problem(name, f"a folder without {BEST}", f"a run of {task}", remedy))
    files, _ = checkpoint.find(folder, task)
    if len(files) > 1:
        raise CheckpointError(problem(name, f"{len(files)} runs", "one", f"name one of them, such as {files[0]}"))
    meta, weights = checkpoint.load_best(files[0], task)
    return PretrainingRun(files[0], meta.config, frozenset(tensor.partition(".")[0] for tensor in weights))
