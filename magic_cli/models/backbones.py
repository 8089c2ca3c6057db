"""SegFormer, Swin, ConvNeXt, ViT, DINOv2 and DINOv3 of the Hub as image encoders: a pyramid for masks, or vectors.

Checkpoints are read from `--weights DIR` or the local Hugging Face cache, never from the network, as backbones and
models of transformers.

| family | levels of the pyramid | stride of a vector's patch |
|--------|-----------------------|----------------------------|
| SegFormer (MiT), Swin, Swin V2, ConvNeXt, ConvNeXt V2, DINOv3 ConvNeXt | the outputs of its stages, at strides 4, 8, \
16, 32 | 32 |
| DINOv2, also with registers, DINOv3 ViT, ViT | its blocks in four equal parts; the last map of each part, resampled \
bilinearly to 4, 2, 1 and 1/2 times its side | 14 or 16 |

The second is the simple feature pyramid of ViTDet (Li et al., ECCV 2022), with bilinear resampling, which has no
weights, for its transposed convolutions, and with a map of its own for each level.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from magic_cli.models.encoders import Features, ImageEncoder, Output, mode_of
from magic_cli.models.huggingface import IMAGENET_MEAN, IMAGENET_STD, normalisation, usable
from magic_cli.models.weights import LOCAL, model_folder

_LEVELS = 4

_NORMS = "hidden_states_norms"  # one per level of a backbone, at first scale 1 and shift 0: checkpoints have none

_VIT = "vit"

_ANY_SIZE = {"interpolate_pos_encoding": True}  # the other families do it unasked

_LAST_NORMS = ("layernorm", "layer_norm", "norm")


class Backbone(ImageEncoder):
    """A network of transformers, whose stages are trained, or frozen, one after the other.

    Attributes:
        stages: paths of the modules of each stage, from the photo on; all that the outputs depend on.
        stride: pixels from one place of the coarsest map of the network to the next.
        is_isotropic: whether all blocks have this stride (a plain vision transformer).
    """

    def __init__(self, name: str, weights: Path | None, size: int, output: Output) -> None:
        from transformers import AutoConfig

        folder = model_folder(name, weights)
        super().__init__(size, *normalisation(folder, IMAGENET_MEAN, IMAGENET_STD, Image.Resampling.BICUBIC))
        self.source, self.output = name, output
        with usable(name, folder):
            settings = AutoConfig.from_pretrained(folder, **LOCAL)
            self.is_isotropic, self.stride = isinstance(depth_of(settings), int), stride_of(settings)
        self.check_size(self.stride)
        self.net = self._load(name, folder, settings)
        for module in self.net.modules():
            if getattr(module, "mask_token", None) is not None:
                module.mask_token = None  # of pretraining: no output depends on it
        self.stages = _stages(self.net, min(_LEVELS, depth_of(settings)) if self.is_isotropic else _LEVELS)
        self.last_stage = self.stages[-1]
        self.transformer_blocks = self.stages[0][0].rpartition(".")[0] if self.is_isotropic else ""

    def _load(self, name: str, folder: Path, settings: Any) -> Any:
        """Return the network with its weights."""
        raise NotImplementedError

    def preprocessing(self) -> str:
        """Return also the output."""
        return f"{super().preprocessing()} {mode_of(self.output)}"


class BackbonePyramid(Backbone):
    """{"p0", "p1", …}: (B, width, h, w), fine to coarse, each half as high and wide as the one before, rounded up."""

    def __init__(self, name: str, weights: Path | None, size: int) -> None:
        super().__init__(name, weights, size, "pyramid")
        self.record_weights()

    def _load(self, name: str, folder: Path, settings: Any) -> Any:
        from transformers import MODEL_FOR_BACKBONE_MAPPING, AutoModel

        if settings.model_type == "segformer":  # not among transformers' backbones
            settings.reshape_last_stage = True
            self.channels = tuple(settings.hidden_sizes)
            return _whole(AutoModel, name, folder, settings)
        if settings.model_type == _VIT:  # has no backbone in transformers
            self.channels = (settings.hidden_size,) * min(_LEVELS, settings.num_hidden_layers)
            return _whole(AutoModel, name, folder, settings)
        depth = len(settings.stage_names) - 1  # the first one is the stem
        count = min(_LEVELS, depth)
        chosen = tuple(depth * number // count for number in range(1, count + 1))
        settings.out_indices = chosen
        # AutoBackbone.from_pretrained asks the Hub whether the folder is a repository there: its class, without it
        net = _whole(MODEL_FOR_BACKBONE_MAPPING[type(settings)], name, folder, settings)
        self.channels = tuple(net.channels)
        return net

    def forward(self, pixels: Tensor) -> Features:
        """Encode uint8 (B, 3, S, S)."""
        normalised = self.normalise(pixels)
        if self.net.config.model_type == _VIT:
            levels = self._normed(normalised)
        elif hasattr(self.net, "out_indices"):
            levels = self.net(pixel_values=normalised).feature_maps
        else:
            levels = self.net(pixel_values=normalised, output_hidden_states=True).hidden_states
        if self.is_isotropic:
            levels = simple_pyramid(levels)
        return {f"p{number}": level for number, level in enumerate(levels)}

    def _normed(self, normalised: Tensor) -> list[Tensor]:
        """Return the last patches of each part of a ViT's blocks after its last norm, as DINOv2's backbone does."""
        more = {"output_hidden_states": True, **_ANY_SIZE}
        hidden = self.net(pixel_values=normalised, **more).hidden_states
        depth, count, side = len(hidden) - 1, len(self.channels), self.size // self.stride
        chosen = [hidden[depth * number // count] for number in range(1, count + 1)]
        patches = [self.net.layernorm(level)[:, -side * side :].transpose(1, 2) for level in chosen]
        return [level.reshape(*level.shape[:2], side, side) for level in patches]


class BackboneVectors(Backbone):
    """{"pooled": (B, D)} and, with the output "patches", {"patches": (B, P, D)}, all after the network's last norm.

    "pooled" is the class token of a network that has one, else what its own classifier reads: the mean of the patches.
    """

    def __init__(self, name: str, weights: Path | None, size: int, output: Output) -> None:
        super().__init__(name, weights, size, output)
        settings = self.net.config
        self.channels = (int((getattr(settings, "hidden_sizes", None) or [settings.hidden_size])[-1]),)
        self.record_weights()

    def _load(self, name: str, folder: Path, settings: Any) -> Any:
        from transformers import AutoModel

        if settings.model_type == "segformer":
            settings.reshape_last_stage = True
        return _whole(AutoModel, name, folder, settings)

    def forward(self, pixels: Tensor) -> Features:
        """Encode uint8 (B, 3, S, S)."""
        more = _ANY_SIZE if self.net.config.model_type == _VIT else {}
        last = self.net(pixel_values=self.normalise(pixels), **more).last_hidden_state
        if last.ndim == 4:  # ConvNeXt's map comes before its norm; SegFormer's has none
            places = last.flatten(2).transpose(1, 2)
            norm = getattr(self.net, "layernorm", nn.Identity())
            pooled, patches = norm(places.mean(1)), norm(places)
        else:
            first = last.shape[1] - (self.size // self.stride) ** 2  # class token and registers
            patches = last[:, first:]
            pooled = last[:, 0] if first else patches.mean(1)
        return {"pooled": pooled} | ({"patches": patches} if self.output == "patches" else {})


def backbone(name: str, weights: Path | None, size: int, output: Output) -> Backbone:
    """Load a backbone of one of the families BACKBONES (models/weights.py) as an image encoder.

    Args:
        name: "owner/model", as on the Hub.
        weights: folder of --weights, which is the checkpoint's or contains it; None for the local Hub cache.
        size: height and width of photos, a multiple of the stride of the coarsest map: 32, of a vision transformer the
            side of its patches. Position embeddings are interpolated.
        output: what it gives.

    Raises:
        WeightsError: files are missing, damaged, or not all that the model needs. ConfigError: the size does not fit.
    """
    if output == "pyramid":
        return BackbonePyramid(name, weights, size)
    return BackboneVectors(name, weights, size, output)


def simple_pyramid(maps: Sequence[Tensor]) -> list[Tensor]:
    """Resample n maps (B, C, h, h) of one size bilinearly, the last one to half its side, each other to twice the next.

    The sides of four are 4 h, 2 h, h and h / 2, the last one rounded up.
    """
    side, count = maps[0].shape[-1], len(maps)
    sides = [-(-(side << (count - 1 - number)) // 2) for number in range(count)]
    resampled = zip(maps, sides, strict=True)
    return [F.interpolate(level, (s, s), mode="bilinear", align_corners=False) for level, s in resampled]


def depth_of(settings: Any) -> Any:
    """Return the number of blocks of a plain vision transformer, or of each stage of another network."""
    return getattr(settings, "depths", None) or settings.num_hidden_layers


def stride_of(settings: Any) -> int:
    """Return the pixels from one place of the coarsest map of a network to the next."""
    if getattr(settings, "strides", None):  # SegFormer
        return prod(settings.strides)
    depth = depth_of(settings)
    patch = getattr(settings, "patch_size", 4)  # DINOv3 ConvNeXt does not say
    return int(patch) if isinstance(depth, int) else int(patch) << (len(depth) - 1)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from listing the classifier, which is left out on purpose, and the norms of levels."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _whole(kind: Any, name: str, folder: Path, settings: Any) -> Any:
    """Load a network in float32, all of whose weights are in its files, the norms of levels apart."""
    more = {"add_pooling_layer": False} if settings.model_type == _VIT else {}  # which nothing reads
    with _quiet(), usable(name, folder):
        net, info = kind.from_pretrained(folder, config=settings, output_loading_info=True, **LOCAL, **more)
        if missing := sorted(key for key in info["missing_keys"] if not key.startswith(_NORMS)):
            raise ValueError(f"no weights for {missing[0]} and {len(missing) - 1} others")
    return net.float().eval()


def _stages(net: nn.Module, count: int) -> tuple[tuple[str, ...], ...]:
    """Return the paths of the modules of `count` stages of a network, from its names in transformers.

    The first stage has the embeddings too, the last one the norm after it.
    """
    names = [name for name, module in net.named_modules() if isinstance(module, nn.ModuleList)]
    outer = [name for name in names if not any(name.startswith(f"{other}.") for other in names)]
    stages: list[list[str]] = [[] for _ in range(count)]
    for name in outer:
        parts = len(net.get_submodule(name))  # type: ignore[arg-type]
        for number in range(parts):
            stages[number * count // parts].append(f"net.{name}.{number}")
    embeddings = (name for name, _ in net.named_modules() if name.rpartition(".")[2] == "embeddings")
    stages[0] += [f"net.{name}" for name in list(embeddings)[:1]]
    norms = getattr(net, _NORMS, {})
    for stage, norm in zip(stages, norms, strict=False):
        stage.append(f"net.{_NORMS}.{norm}")
    stages[-1] += [f"net.{name}" for name in _LAST_NORMS if hasattr(net, name)]
    return tuple(tuple(stage) for stage in stages)
