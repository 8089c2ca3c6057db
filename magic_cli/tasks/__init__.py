"""The tasks, each a plain module with the functions and the constant that engine.Task lists."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from magic_cli.config import Config, resolve
from magic_cli.errors import WeightsError
from magic_cli.models.weights import hub_dir
from magic_cli.tasks.cvqa.config import CvqaConfig
from magic_cli.tasks.seg.config import SegConfig

CONFIGS: dict[str, type[Config]] = {config.task: config for config in (SegConfig, CvqaConfig)}

NAMES = tuple(CONFIGS)

DECISIONS = {"seg": ("threshold", "largest", "fill_holes"), "cvqa": ("decode",)}

"""The options of each task's `write`: what can be decided anew from the same probabilities."""


def load(name: str) -> Any:
    """Return the module of a task by its name; it satisfies engine.Task and imports no torch."""
    return import_module(f"magic_cli.tasks.{name}")


def check_weights(name: str, preset: str, settings: Sequence[str], **flags: Any) -> None:
    """Look for the Hub checkpoints that a run will load, before it takes seconds to load torch.

    Raises:
        WeightsError: some are not here; a line for each lists the files to bring.
        ConfigError: the settings are wrong.
    """
    config = resolve(CONFIGS[name], preset or "small", settings, **flags)
    lines: list[str] = []
    for hub_name in dict.fromkeys((config.image_encoder, config.text_encoder)):
        try:
            if "/" in hub_name:
                hub_dir(hub_name, config.weights_path)
        except WeightsError as error:
            lines += error.problems
    if lines:
        raise WeightsError(lines)
