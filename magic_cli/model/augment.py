"""Random views of a photo and its mask for training: turns, tilts, scale crops, colour. A number names a view."""

import math
import random

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

_STRETCH = 0.2  # log of the greatest ratio of both sides' scales: 0.82 to 1.22
_CAST = 0.2  # shift of each colour channel, as a part of `colour`


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

    Args:
        size: pixels a side of what comes out.
        crop: least part of the photo's area, up to the stretch of one side; 1.0 leaves turns and tilts.
        colour: strength of brightness, contrast, saturation (each 1 - colour to 1 + colour) and of a colour cast.
        tilt: greatest angle in degrees; what lies outside the photo is mirrored.

    The same number gives the same view, whatever ran before.
    """

    def __init__(self, size: int, crop: float, colour: float, tilt: float = 0.0) -> None:
        self.size, self.crop, self.tilt, self.strength = size, crop, tilt, colour
        self.colour = v2.ColorJitter(colour, colour, colour) if colour else None

    def __call__(self, photo: Tensor, mask: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return photo uint8 (3, size, size) and mask uint8 (size, size) of uint8 (3, S, S) and (S, S), 0..255.

        The mask, an area mean, is moved with the same bilinear rule as the photo, so that no border shifts.
        """
        drawn = random.Random(seed)  # noqa: S311  not a secret
        both = turn(torch.cat([photo, mask[None]]), drawn.randrange(8))
        # One resampling for crop and tilt: torchvision's own tilt leaves black corners, which no photo has.
        grid = F.affine_grid(self._box(drawn), [1, 4, self.size, self.size], align_corners=False)
        moved = F.grid_sample(both[None].float(), grid, padding_mode="reflection", align_corners=False)[0]
        moved = moved.round().to(torch.uint8)
        return self._coloured(moved[:3], drawn).contiguous(), moved[3].contiguous()

    def _box(self, drawn: random.Random) -> Tensor:
        """Return (1, 2, 3), the place in the photo, -1..1, of each point of the view."""
        scale = math.sqrt(drawn.uniform(self.crop, 1.0))
        stretch = math.exp(drawn.uniform(-_STRETCH, _STRETCH)) if self.crop < 1 else 1.0
        width, height = min(1.0, scale * stretch), min(1.0, scale / stretch)
        right, down = drawn.uniform(-1, 1) * (1 - width), drawn.uniform(-1, 1) * (1 - height)
        angle = math.radians(drawn.uniform(-self.tilt, self.tilt))
        cos, sin = math.cos(angle), math.sin(angle)
        return torch.tensor([[[width * cos, -width * sin, right], [height * sin, height * cos, down]]])

    def _coloured(self, photo: Tensor, drawn: random.Random) -> Tensor:
        if self.colour is None:
            return photo
        cast = [255 * self.strength * _CAST * drawn.uniform(-1, 1) for _ in range(3)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(drawn.randrange(2**31))
            photo = self.colour(photo)
        return (photo + torch.tensor(cast).view(3, 1, 1)).round().clamp(0, 255).to(torch.uint8)
