"""CLIP and SigLIP: image and text encoders whose vectors share one space, patches too (MAKE paper, section 2.2).

Checkpoints are read from `--weights DIR` or the local Hugging Face cache, never from the network: CLIP and
SigLIP of transformers here, folders of the library open_clip in models/open_clip_encoders.py.
"""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from magic_cli.errors import WeightsError, problem
from magic_cli.models.encoders import Features, ImageEncoder, Output, TextEncoder
from magic_cli.models.huggingface import ClipText, load, normalisation, usable
from magic_cli.models.joint_space import ProjectedImage, special_tokens
from magic_cli.models.open_clip_encoders import open_clip_pair
from magic_cli.models.weights import LOCAL, contrastive_type, model_folder

_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

_HALF = (0.5, 0.5, 0.5)


class ClipImage(ProjectedImage):
    """CLIP's vision transformer: v = proj(LN(class token)), p = proj(LN(patch token))."""

    def __init__(self, model: Any, name: str, folder: Path, size: int, output: Output) -> None:
        super().__init__(size, normalisation(folder, _CLIP_MEAN, _CLIP_STD, Image.Resampling.BICUBIC), output)
        self.source = name
        self.vision_model, self.projection = model.vision_model, model.visual_projection
        self.check_size(model.config.vision_config.patch_size)
        self.channels = (model.config.projection_dim,)
        self.transformer_blocks = "vision_model.encoder.layers"
        last = f"{self.transformer_blocks}.{model.config.vision_config.num_hidden_layers - 1}"
        self.last_stage = (last, "vision_model.post_layernorm", "projection")
        self.log_scale = model.logit_scale.item()
        self.record_weights()

    def forward(self, pixels: Tensor) -> Features:
        """Encode uint8 (B, 3, S, S); position embeddings are interpolated if the checkpoint has another size."""
        whole = self.vision_model(pixel_values=self.normalise(pixels), interpolate_pos_encoding=True)
        if self.output == "pooled":
            return {"pooled": self.projection(whole.pooler_output)}
        vectors = self.projection(self.vision_model.post_layernorm(whole.last_hidden_state))
        return {"pooled": vectors[:, 0], "patches": vectors[:, 1:]}


class SiglipImage(ProjectedImage):
    """SigLIP's vision transformer: v is its attention pooling of all tokens, p that of one token alone.

    So a patch's vector is what the photo's would be if all attention were on this patch: no new weights.
    """

    def __init__(self, model: Any, name: str, folder: Path, size: int, output: Output) -> None:
        super().__init__(size, normalisation(folder, _HALF, _HALF, Image.Resampling.BICUBIC), output)
        self.source, self.vision_model = name, model.vision_model
        self.patch = int(model.config.vision_config.patch_size)
        self.check_size(self.patch)
        self.channels = (model.config.vision_config.hidden_size,)
        self.transformer_blocks = "vision_model.encoder.layers"
        last = f"{self.transformer_blocks}.{model.config.vision_config.num_hidden_layers - 1}"
        self.last_stage = (last, "vision_model.post_layernorm", "vision_model.head")
        self.log_scale, self.logit_bias = model.logit_scale.item(), model.logit_bias.item()
        self.record_weights()

    def _encode(self, pixels: Tensor) -> Any:
        return self.vision_model(pixel_values=pixels, interpolate_pos_encoding=True)

    def forward(self, pixels: Tensor) -> Features:
        """Encode uint8 (B, 3, S, S); position embeddings are interpolated if the checkpoint has another size."""
        whole = self._encode(self.normalise(pixels))
        if self.output == "pooled":
            return {"pooled": whole.pooler_output}
        tokens = whole.last_hidden_state
        alone = self.vision_model.head(tokens.reshape(-1, 1, tokens.shape[2]))
        return {"pooled": whole.pooler_output, "patches": alone.view(tokens.shape)}


class Siglip2Image(SiglipImage):
    """SigLIP 2 of any resolution ("naflex"), whose input is patches; here all photos have one size."""

    def _encode(self, pixels: Tensor) -> Any:
        count, (batch, colours) = self.size // self.patch, pixels.shape[:2]
        grid = pixels.reshape(batch, colours, count, self.patch, count, self.patch)
        patches = grid.permute(0, 2, 4, 3, 5, 1).reshape(batch, count * count, -1)
        every = torch.ones(patches.shape[:2], dtype=torch.long, device=pixels.device)
        return self.vision_model(patches, every, torch.full((batch, 2), count, device=pixels.device))


class SiglipText(TextEncoder):
    """SigLIP's text encoder: {"text": (B, D)}; it reads the last place, so texts are padded to its full length."""

    def __init__(self, model: Any, name: str, folder: Path, window: int) -> None:
        from transformers import AutoTokenizer

        tokenizer = load(AutoTokenizer, name, folder)
        length = int(model.config.text_config.max_position_embeddings)
        super().__init__(min(window, length), special_tokens(tokenizer))
        self.length, self.tokenizer, self.source, self.pad = length, tokenizer, name, tokenizer.pad_token_id
        self.text_model = model.text_model
        self.dim = model.text_model.head.out_features
        self.transformer_blocks = "text_model.encoder.layers"
        last = f"{self.transformer_blocks}.{len(model.text_model.encoder.layers) - 1}"
        self.last_stage = (last, "text_model.final_layer_norm", "text_model.head")
        self.record_weights()

    def ids(self, text: str) -> list[int]:
        """Return SentencePiece ids."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def batch(self, items: Any) -> dict[str, Tensor]:
        """Pad to the length of the checkpoint, as in its training: {"input_ids"} int64 (B, length)."""
        return {"input_ids": torch.tensor([list(item) + [self.pad] * (self.length - len(item)) for item in items])}

    def forward(self, batch: dict[str, Tensor]) -> Features:
        """Encode {"input_ids"} (B, length)."""
        return {"text": self.text_model(**batch).pooler_output}


def contrastive_pair(
    name: str, weights: Path | None, image_size: int, window: int, output: Output = "patches"
) -> tuple[ImageEncoder, TextEncoder]:
    """Load a CLIP, SigLIP or open_clip checkpoint once and return its two encoders, whose vectors share one space.

    Args:
        name: "owner/model", as on the Hub.
        weights: folder of --weights, which is the checkpoint's or contains it; None for the local Hub cache.
        image_size: height and width of photos, a multiple of the patches' size; position embeddings are interpolated.
        window: longest text in tokens; the checkpoint's own limit is the upper bound (`TextEncoder.window`).
        output: "patches", or "pooled" for the vectors of photos only.

    Returns:
        The image encoder, with `log_scale`, `logit_bias`, `dim` and `projected`; the text encoder, with the same `dim`.

    Raises:
        WeightsError: files are missing, damaged, or of another kind of model; one line names folder and file.
        ConfigError: no patches fit the image size.
    """
    kind = contrastive_type(name, weights)
    folder = model_folder(name, weights)
    if kind == "open_clip":
        return open_clip_pair(name, folder, image_size, window, output)
    model = _whole_model(name, folder)
    if kind == "clip":
        return ClipImage(model, name, folder, image_size, output), ClipText(model, name, folder, window)
    if not model.config.vision_config.vision_use_head:
        raise WeightsError(problem(folder, "no pooling head", "a SigLIP that gives vectors", "use another checkpoint"))
    image = SiglipImage if kind == "siglip" else Siglip2Image
    return image(model, name, folder, image_size, output), SiglipText(model, name, folder, window)


def _whole_model(name: str, folder: Path) -> Any:
    """Load a model in float32, all of whose weights are in its files."""
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    with usable(name, folder):
        model, info = AutoModel.from_pretrained(folder, output_loading_info=True, **LOCAL)
        if missing := sorted(info["missing_keys"]):
            raise ValueError(f"no weights for {missing[0]} and {len(missing) - 1} others")
    return model.float().eval()
