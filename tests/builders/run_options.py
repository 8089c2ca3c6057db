"""Options of runs on the CPU, for tests of training and prediction."""

from pathlib import Path
from typing import Any

from magic_cli.commands.predict import PredictOptions
from magic_cli.commands.run_setup import TrainOptions
from magic_cli.training.runtime import RuntimeOptions


def train_options(cache: Path | None, *settings: str, preset: str = "tiny", **more: Any) -> TrainOptions:
    """Return training options with a cache in this folder, or without a cache."""
    runtime = RuntimeOptions("cpu", cache, no_cache=cache is None)
    return TrainOptions(preset=preset, settings=settings, runtime=runtime, **more)


def predict_options(cache: Path | None, **more: Any) -> PredictOptions:
    """Return prediction options with a cache in this folder, or without a cache."""
    return PredictOptions(runtime=RuntimeOptions("cpu", cache, no_cache=cache is None), **more)
