"""The registry of the tasks; code outside this package obtains a task only through it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from magic_cli.errors import ConfigError, WeightsError, problem, redact
from magic_cli.training.task import Task

if TYPE_CHECKING:
    from magic_cli.config import Config

NAMES = ("seg", "cvqa", "pretrain", "retrieve")

# by what a submission holds of a task, so that scoring one loads that one only
BY_DELIVERABLE = {"masks": "seg", "answers": "cvqa", "pairs": "pretrain", "rankings": "retrieve"}


_OTHER = "give the folder of another checkpoint (examples/encoders.md)"


def get(name: str) -> Task:
    """Return a task by its name, one of NAMES; its package is imported on this call, without torch.

    Raises:
        ConfigError: no task has this name.
    """
    if name not in NAMES:
        raise ConfigError(problem("task", redact(name, words=True), " or ".join(NAMES), "choose one of these"))
    task: Task = import_module(f"magic_cli.tasks.{name}").TASK
    return task


def config_class(name: str) -> type[Config]:
    """Return the class of a task's settings."""
    return get(name).config_class


def with_runs(config: Config) -> Config:
    """Return settings in which every pretraining run that they name is resolved; see tasks/pretraining_runs.py."""
    from magic_cli.tasks import pretraining_runs

    return pretraining_runs.with_runs(config)


def check_weights(config: Config) -> None:
    """Check that the Hub checkpoints that a run needs are on this machine, before the slow import of torch.

    Raises:
        WeightsError: some are missing or cut off, one line per checkpoint lists the files to copy; or one is of another
            kind than its setting asks for.
    """
    from magic_cli.models.weights import BACKBONES, IMAGE_KINDS, TIMM, model_type

    lines: list[str] = []
    kinds: dict[str, str] = {}
    for hub_name in dict.fromkeys((config.image_encoder, config.text_encoder)):
        try:
            if "/" in hub_name:
                kinds[hub_name] = model_type(hub_name, config.weights_path)
        except WeightsError as error:
            lines += error.problems
    images, texts = kinds.get(config.image_encoder), kinds.get(config.text_encoder)
    if images is not None and images not in IMAGE_KINDS:
        expected = f"one of {', '.join(IMAGE_KINDS)}"
        lines.append(problem(f"image_encoder {config.image_encoder}", f"model_type {images[:40]!r}", expected, _OTHER))
    if texts in (*BACKBONES, TIMM):
        lines.append(problem(f"text_encoder {config.text_encoder}", f"model_type {texts!r}", "one of texts", _OTHER))
    if lines:
        raise WeightsError(lines)
