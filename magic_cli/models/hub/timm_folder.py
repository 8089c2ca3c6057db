"""Folders of the library timm as image encoders: plain vision transformers and convolutional networks, from files only.

A folder has config.json with "architecture", as on the Hub, and model.safetensors or pytorch_model.bin; a config.json
of {"architecture": "resnet50"} beside a state dict whose names are timm's is enough. Weights are read as tensors only,
and the network has no classifier.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from magic_cli.errors import ConfigError, problem
from magic_cli.io import json_files
from magic_cli.models.backbones import simple_pyramid
from magic_cli.models.encoders import Features, ImageEncoder, Output, mode_of
from magic_cli.models.huggingface import IMAGENET_MEAN, IMAGENET_STD, usable

_LEVELS = 4

_MODES = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

_PATH = "trunk"  # the network, as open_clip calls those of timm

_SPATIAL = 4  # axes of a map of features


class TimmImage(ImageEncoder):
    """A network of timm; "pooled" is what its classifier reads, a patch the same head's output for one place alone.

    The levels of a pyramid are the last four maps, of a vision transformer as of models/backbones.py.
    """

    def __init__(self, name: str, folder: Path, size: int, output: Output) -> None:
        """Load it.

        Raises:
            WeightsError: an architecture that timm does not know, or weights that are not all that it needs.
            ConfigError: a network of another kind, or a size that its patches do not cover.
        """
        with usable(name, folder):
            config = json_files.read_json(folder / "config.json")
            assert isinstance(config, dict)  # noqa: S101  weights.py has seen it
            shown = config.get("pretrained_cfg") or {}
            mean, std = tuple(shown.get("mean") or IMAGENET_MEAN), tuple(shown.get("std") or IMAGENET_STD)
            mode = _MODES.get(str(shown.get("interpolation")), Image.Resampling.BICUBIC)
            super().__init__(size, mean, std, mode)
            self.source, self.output = name, output
            self.trunk = _network(str(config["architecture"]))
            _load(self.trunk, folder)
        self.is_vit = hasattr(self.trunk, "num_prefix_tokens") and hasattr(self.trunk, "patch_embed")
        self.check_size(int(self.trunk.patch_embed.patch_size[0]) if self.is_vit else 32)
        blank = torch.zeros(1, 3, size, size)
        with torch.no_grad():
            whole = self.trunk.forward_features(blank)
            is_map = whole.ndim == _SPATIAL and whole.shape[1] == getattr(self.trunk, "num_features", 0)
            if not (self.is_vit or is_map) or not hasattr(self.trunk, "forward_intermediates"):
                got, expected = type(self.trunk).__name__, "a plain vision transformer, or a convolutional network"
                raise ConfigError(problem(f"{folder}/config.json", got, expected, "use another checkpoint"))
            levels = self._levels(blank) if output == "pyramid" else [self._vectors(whole)["pooled"]]
        self.channels = tuple(level.shape[1] for level in levels)
        self._name_stages()
        self.record_weights()

    def _name_stages(self) -> None:
        """Set the modules that outputs depend on, and the last of them."""
        if self.is_vit:
            self.transformer_blocks = f"{_PATH}.blocks"
            depth = len(self.trunk.blocks)
            last = tuple(f"{_PATH}.blocks.{number}" for number in range(depth - max(1, depth // _LEVELS), depth))
            kept = ("norm",) if self.output == "pyramid" else ("norm", "fc_norm", "attn_pool")
            self.used = _with_weights(self.trunk, leave_out={"norm", "fc_norm", "attn_pool"} - set(kept))
        else:
            end = str(self.trunk.feature_info[-1]["module"])
            names = [name for name, _ in self.trunk.named_children()]
            after = names[names.index(end.split(".")[0]) + 1 :]
            last = (f"{_PATH}.{end}",)
            kept = () if self.output == "pyramid" else tuple(after)
            self.used = _with_weights(self.trunk, leave_out=set(after) - set(kept))
        self.last_stage = (*last, *(path for path in self.used if path.removeprefix(f"{_PATH}.") in kept))

    def preprocessing(self) -> str:
        """Return also the output."""
        return f"{super().preprocessing()} {mode_of(self.output)}"

    def forward(self, pixels: Tensor) -> Features:
        """Encode uint8 (B, 3, S, S)."""
        x = self.normalise(pixels)
        if self.output == "pyramid":
            return {f"p{number}": level for number, level in enumerate(self._levels(x))}
        return self._vectors(self.trunk.forward_features(x))

    def _levels(self, x: Tensor) -> list[Tensor]:
        """Return the maps (B, C, h, w), fine to coarse."""
        if not self.is_vit:
            maps: Sequence[Tensor] = self.trunk.forward_intermediates(x, intermediates_only=True)
            return list(maps[-_LEVELS:])
        depth = len(self.trunk.blocks)
        count = min(_LEVELS, depth)
        chosen = [depth * number // count - 1 for number in range(1, count + 1)]
        return simple_pyramid(self.trunk.forward_intermediates(x, indices=chosen, norm=True, intermediates_only=True))

    def _vectors(self, whole: Tensor) -> Features:
        """Return {"pooled": (B, D)}, and {"patches": (B, P, D)} if they are asked for."""
        features = {"pooled": self.trunk.forward_head(whole, pre_logits=True)}
        if self.output != "patches":
            return features
        if self.is_vit:
            first = self.trunk.num_prefix_tokens
            places = whole[:, first:]
            alone = places.reshape(-1, 1, places.shape[2]).expand(-1, 1 + first, -1)
        else:
            places = whole.flatten(2).transpose(1, 2)
            alone = places.reshape(-1, places.shape[2], 1, 1)
        patches: Tensor = self.trunk.forward_head(alone, pre_logits=True)
        return features | {"patches": patches.view(*places.shape[:2], -1)}


def _network(architecture: str) -> Any:
    """Return a network of timm without weights and classifier, that takes photos of any size."""
    import timm

    if not timm.is_model(architecture):
        raise ValueError(f"timm {timm.__version__} has no {architecture[:60]!r}")
    try:
        return timm.create_model(architecture, pretrained=False, num_classes=0, dynamic_img_size=True).eval()
    except TypeError:  # no transformer
        return timm.create_model(architecture, pretrained=False, num_classes=0).eval()


def _load(net: Any, folder: Path) -> None:
    """Load the weights of a folder; those of a classifier are left out."""
    if (folder / "model.safetensors").is_file():
        from safetensors.torch import load_file

        tensors = load_file(folder / "model.safetensors")
    else:
        tensors = torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
        tensors = tensors.get("state_dict", tensors)
    own = net.state_dict()
    if missing := [name for name in own if name not in tensors]:
        raise ValueError(f"no weights for {missing[0]} and {len(missing) - 1} others")
    net.load_state_dict({name: tensors[name].to(own[name].dtype) for name in own})


def _with_weights(net: Any, leave_out: set[str]) -> tuple[str, ...]:
    """Return the paths of the parts of a network that have weights, single tensors too."""
    names = dict.fromkeys(name.split(".")[0] for name, _ in net.named_parameters())
    return tuple(f"{_PATH}.{name}" for name in names if name not in leave_out)
