"""The training mean mask: where lesions lie on the average photo. A baseline that looks at no photo."""

import threading
from collections.abc import Sequence

import numpy as np
from PIL import Image

from magic_cli.records import Mask

SIDE = 64


class TrainingMeanMask:
    """The mean of masks of any size, each squashed to 64 x 64 by area and rounded to 1/255; 32 KB for any number.

    Masks may be added by several threads: sums of integers do not depend on the order.
    """

    def __init__(self) -> None:
        self.photos = 0
        self._sum = np.zeros((SIDE, SIDE), np.int64)
        self._lock = threading.Lock()

    def add(self, masks: Sequence[Mask]) -> None:
        """Add a photo: the mean of its (H, W) uint8 {0, 1} masks, of one size."""
        white = np.uint8(255)
        squashed = [Image.fromarray(mask * white).resize((SIDE, SIDE), Image.Resampling.BOX) for mask in masks]
        small = np.rint(np.mean([np.asarray(image) for image in squashed], axis=0)).astype(np.int64)
        with self._lock:
            self._sum += small
            self.photos += 1

    def image(self) -> Image.Image | None:
        """Return the mean as 64 x 64 8-bit grey, round(255 * share); None without any photo."""
        if not self.photos:
            return None
        return Image.fromarray(np.rint(self._sum / self.photos).astype(np.uint8))
