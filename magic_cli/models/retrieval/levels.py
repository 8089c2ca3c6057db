"""Levels of a photo: the last three of an image encoder's pyramid, each at most `side` places high and wide."""

import torch
from torch import Tensor
from torch.nn import functional as F

from magic_cli.models.encoders import Features, ImageEncoder
from magic_cli.models.stem import Stem, stem_of

LEVELS = 3


def shrunk(level: Tensor, side: int) -> Tensor:
    """Return a level (B, C, h, w), averaged to at most `side` x `side` places."""
    small = min(level.shape[2], side), min(level.shape[3], side)
    return level if small == tuple(level.shape[2:]) else F.adaptive_avg_pool2d(level, small)


def last_levels(pyramid: Features, side: int) -> list[Tensor]:
    """Return the last levels of {"p0", "p1", …}, fine to coarse, shrunk; all if there are fewer than three."""
    return [shrunk(level, side) for level in list(pyramid.values())[-LEVELS:]]


class FrozenLevels(Stem):
    """What of a pyramid may be cached: all its levels if the encoder is frozen, else those before its trained end.

    Levels are shrunk before they are cached, except for the last one before a trained end, which that end reads.
    """

    def __init__(self, whole: ImageEncoder, side: int) -> None:
        """Choose what is cached; `side` is that of `shrunk`."""
        super().__init__(whole)
        self.side, self.has_end = side, not whole.is_frozen

    def preprocessing(self) -> str:
        """Return also the side, and whether the end is left out."""
        return f"{super().preprocessing()} levels {self.side} {self.has_end}"

    def forward(self, pixels: Tensor) -> Features:
        """Encode uint8 (B, 3, S, S): {"p1", …} shrunk."""
        whole = self._whole[0]
        levels = whole.stem_features(pixels) if self.has_end else whole(pixels)
        names = list(levels)[-(LEVELS - self.has_end) :]
        end = names.pop() if self.has_end else None
        small = {name: shrunk(levels[name], self.side).contiguous() for name in names}
        return small if end is None else {**small, end: levels[end]}


def frozen_levels(images: ImageEncoder, side: int) -> FrozenLevels | None:
    """Return the part of a pyramid encoder whose features may be cached; None if all of it is trained.

    Args:
        images: with the output "pyramid", after `set_finetuning`.
        side: see `shrunk`.
    """
    return FrozenLevels(images, side) if images.is_frozen or stem_of(images) is not None else None


def levels_of(images: ImageEncoder, first: FrozenLevels | None, features: Features, side: int) -> list[Tensor]:
    """Return the levels (B, C, h, w) from what `first`, or the whole encoder, made of photos."""
    if first is not None and first.has_end:
        features = images.tail(features)
    return last_levels(features, side)


def level_channels(images: ImageEncoder) -> tuple[int, ...]:
    """Return the channels of the levels."""
    return images.channels[-LEVELS:]


@torch.no_grad()
def statistics(levels: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Return mean (C,) and standard deviation (C,) of each level's channels over photos and places."""
    rows = [level.float().transpose(0, 1).flatten(1) for level in levels]
    return [(row.mean(1), row.std(1).clamp(min=1e-6)) for row in rows]
