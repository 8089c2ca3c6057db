"""Photos and masks at training size, decoded and shrunk once: one uint8 .npy file each, mapped when read.

Decoding a photo of five megapixels takes 40 to 100 ms, reading its shrunk pixels well under one
(specs/performance.md part B). Written atomically: two runs may share a folder, a kill leaves nothing wrong.
"""

import contextlib
import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magic_cli.errors import DataError
from magic_cli.files import write_atomic

Pixels = NDArray[np.uint8]


class PixelStore:
    """A folder of uint8 arrays by key; without a folder everything is made anew each time."""

    def __init__(self, root: Path | None) -> None:
        self.root = root

    def get(self, key: str, make: Callable[[], Pixels]) -> Pixels:
        """Return the array of a key, read-only where it was stored; `make` is called where it was not.

        `key` names the content and everything that was done to it. A damaged file is made again.

        Raises:
            DataError: the folder cannot be written, or the disk is full; and whatever `make` raises.
        """
        if self.root is None:
            return make()
        name = hashlib.sha256(key.encode()).hexdigest()
        path = self.root / name[:2] / f"{name}.npy"
        with contextlib.suppress(OSError, ValueError, EOFError):
            found: Pixels = np.load(path, mmap_mode="r", allow_pickle=False)
            return found
        made = np.ascontiguousarray(make(), np.uint8)
        buffer = io.BytesIO()
        np.save(buffer, made, allow_pickle=False)
        try:
            write_atomic(path, lambda file: file.write(buffer.getbuffer()))
        except DataError as error:
            raise DataError(f"{error.problems[0].split(';')[0]}; use --cache-dir or --no-cache") from None
        return made
