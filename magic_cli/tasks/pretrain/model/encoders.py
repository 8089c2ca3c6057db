"""The two encoders of contrastive pretraining: their features, and the projections into the joint space."""

from torch import nn

from magic_cli.errors import ConfigError, problem
from magic_cli.models.encoders import ImageEncoder, TextEncoder
from magic_cli.models.fine_tuning import checkpoint_activations, tune
from magic_cli.models.projection import Normalised, Projection
from magic_cli.tasks.encoding import pretrained
from magic_cli.tasks.pretrain.config import PretrainConfig


def pair_encoders(config: PretrainConfig) -> tuple[ImageEncoder, TextEncoder]:
    """Return the encoders that a config names, tuned as it says: both of one checkpoint, or two of their own.

    Raises:
        ConfigError: neither can compute its activations anew, as `gradient_checkpointing` asks.
    """
    both = pretrained(config, "patches")
    for encoder in both:
        tune(encoder, config)
    can = [checkpoint_activations(encoder) for encoder in both] if config.gradient_checkpointing else [True]
    if not any(can):
        got, remedy = "encoders that cannot do it", "use --set gradient_checkpointing=false"
        raise ConfigError(problem("gradient_checkpointing", got, "transformers", remedy))
    return both


def projections(images: ImageEncoder, texts: TextEncoder, dim: int, dropout: float) -> tuple[nn.Module, nn.Module]:
    """Return the projections of both encoders; nothing is learned where features are in the joint space already."""
    if images.projected and images.source == texts.source:
        return Normalised(), Normalised()
    return Projection(images.dim, dim, dropout), Projection(texts.dim, dim)
