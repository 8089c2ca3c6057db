"""Attention over scales, gated by the text: convolutions of several sizes that weigh the places of a feature map."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

KERNELS = (7, 11, 21)
"""Lengths of the strips, in places: as in SegNeXt, whose multi-scale convolutions LSMS puts under its text."""


class ScaleAttention(nn.Module):
    """x + out(weights * x), where weights are convolutions of x at several scales, each as strong as the text says.

    The idea is the scale-aware vision-language attention of LSMS (Ouyang et al., 2024); the convolutions are those of
    SegNeXt (Guo et al., NeurIPS 2022): 5 x 5 by channel, then strips of 1 x k and k x 1. Here a gate in (0, 1) for
    each scale and channel is computed from the text's vector. `out` starts at zero, so that nothing changes at first.

    Args:
        text_dim: dimension T of the text vector.
        channels: C of the features.
        kernels: odd lengths of the strips.
    """

    def __init__(self, text_dim: int, channels: int, kernels: Sequence[int] = KERNELS) -> None:
        super().__init__()
        self.near = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.strips = nn.ModuleList(_strips(channels, length) for length in kernels)
        self.gates = nn.Linear(text_dim, len(kernels) * channels)
        self.mix, self.out = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]  # a Conv2d has a bias unless told otherwise

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """Return features (B, C, h, w) for features of this shape and texts (B, T)."""
        near = self.near(x)
        gates = torch.sigmoid(self.gates(text)).chunk(len(self.strips), 1)
        scales = (gate[:, :, None, None] * strips(near) for gate, strips in zip(gates, self.strips, strict=True))
        weights = self.mix(sum(scales, near))
        changed: Tensor = x + self.out(weights * x)
        return changed


def _strips(channels: int, length: int) -> nn.Sequential:
    half = length // 2
    return nn.Sequential(
        nn.Conv2d(channels, channels, (1, length), padding=(0, half), groups=channels),
        nn.Conv2d(channels, channels, (length, 1), padding=(half, 0), groups=channels),
    )
