"""Options of runs on the CPU, for tests of training and prediction."""

from pathlib import Path
from typing import Any

from magic_cli.commands.predict import PredictOptions
from magic_cli.commands.run_setup import TrainOptions
from magic_cli.training.runtime import RuntimeOptions


def train_options(cache: Path | None, *settings: str, preset: str = "tiny", **more: Any) -> TrainOptions:
    """Return options of a training with a cache in this folder, or without one."""
    runtime = RuntimeOptions("cpu", cache, no_cache=cache is None)
    return TrainOptions(preset=preset, settings=settings, runtime=runtime, **more)


def predict_options(cache: Path | None, **more: Any) -> PredictOptions:
    """Return options of a prediction with a cache in this folder, or without one."""
    return PredictOptions(runtime=RuntimeOptions("cpu", cache, no_cache=cache is None), **more)
