"""What may be wrong with a photo that is searched for: it is not sharp, has a dark border, or is small.

Measured on 301 dermoscopic photos of ISIC 2017 (512 pixels) and 406 clinical photos of PAD-UFES-20 (300 to 512), every
fourth and every second of a set. Flagged are: as not sharp 1.0 % and 0.2 %, for their border 1.0 % and 0 %, below 224
pixels 0 % and 0.2 %. Copies blurred by a Gaussian of 0.5 % of the longer side, 2.6 pixels of 512, are flagged in 100 %
and 62 %, of 1 % in 100 % and 100 %.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SHARP = 4.5  # variance of the Laplacian of grey values 0..255, below which a photo is not sharp

DARK = 32  # grey value below which a border is dark: skin of any tone is lighter

MOST_BORDER = 0.05  # share of the photo; a full circle leaves 0.21 of its square

_SIDE = 512  # pixels of the longer side at which sharpness is measured: about what a model sees

_FRAME = 8  # the outer eighth of each side does not count: vignettes and rulers have edges of their own


@dataclass(frozen=True, slots=True)
class Quality:
    """Measures of a photo.

    Attributes:
        sharpness: variance of the Laplacian of its middle, grey values 0..255, at 512 pixels at most.
        border: share of dark pixels that reach an edge of the photo, in [0, 1].
        width, height: in pixels.
    """

    sharpness: float
    border: float
    width: int
    height: int

    def flags(self, model_side: int = 0) -> tuple[str, ...]:
        """Return what may be wrong, a short sentence each.

        Args:
            model_side: pixels a side that the model sees; 0: any size will do.
        """
        sentences = []
        if self.sharpness < SHARP:
            sentences.append("The photo is not sharp: fine structures cannot be compared.")
        if self.border > MOST_BORDER:
            sentences.append(f"A dark border covers {100 * self.border:.0f} % of the photo: crop it.")
        if min(self.width, self.height) < model_side:
            size = f"{self.width} x {self.height} pixels"
            sentences.append(f"The photo has {size}, fewer than the {model_side} a side that the model sees.")
        return tuple(sentences)


def quality(photo: Image.Image) -> Quality:
    """Return the measures of a photo of any mode and size."""
    scale = min(1.0, _SIDE / max(photo.size))
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    grey = np.asarray(photo.convert("L").resize(size, Image.Resampling.BOX), np.float32)
    border = float(_from_edges(grey < DARK).mean())
    return Quality(_sharpness(grey), border, photo.width, photo.height)


def _sharpness(grey: NDArray[np.float32]) -> float:
    """Return the variance of the Laplacian of the middle; infinite for a photo too small to have one."""
    top, left = grey.shape[0] // _FRAME, grey.shape[1] // _FRAME
    v = grey[top : grey.shape[0] - top, left : grey.shape[1] - left]
    if min(v.shape) < 3:
        return float("inf")
    around = v[:-2, 1:-1] + v[2:, 1:-1] + v[1:-1, :-2] + v[1:-1, 2:]
    return float((4 * v[1:-1, 1:-1] - around).var())


def _from_edges(dark: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the dark pixels between which and an edge of the photo, straight along a row or column, all are dark."""
    run = np.logical_and.accumulate
    down, up = run(dark, axis=0), run(dark[::-1], axis=0)[::-1]
    right, left = run(dark, axis=1), run(dark[:, ::-1], axis=1)[:, ::-1]
    reached: NDArray[np.bool_] = down | up | right | left
    return reached
