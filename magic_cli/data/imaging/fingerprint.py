"""Fingerprints of photos: near duplicates have similar ones, whatever their size, format and brightness.

A fingerprint is a 64-bit perceptual hash (pHash: Zauner, Implementation and Benchmarking of Perceptual Image Hash
Functions, 2010: signs of the lowest 8 x 8 frequencies of 32 x 32 grey values about their median, the mean left out),
and a grey thumbnail of 16 x 16, by which pairs of similar hashes are confirmed. Measured on two public sets: see
data/preparation/duplicates.py. Turned or mirrored copies have other fingerprints.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE, THUMB = 32, 16  # grey values a side: hashed, and kept

_LARGEST = 512  # pixels a side that are averaged; of larger photos, evenly spaced ones

_SMALLEST = 16  # pixels a side below which a photo shows nothing to compare

_PLAIN = 2.0  # grey levels: photos whose thumbnail differs from smooth light by less have nothing to compare


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """`hash` is None for a photo without anything to compare: plain skin, blank, or tiny. `thumbnail`: 256 bytes."""

    hash: int | None
    thumbnail: bytes


NO_FINGERPRINT = Fingerprint(None, bytes(THUMB * THUMB))


def sampled(image: Image.Image) -> Image.Image:
    """Return at most 512 x 512 evenly spaced pixels of an image, in its own mode."""
    size = min(image.width, _LARGEST), min(image.height, _LARGEST)
    return image if size == image.size else image.resize(size, Image.Resampling.NEAREST)


def fingerprint(photo: Image.Image) -> Fingerprint:
    """Return the fingerprint of an upright RGB photo of any size; it takes 0.1 ms for one that is `sampled`."""
    if min(photo.size) < _SMALLEST:
        return NO_FINGERPRINT
    grey = np.asarray(photo.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    thumb = grey.reshape(THUMB, SIDE // THUMB, THUMB, SIDE // THUMB).mean((1, 3))
    small = np.rint(thumb).astype(np.uint8).tobytes()
    flat, light = thumb.ravel(), _smooth_light()
    if float((flat - light @ (light.T @ flat)).std()) < _PLAIN:
        return Fingerprint(None, small)
    waves = _cosines()
    low = (waves @ grey @ waves.T).ravel()
    low[0] = median = float(np.median(low[1:]))  # the first bit is 0 for all
    return Fingerprint(int.from_bytes(np.packbits(low > median).tobytes(), "big"), small)


@cache
def _cosines() -> NDArray[np.float32]:
    """Return the eight lowest rows of the discrete cosine transform (DCT-II), (8, 32), without their norms."""
    angle = np.pi * (2 * np.arange(SIDE)[None] + 1) * np.arange(8)[:, None] / (2 * SIDE)
    return np.cos(angle).astype(np.float32)


@cache
def _smooth_light() -> NDArray[np.float32]:
    """Return an orthonormal basis of the polynomials up to degree 2 on a thumbnail, (256, 6)."""
    rows, columns = np.mgrid[:THUMB, :THUMB] / (THUMB - 1) * 2 - 1
    powers = [(columns**a * rows**b).ravel() for a in range(3) for b in range(3 - a)]
    return np.linalg.qr(np.stack(powers, 1))[0].astype(np.float32)
