"""The model of contrastive pretraining, and what it is made of; imports torch."""

from magic_cli.tasks.pretrain.model.contrastive import PretrainModel, build

__all__ = ["PretrainModel", "build"]
