"""The tasks, each a plain module with the four functions of the seam (engine.Task)."""

from importlib import import_module
from typing import Any

NAMES = ("seg", "cvqa")


def load(name: str) -> Any:
    """Return the module of a task by its name; it satisfies engine.Task and imports no torch."""
    return import_module(f"magic_cli.tasks.{name}")
