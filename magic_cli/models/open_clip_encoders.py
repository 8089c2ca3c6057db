"""Folders of the library open_clip (BiomedCLIP, DermLIP): its models as encoders, loaded from files only.

The library is an extra: `pip install open-clip-torch`. Weights are read as tensors only, never as pickled code.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from magic_cli.errors import WeightsError, problem
from magic_cli.io import json_files
from magic_cli.models.encoders import Features, Output, TextEncoder
from magic_cli.models.huggingface import usable
from magic_cli.models.joint_space import ProjectedImage, special_tokens
from magic_cli.models.weights import OPEN_CLIP_CONFIG, hub_config

# BiomedCLIP's folder lacks the configuration of its text encoder, which is that of BERT base.
_BERT_BASE = ("BiomedNLP-BiomedBERT-base-uncased-abstract", "BiomedNLP-PubMedBERT-base-uncased-abstract")

_MODES = {"bicubic": 3, "bilinear": 2}


class OpenClipImage(ProjectedImage):
    """A vision transformer of open_clip or timm: v as the library gives it, p the same head's output for one patch."""

    def __init__(self, model: Any, name: str, size: int, output: Output) -> None:
        shown = model.visual.preprocess_cfg
        normal = (shown["mean"], shown["std"], _MODES.get(shown["interpolation"], _MODES["bicubic"]))
        super().__init__(size, normal, output)
        self.source, self.visual = name, model.visual
        self.is_timm = hasattr(self.visual, "trunk")
        self.check_size(_patch(self.visual))
        self.log_scale = model.logit_scale.item()
        self.logit_bias = None if model.logit_bias is None else model.logit_bias.item()
        with torch.no_grad():
            self.channels = (self.visual(torch.zeros(1, 3, size, size)).shape[1],)
        after = (
            "visual.ln_post",
            *(f"visual.trunk.{part}" for part in ("norm", "attn_pool", "fc_norm")),
            "visual.head",
        )
        self.transformer_blocks = "visual.trunk.blocks" if self.is_timm else "visual.transformer.resblocks"
        self.last_stage = _last_stage(self, self.transformer_blocks, after)
        self.record_weights()

    def forward(self, pixels: Tensor) -> Features:
        """Encode uint8 (B, 3, S, S)."""
        x = self.normalise(pixels)
        if self.output == "pooled":
            return {"pooled": self.visual(x)}
        made = self.visual.forward_intermediates(x, indices=1, normalize_intermediates=True)
        tokens = made["image_intermediates"][-1].flatten(2).transpose(1, 2)
        return {"pooled": made["image_features"], "patches": self._projected(tokens)}

    def _projected(self, tokens: Tensor) -> Tensor:
        """Return (B, P, D) of normed patch tokens (B, P, width)."""
        if not self.is_timm:
            return torch.matmul(tokens, self.visual.proj)
        # a sequence of this patch only, also in place of the class token: any pooling returns the patch
        alone = tokens.reshape(-1, 1, tokens.shape[2]).expand(-1, 1 + self.visual.trunk.num_prefix_tokens, -1)
        vectors: Tensor = self.visual.head(self.visual.trunk.forward_head(alone))
        return vectors.view(*tokens.shape[:2], -1)


class OpenClipText(TextEncoder):
    """A text encoder of open_clip, its own transformer or one of transformers: {"text": (B, D)}."""

    def __init__(self, model: Any, name: str, tokenizer: Any, window: int, dim: int) -> None:
        is_hub = hasattr(tokenizer, "tokenizer")
        special = (
            special_tokens(tokenizer.tokenizer) if is_hub else ([tokenizer.sot_token_id], [tokenizer.eot_token_id])
        )
        if getattr(tokenizer, "strip_sep_token", False):  # open_clip puts 0 in its place
            special = (special[0], [0] * len(special[1]))
        super().__init__(min(window, int(tokenizer.context_length)), special)
        self.source, self.dim, self.text = name, dim, model.text
        self.tokenizer, self.wrapped = tokenizer.tokenizer if is_hub else None, tokenizer
        self.pad = tokenizer.tokenizer.pad_token_id if is_hub else 0
        self.length = 0 if hasattr(self.text, "config") else int(tokenizer.context_length)
        is_bert = hasattr(self.text, "config")
        self.transformer_blocks = "text.transformer.encoder.layer" if is_bert else "text.transformer.resblocks"
        self.last_stage = _last_stage(
            self, self.transformer_blocks, ("text.ln_final", "text.text_projection", "text.proj")
        )
        self.record_weights()

    def ids(self, text: str) -> list[int]:
        """Return the ids of a text that was cleaned as in the training of the checkpoint."""
        if self.tokenizer is None:
            return list(self.wrapped.encode(text))
        clean = self.wrapped.clean_fn(text)
        return list(self.tokenizer(clean, add_special_tokens=False, verbose=False)["input_ids"])

    def batch(self, items: Any) -> dict[str, Tensor]:
        """Pad to the longest item, for open_clip's own transformer to its full length: {"input_ids"} int64 (B, L)."""
        longest = max(self.length, *(len(item) for item in items))
        return {"input_ids": torch.tensor([list(item) + [self.pad] * (longest - len(item)) for item in items])}

    def forward(self, batch: dict[str, Tensor]) -> Features:
        """Encode {"input_ids"} (B, L)."""
        return {"text": self.text(batch["input_ids"])}


def open_clip_pair(
    name: str, folder: Path, image_size: int, window: int, output: Output
) -> tuple[OpenClipImage, OpenClipText]:
    """Load a folder with open_clip_config.json once; as models/contrastive_encoders.py's `contrastive_pair`."""
    from open_clip import create_model, get_tokenizer

    text = _text_settings(folder)
    tokenizer_options = {"local_files_only": True} if text.get("hf_tokenizer_name") else {}
    with tempfile.TemporaryDirectory() as place:
        if hub_name := text.get("hf_model_name"):
            text |= {
                "hf_model_name": str(_text_config(folder, str(hub_name), Path(place))),
                "hf_model_pretrained": False,
            }
        with usable(name, folder):
            tokenizer = get_tokenizer(f"local-dir:{folder}", **tokenizer_options)
            model = create_model(
                f"local-dir:{folder}",
                force_custom_text=True,
                force_image_size=image_size,
                require_pretrained=True,
                weights_only=True,
                text_cfg=text,
            )
    if not _patch(model.visual):
        raise _other(folder, "no vision transformer with a vector per patch")
    images = OpenClipImage(model.float().eval(), name, image_size, output)
    return images, OpenClipText(model, name, tokenizer, window, images.dim)


def _other(folder: Path, got: str) -> WeightsError:
    return WeightsError(problem(folder / OPEN_CLIP_CONFIG, got, "a CLIP of open_clip", "use another checkpoint"))


def _text_settings(folder: Path) -> dict[str, Any]:
    """Return text_cfg of a folder's configuration, which needs neither the network nor more than a CLIP has."""
    content = json_files.read_json(folder / OPEN_CLIP_CONFIG)
    config = content.get("model_cfg") if isinstance(content, dict) else None
    config = config if isinstance(config, dict) else {}
    vision, text = config.get("vision_cfg"), config.get("text_cfg")
    if not isinstance(vision, dict) or not isinstance(text, dict) or "multimodal_cfg" in config:
        raise _other(folder, "no vision_cfg and text_cfg of a CLIP")
    if ":" in str(vision.get("timm_model_name")):
        raise _other(folder, "an image encoder of the Hub")
    if text.get("tokenizer_mode"):
        raise _other(folder, f"tokenizer_mode {str(text['tokenizer_mode'])[:40]!r}")
    return dict(text)


def _text_config(folder: Path, hub_name: str, place: Path) -> Path:
    """Return a folder with config.json of the text encoder, which is not always among the files of the checkpoint.

    Raises:
        WeightsError: it is nowhere; the message says where to copy it to.
    """
    short = hub_name.rsplit("/", 1)[-1]
    for candidate in (folder / short, folder.parent / short, folder):
        if (candidate / "config.json").is_file():
            return candidate
    if (cached := hub_config(hub_name)) is not None:
        return cached.parent
    if not short.startswith(_BERT_BASE):
        remedy = f"copy it from https://huggingface.co/{hub_name} to {folder / short}/"
        raise WeightsError(problem(folder, "no config.json of its text encoder", f"that of {hub_name}", remedy))
    from transformers import BertConfig

    BertConfig().save_pretrained(place)
    return place


def _patch(visual: Any) -> int:
    """Return the height and width of a patch in pixels; 0 if an image encoder has no vectors for patches."""
    if hasattr(visual, "trunk"):
        embed = getattr(visual.trunk, "patch_embed", None)
        return int(embed.patch_size[0]) if hasattr(visual.trunk, "num_prefix_tokens") and embed is not None else 0
    return int(visual.patch_size[0]) if hasattr(visual, "ln_post") and visual.attn_pool is None else 0


def _last_stage(encoder: nn.Module, path: str, after: Sequence[str]) -> tuple[str, ...]:
    """Return the path of the last of the blocks at a path, and those after it that exist.

    Projections that are no modules but bare matrices, as in open_clip's own encoders, are not among them.
    """
    modules = dict(encoder.named_modules())
    last = f"{path}.{len(list(modules[path].children())) - 1}"
    return (last, *(name for name in after if name in modules and any(True for _ in modules[name].parameters())))
