"""The training mean mask: where lesions are on the average photo; a baseline that ignores the photo itself."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from magic_cli.records import Mask

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 64


def shrunk(masks: Sequence[Mask]) -> bytes:
    """Return the mean of a photo's masks, each uint8 {0, 1} of the same (H, W), resized by area: 64 x 64 bytes."""
    from PIL import Image  # imported here, as scoring is timed

    white = np.uint8(255)
    resized = [Image.fromarray(mask * white).resize((SIDE, SIDE), Image.Resampling.BOX) for mask in masks]
    mean: NDArray[np.float64] = np.mean([np.asarray(image) for image in resized], axis=0)
    return np.rint(mean).astype(np.uint8).tobytes()


class TrainingMeanMask:
    """Running mean of masks of any size, each resized to 64 x 64 by area and rounded to 1/255; it takes 32 KB."""

    def __init__(self) -> None:
        self.photos = 0
        self._sum = np.zeros(SIDE * SIDE, np.int64)

    def add(self, masks: Sequence[Mask]) -> None:
        """Add a photo: the mean of its masks, each uint8 {0, 1} of the same (H, W)."""
        self.add_shrunk(shrunk(masks))

    def add_shrunk(self, small: bytes) -> None:
        """Add a photo by the result of `shrunk`."""
        self._sum += np.frombuffer(small, np.uint8)
        self.photos += 1

    def image(self) -> "Image | None":
        """Return the mean as 64 x 64 8-bit grey, round(255 * share); None if no photo was added."""
        if not self.photos:
            return None
        from PIL import Image

        return Image.fromarray(np.rint(self._sum / self.photos).astype(np.uint8).reshape(SIDE, SIDE))
