"""The model of contrastive pretraining, and what it is made of; imports torch."""

from magic_cli.tasks.pretrain.model.contrastive import PretrainModel, build
from magic_cli.tasks.pretrain.model.notes import training_notes

__all__ = ["PretrainModel", "build", "training_notes"]
