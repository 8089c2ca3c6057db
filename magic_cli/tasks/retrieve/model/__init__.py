"""The model of composed case retrieval, and what it is made of; imports torch."""

from magic_cli.tasks.retrieve.model.composed import RetrieveModel, build

__all__ = ["RetrieveModel", "build"]
