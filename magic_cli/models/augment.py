"""Random views of a photo and its mask for training: turns, scale crops, colour. A number names a view."""

import random

import torch
from torch import Tensor
from torchvision.transforms import v2


def turn(x: Tensor, view: int) -> Tensor:
    """Return view 0..7 of square (..., S, S) data: flips (bits 0, 1) of the plain or transposed (bit 2) photo."""
    if view & 4:
        x = x.transpose(-1, -2)
    dims = [dim for bit, dim in ((1, -1), (2, -2)) if view & bit]
    return x.flip(dims) if dims else x


def unturn(x: Tensor, view: int) -> Tensor:
    """Undo `turn`."""
    dims = [dim for bit, dim in ((1, -1), (2, -2)) if view & bit]
    x = x.flip(dims) if dims else x
    return x.transpose(-1, -2) if view & 4 else x


class Augment:
    """Views of `size` pixels: one of eight turns, a crop of at least `crop` of the area, tilted, and colour.

    `crop` 1.0 and `colour` 0.0 leave turns alone. The same number gives the same view, whatever ran before.
    """

    def __init__(self, size: int, crop: float, colour: float) -> None:
        self.crop = v2.RandomResizedCrop(size, scale=(crop, 1.0), ratio=(0.8, 1.25), antialias=True)
        self.colour = v2.ColorJitter(colour, colour, colour, colour / 8) if colour else None

    def __call__(self, photo: Tensor, mask: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return photo uint8 (3, size, size) and mask uint8 (size, size) of uint8 (3, S, S) and (S, S), 0..255.

        The mask, an area mean, is moved with the same bilinear rule as the photo, so that no border shifts.
        """
        drawn = random.Random(seed)  # noqa: S311  not a secret
        both = turn(torch.cat([photo, mask[None]]), drawn.randrange(8))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(drawn.randrange(2**31))
            both = self.crop(both)
            photo = both[:3] if self.colour is None else self.colour(both[:3])
        return photo.contiguous(), both[3].contiguous()
