"""The two encoders of retrieval: levels of a photo, and the tokens of its words."""

from pathlib import Path

from magic_cli.models import huggingface
from magic_cli.models.encoders import ImageEncoder
from magic_cli.models.fine_tuning import tune
from magic_cli.models.retrieval.tokens import TokenText
from magic_cli.models.weights import SWINS, is_kind
from magic_cli.tasks.encoding import load_run, pretrained, text_encoder
from magic_cli.tasks.retrieve.config import RetrieveConfig


def level_encoders(config: RetrieveConfig) -> tuple[ImageEncoder, TokenText]:
    """Return the encoders that a config names, tuned as it says; a Swin has levels of its own.

    Raises:
        WeightsError, CheckpointError: weights or a run are missing or damaged. ConfigError: an unknown name, or a text
            encoder without tokens.
    """
    if is_kind(config.image_encoder, config.weights_path, SWINS):
        merged = config.levels == "comquery"
        images: ImageEncoder = huggingface.SwinLevels(
            config.image_encoder, config.weights_path, config.image_size, merged
        )
        if config.image_weights:
            load_run(images, Path(config.image_weights), "images", projected=False)
        texts = text_encoder(config)
    else:
        images, texts = pretrained(config, "pyramid")
    tokens = TokenText(texts, 3 if config.text_layers == "three" else 1)
    tune(images, config)
    if config.composition == "none":
        tokens.freeze()
    else:
        tune(tokens, config)
    return images, tokens
