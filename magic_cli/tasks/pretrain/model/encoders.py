"""The two encoders of contrastive pretraining: their features, and the projections into the joint space."""

from torch import nn

from magic_cli.models.encoders import ImageEncoder, TextEncoder
from magic_cli.models.projection import Normalised, Projection
from magic_cli.tasks.encoding import pretrained
from magic_cli.tasks.pretrain.config import PretrainConfig


def pair_encoders(config: PretrainConfig) -> tuple[ImageEncoder, TextEncoder]:
    """Return the encoders that a config names: both of one checkpoint (CLIP, SigLIP), or two of their own."""
    return pretrained(config, "patches")


def projections(images: ImageEncoder, texts: TextEncoder, dim: int) -> tuple[nn.Module, nn.Module]:
    """Return the projections of both encoders; nothing is learned where features are in the joint space already."""
    if images.projected and images.source == texts.source:
        return Normalised(), Normalised()
    return Projection(images.dim, dim), Projection(texts.dim, dim)
