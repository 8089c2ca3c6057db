"""What a command writes beside the files of a task, in the same step: overlays, probabilities, a list of photos."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from magic_cli.records import Mask


class SideFiles(Protocol):
    """What a command writes beside the files of a task, in the same step (`Task.write`): overlays, a list of photos."""

    def mask(self, folder: Path, image_id: str, mask: Mask, probabilities: NDArray[np.float32] | None) -> Mask:
        """Write what belongs to a photo's mask, and return the mask as the task shall write it.

        Args:
            folder: where the files go.
            image_id: of the photo.
            mask: (H, W) uint8 {0, 1}.
            probabilities: (H, W) in [0, 1] that it was decided from; None of a mask that was decided elsewhere.
        """
        ...

    def finish(self, folder: Path) -> Sequence[str]:
        """Write what comes last, and return the names of all files that were written, below the folder."""
        ...
