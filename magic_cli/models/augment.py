"""Random views of a photo and its mask for training: flips, rotations, crops and colour, each from a seed."""

import random

import torch
from torch import Tensor
from torchvision.transforms import v2


def turn(x: Tensor, view: int) -> Tensor:
    """Return view 0..7 of (..., S, S): transposed (bit 2), then flipped horizontally (bit 0) and vertically (bit 1)."""
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
    """Random views: one of eight flips and rotations, a random resized crop, and colour jitter.

    The same seed gives the same view, whatever ran before.

    Args:
        size: side of the views, in pixels.
        crop: smallest part of the area that a crop keeps, 0..1; 1.0 for no crop.
        colour: strength of the jitter of brightness, contrast and saturation, 0.0 for none; the hue is left alone, as
            changing it doubles the time of a view (tests/benchmarks/mask_step.py).
        coarse: share of views that lose detail, as photos out of focus do: shrunk to 0.25 to 0.75 of their side, and
            enlarged again.
        zoom_out: share of views that are taken from a canvas around the photo, up to 1.6 times its side, of its mean
            colour, so that lesions are smaller than in the photo; crops alone only enlarge them.
    """

    def __init__(self, size: int, crop: float, colour: float, coarse: float = 0.0, zoom_out: float = 0.0) -> None:
        self.coarse, self.zoom_out = coarse, zoom_out
        self.crop = v2.RandomResizedCrop(size, scale=(crop, 1.0), ratio=(0.8, 1.25), antialias=True)
        self.colour = v2.ColorJitter(colour, colour, colour) if colour else None

    def __call__(self, photo: Tensor, mask: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return a view: photo uint8 (3, size, size) and mask uint8 (size, size), 0..255.

        Args:
            photo: uint8 (3, S, S).
            mask: uint8 (S, S), 0..255; resampled like the photo, bilinearly, so that its border does not shift.
            seed: seed of the view.
        """
        generator = random.Random(seed)  # noqa: S311  not a secret
        both = turn(torch.cat([photo, mask[None]]), generator.randrange(8))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.randrange(2**31))
            if generator.random() < self.zoom_out:
                both = _on_canvas(both, generator)
            both = self.crop(both)
            photo = both[:3] if self.colour is None else self.colour(both[:3])
        if generator.random() < self.coarse:
            photo = _coarsened(photo, generator.uniform(0.25, 0.75))
        return photo.contiguous(), both[3].contiguous()


def _on_canvas(both: Tensor, generator: random.Random) -> Tensor:
    """Return a photo and its mask, uint8 (4, S, S), at a random place of a canvas of 1 to 1.6 times their side."""
    side = both.shape[-1]
    room = round(side * generator.uniform(0.0, 0.6))
    left, top = generator.randint(0, room), generator.randint(0, room)
    fill = [*both[:3].float().mean((1, 2)).round().tolist(), 0.0]
    canvas: Tensor = v2.functional.pad(both, [left, top, room - left, room - top], fill=fill)
    return canvas


def _coarsened(photo: Tensor, scale: float) -> Tensor:
    """Return a photo, uint8 (3, S, S), without the detail that a side of scale * S pixels cannot hold."""
    side = photo.shape[-1]
    small = v2.functional.resize(photo, [max(1, round(scale * side))] * 2, antialias=True)
    enlarged: Tensor = v2.functional.resize(small, [side, side], antialias=True)
    return enlarged


class PhotoAugment:
    """Random views of photos without masks: a flip or quarter turn, a random resized crop, colour jitter, grey.

    The same seed gives the same view, whatever ran before. Colour jitter applies to 4 of 5 views, as in MAKE's release.

    Args:
        size: side of the views, in pixels.
        crop: smallest part of the area that a crop keeps, 0..1; 1.0 for no crop.
        colour: strength of the jitter of brightness, contrast and saturation; that of the hue is a quarter of it.
        grey: probability of a view without colour.
    """

    def __init__(self, size: int, crop: float, colour: float, grey: float) -> None:
        self.crop = v2.RandomResizedCrop(size, scale=(crop, 1.0), ratio=(0.75, 4 / 3), antialias=True)
        jitter = v2.ColorJitter(colour, colour, colour, min(colour / 4, 0.5))
        self.colour = v2.Compose([v2.RandomApply([jitter], 0.8 if colour else 0.0), v2.RandomGrayscale(grey)])

    def __call__(self, photo: Tensor, seed: int) -> Tensor:
        """Return a view, uint8 (3, size, size), of a photo, uint8 (3, S, S)."""
        generator = random.Random(seed)  # noqa: S311  not a secret
        turned = turn(photo, generator.randrange(8))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.randrange(2**31))
            view: Tensor = self.colour(self.crop(turned))
        return view.contiguous()
