"""Contrastive losses of photos and their texts, exact over several processes: MAKE and what it is compared with."""

from magic_cli.models.contrastive.features import ContrastiveLoss, ContrastiveOptions, PairFeatures
from magic_cli.models.contrastive.loss import contrastive_loss

__all__ = ["ContrastiveLoss", "ContrastiveOptions", "PairFeatures", "contrastive_loss"]
