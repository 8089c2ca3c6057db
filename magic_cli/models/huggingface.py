"""Hugging Face checkpoints of the `paper` presets, from the local cache or a folder, never from the network.

CLIPSeg is used as released (transformers), not as the paper describes it: FiLM conditioning at the deepest tap instead
of concatenation, 1,127,009 trainable decoder parameters instead of "about 6.5 M" (examples/evidence.md, "The paper's
CLIPSeg, faithfully").
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn

from magic_cli.errors import WeightsError
from magic_cli.io.progress import log
from magic_cli.models.encoders import BertText, Features, ImageEncoder, TextEncoder
from magic_cli.models.weights import LOCAL, hub_dir

# CLIPSeg was trained on photos normalised with ImageNet's statistics, unlike the CLIP inside it.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@contextmanager
def usable(name: str, folder: Any) -> Iterator[None]:
    """Turn any error of `from_pretrained` about missing or damaged files into a WeightsError that names the folder."""
    try:
        yield
    except Exception as error:  # damaged files can raise anything
        first = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise WeightsError(f"{folder}: not a usable checkpoint of {name} ({first}); copy all of its files") from None


def load(kind: Any, name: str, folder: Any) -> Any:
    """Return `kind.from_pretrained(folder)`, from files only.

    Raises:
        WeightsError: files are missing, damaged or of another model.
    """
    with usable(name, folder):
        return kind.from_pretrained(folder, **LOCAL)


def normalisation(
    folder: Any, mean: tuple[float, ...], std: tuple[float, ...], resample: int = Image.Resampling.BILINEAR
) -> tuple[Any, Any, int]:
    """Return mean, std and resampling of the checkpoint's image processor, or else the published ones."""
    from transformers import AutoImageProcessor

    try:
        processor = AutoImageProcessor.from_pretrained(folder, **LOCAL)
    except (OSError, ValueError):
        log(f"{folder}: no preprocessor_config.json; photos are normalised with the published mean {mean}")
        return mean, std, resample
    return processor.image_mean, processor.image_std, int(getattr(processor, "resample", Image.Resampling.BILINEAR))


class ClipVision(ImageEncoder):
    """The vision transformer of CLIPSeg up to its last tapped block (10 of 12): {"tap0", "tap1", "tap2"}.

    Each tap is (B, 1 + patches, width): the hidden states that CLIPSeg's decoder reads, in its order.
    """

    def __init__(self, model: Any, name: str, folder: Any, size: int) -> None:
        super().__init__(size, *normalisation(folder, IMAGENET_MEAN, IMAGENET_STD))
        self.source, self.taps = name, tuple(model.extract_layers)
        vision = model.clip.vision_model
        self.embeddings, self.norm = vision.embeddings, vision.pre_layrnorm
        # Blocks after the last tap do not reach the decoder: leaving them out changes nothing.
        self.blocks = nn.ModuleList(vision.encoder.layers[: max(self.taps) + 1])
        self.channels = (model.config.vision_config.hidden_size,) * len(self.taps)
        before = sorted(self.taps)[-2] if len(self.taps) > 1 else len(self.blocks) - 2
        self.last_stage = tuple(f"blocks.{number}" for number in range(before + 1, len(self.blocks)))
        self.transformer_blocks = "blocks"
        self.record_weights()

    def forward(self, pixels: Tensor) -> Features:
        """Encode uint8 (B, 3, S, S)."""
        hidden = self.norm(self.embeddings(self.normalise(pixels), interpolate_pos_encoding=True))
        taps = {}
        for number, block in enumerate(self.blocks):
            out = block(hidden, attention_mask=None)
            hidden = out if isinstance(out, Tensor) else out[0]
            if number in self.taps:
                taps[f"tap{self.taps.index(number)}"] = hidden
        return taps


class ClipText(TextEncoder):
    """The projected text encoder of a CLIP, or CLIPSeg's: {"text": (B, D)}; up to 77 tokens, with the end token."""

    def __init__(self, clip: Any, name: str, folder: Any, window: int) -> None:
        from transformers import CLIPTokenizerFast

        tokenizer = load(CLIPTokenizerFast, name, folder)
        limit = clip.config.text_config.max_position_embeddings
        super().__init__(min(window, limit), ([tokenizer.bos_token_id], [tokenizer.eos_token_id]))
        self.tokenizer, self.source, self.pad = tokenizer, name, tokenizer.pad_token_id
        self.text_model, self.projection = clip.text_model, clip.text_projection
        self.dim = clip.config.projection_dim
        last = len(self.text_model.encoder.layers) - 1
        self.transformer_blocks = "text_model.encoder.layers"
        self.last_stage = (f"{self.transformer_blocks}.{last}", "text_model.final_layer_norm", "projection")
        self.record_weights()

    def ids(self, text: str) -> list[int]:
        """Return CLIP byte-pair ids."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def forward(self, batch: dict[str, Tensor]) -> Features:
        """Encode {"input_ids", "attention_mask"} (B, L)."""
        return {"text": self.projection(self.text_model(**batch).pooler_output)}


class ClipSegHead(nn.Module):
    """CLIPSeg's decoder of the taps to logits (B, S, S)."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, features: Features, text: Tensor) -> Tensor:
        """Decode {"tap0", …}, conditioned on text vectors (B, 512)."""
        taps = [features[f"tap{i}"] for i in range(len(features))]
        logits: Tensor = self.decoder(tuple(taps), text).logits
        return logits

    def maps(self, features: Features, text: Tensor) -> list[Tensor]:
        """Return the logits of `forward`, the only map: there are no coarser levels to supervise."""
        return [self(features, text)]


def clipseg(name: str, weights: Path | None, size: int, window: int) -> tuple[ClipVision, ClipText, ClipSegHead]:
    """Load CLIPSeg once and return its two encoders and its decoder.

    Raises:
        WeightsError: the checkpoint is neither in `weights` nor in the local Hugging Face cache.
    """
    from transformers import CLIPSegForImageSegmentation

    folder = hub_dir(name, weights)
    model = load(CLIPSegForImageSegmentation, name, folder)
    vision, text = ClipVision(model, name, folder, size), ClipText(model.clip, name, folder, window)
    return vision, text, ClipSegHead(model.decoder)


class SwinPooled(ImageEncoder):
    """Swin's patch embeddings, mean-pooled (paper section 4.2.3): {"pooled": (B, width)}."""

    output = "pooled"

    def __init__(self, name: str, weights: Path | None, size: int) -> None:
        from transformers import AutoModel

        folder = hub_dir(name, weights)
        super().__init__(size, *normalisation(folder, IMAGENET_MEAN, IMAGENET_STD))
        self.net, self.source = load(AutoModel, name, folder), name
        self.last_stage = (f"net.encoder.layers.{len(self.net.encoder.layers) - 1}", "net.layernorm")
        self.channels = (int(getattr(self.net, "num_features", 0) or self.net.config.hidden_size),)
        self.record_weights()

    def forward(self, pixels: Tensor) -> Features:
        """Encode uint8 (B, 3, S, S)."""
        return {"pooled": self.net(pixel_values=self.normalise(pixels)).last_hidden_state.mean(1)}


class SwinLevels(ImageEncoder):
    """Swin's stages as a pyramid {"p0", "p1", …}: (B, width, h, w), fine to coarse.

    They are the stages, of Swin-T 96, 192, 384, 768 channels at strides 4, 8, 16, 32. With `merged`, they are what
    follows the merging of patches, as ComqueryFormer has them (Xu et al., IEEE TMM 2023): 96, 192, 384, 768, 768
    channels at strides 4, 8, 16, 32, 32, the last one normalised.
    """

    output = "pyramid"

    def __init__(self, name: str, weights: Path | None, size: int, merged: bool = False) -> None:
        from transformers import AutoModel

        folder = hub_dir(name, weights)
        super().__init__(size, *normalisation(folder, IMAGENET_MEAN, IMAGENET_STD))
        self.net, self.source, self.merged = load(AutoModel, name, folder), name, merged
        depth, width = len(self.net.encoder.layers), self.net.config.embed_dim
        after = ("net.layernorm",) if merged else ()
        self.last_stage = (f"net.encoder.layers.{depth - 1}", *after)
        self.used = ("net.embeddings", "net.encoder", *after)
        stages = tuple(width << number for number in range(depth))
        self.channels = (*stages, stages[-1]) if merged else stages
        self.record_weights()

    def preprocessing(self) -> str:
        """Return also which levels there are."""
        return f"{super().preprocessing()} merged={self.merged}"

    def forward(self, pixels: Tensor) -> Features:
        """Encode uint8 (B, 3, S, S)."""
        places, (height, width) = self.net.embeddings(self.normalise(pixels))
        ahead = {"output_hidden_states": True, "output_hidden_states_before_downsampling": not self.merged}
        levels = list(self.net.encoder(places, (height, width), **ahead).reshaped_hidden_states)
        if self.merged:
            last = levels[-1]
            levels[-1] = self.net.layernorm(last.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(last.shape)
        else:
            levels = levels[1:]  # without the embedded patches: each stage before its patches are merged
        return {f"p{number}": level for number, level in enumerate(levels)}


def bert(name: str, weights: Path | None, window: int) -> BertText:
    """Load a BERT by name or from a folder; its [CLS] embedding is the vector of a text."""
    folder = hub_dir(name, weights)
    with usable(name, folder):
        return BertText(folder, window, "cls", name)
