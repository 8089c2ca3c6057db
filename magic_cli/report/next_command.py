"""The command that a result suggests next: a line that works as it is printed, typed in the same folder."""

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from magic_cli.data.prepared import Prepared
from magic_cli.errors import EmptySplit
from magic_cli.io.files import StrPath, is_empty
from magic_cli.submission.expected import expected_of
from magic_cli.training.runtime import RuntimeOptions
from magic_cli.training.task import Task

if TYPE_CHECKING:
    from magic_cli.config import Config

DATA = Path("prepared")  # what --data is if it is not given


def command_line(*words: object) -> str:
    """Return "magic WORDS…", quoted for a shell; "" if a word cannot be typed (control characters, no UTF-8)."""
    line = shlex.join(["magic", *map(str, words)])
    return line if line.isprintable() else ""


def path_word(path: StrPath) -> str:
    """Return a path as a word that is not taken for an option."""
    word = str(path)
    return f"./{word}" if word.startswith("-") else word


def data_words(data: StrPath) -> tuple[str, ...]:
    """Return --data with the prepared dataset; nothing for the one that is taken without."""
    return () if Path(data) == DATA else ("--data", path_word(data))


def out_words(wanted: Path, usual: bool = True) -> tuple[str, ...]:
    """Return --out with a place that is not taken: `wanted`, or beside it; nothing for `wanted` if it is `usual`."""
    free, number = wanted, 2
    while free.exists() and not (free.is_dir() and is_empty(free)):
        free, number = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}"), number + 1
    return () if usual and free == wanted else ("--out", path_word(free))


def after_training(
    task: Task, prepared: Prepared, data: StrPath, ckpt: Path, config: "Config", runtime: RuntimeOptions
) -> str:
    """Return the command that predicts split test with a checkpoint, or another split if that has nothing to predict.

    Args:
        task: what was trained.
        prepared: the dataset, and `data` its folder as it was given.
        data: as above.
        ckpt: the checkpoint.
        config: its settings.
        runtime: device and cache, which are kept.
    """
    split = next((name for name in ("test", "valid", "train") if _can_predict(task, prepared, name, config)), "train")
    words = ["predict", task.name, "--ckpt", path_word(ckpt), *data_words(data)]
    words += [] if split == "test" else ["--split", split]
    words += out_words(Path("predictions", task.name))
    return command_line(*words, *_runtime_words(runtime))


def _can_predict(task: Task, prepared: Prepared, split: str, config: "Config") -> bool:
    try:
        return bool(task.prediction_samples(prepared, split, config))
    except EmptySplit:
        return False


def _runtime_words(runtime: RuntimeOptions) -> Sequence[str]:
    words = [] if runtime.device == "auto" else ["--device", runtime.device]
    if runtime.no_cache:
        return [*words, "--no-cache"]
    return words if runtime.cache_dir is None else [*words, "--cache-dir", path_word(runtime.cache_dir)]


def after_predicting(
    task: Task, prepared: Prepared, data: StrPath, out: Path, split: str, predicted: Collection[str]
) -> str:
    """Return the command that scores predictions, or packs them if the split has no gold; "" if there is none.

    There is none if predictions are incomplete (some photos or encounters that the split lists may be absent, or
    `--limit` left out), or if a split without gold is not of the challenge: the dataset has no closed questions.

    Args:
        task: what was predicted.
        prepared: the dataset, and `data` its folder as it was given.
        data: as above.
        out: folder of the predictions.
        split: what was predicted.
        predicted: the ids of the samples.
    """
    if task.deliverable in ("pairs", "rankings"):  # any part of a split can be scored, and nothing is submitted
        return command_line("score", path_word(out), path_word(data), "--split", split)
    expected = expected_of(prepared, split)
    required = expected.images if task.deliverable == "masks" else expected.encounters
    if any(needed and name not in predicted for name, needed in required.items()):
        return ""
    if len(task.gold(prepared, split)):
        return command_line("score", path_word(out), path_word(data), "--split", split)
    if not prepared.questions.slots:
        return ""
    words = [f"--{task.name}", path_word(out), *data_words(data), "--split", split]
    return command_line("package", *words, *out_words(Path("submission.zip")))


def after_folds(data: StrPath, predictions: Path) -> str:
    """Return the command that scores the held-out predictions of a cross-validation."""
    words = ("score", path_word(predictions), path_word(data), "--split", "train")
    return command_line(*words, *out_words(predictions.with_name("report"), usual=False))
