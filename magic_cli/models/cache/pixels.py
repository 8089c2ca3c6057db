"""Photos and masks at training size, decoded and resized once: one uint8 .npy file each, with a checksum behind it.

Decoding a photo of five megapixels with its mask takes 47 ms, reading the resized pixels of both 1.2 ms
(examples/evidence.md, "Caches"). Files are written atomically, so that two runs may share a folder and a kill leaves
no partial file; what is damaged all the same is made again (models/cache/seal.py). They count towards the limit of the
cache folder (models/cache/store.py), which evicts the least recently used first.
"""

import hashlib
import io
import math
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import get_worker_info

from magic_cli.models.cache.seal import blank_mark, name_of, seal
from magic_cli.models.cache.store import put, read_whole, touch

Pixels = NDArray[np.uint8]

MEMO_BYTES = 512_000_000


class PixelMemo:
    """Arrays by key in memory, the first ones up to `free` bytes; as each is used once per epoch, none is replaced.

    Data loader workers keep nothing: they live for one epoch, and each would hold its own copy.
    """

    def __init__(self, free: int) -> None:
        self.free = free
        self.arrays: dict[str, Pixels] = {}
        self._lock = threading.Lock()

    def get(self, key: str, make: Callable[[], Pixels]) -> Pixels:
        """Return the array of a key, which `make` computes if it is not kept; a kept array is read-only."""
        known = self.arrays.get(key)
        if known is not None:
            return known
        made = make()
        with self._lock:
            if made.nbytes <= self.free and key not in self.arrays and get_worker_info() is None:
                self.arrays[key] = np.array(made)
                self.arrays[key].flags.writeable = False
                self.free -= made.nbytes
        return made


_memo = PixelMemo(MEMO_BYTES)


class PixelStore:
    """A folder of uint8 arrays by key; without a folder, this process keeps the first 512 MB of them in memory."""

    def __init__(self, root: Path | None, memo: PixelMemo = _memo) -> None:
        self.root, self.memo = root, memo

    def get(self, key: str, make: Callable[[], Pixels]) -> Pixels:
        """Return the array of a key, which `make` computes if it is not stored; a stored array is read-only.

        `key` identifies the content and everything that was done to it. A damaged file is replaced. What cannot be
        stored is kept in memory as without a folder.

        Raises:
            DataError: whatever `make` raises.
        """
        if self.root is None:
            return self.memo.get(key, make)
        name = hashlib.sha256(key.encode()).hexdigest()
        path = self.root / name_of(name, ".npy")
        data = read_whole(path, name)
        if data is not None:
            touch(path)
            return _unpacked(data)
        if key in self.memo.arrays:
            return self.memo.arrays[key]
        made = np.ascontiguousarray(make(), np.uint8)
        if not put(path, seal(_packed(made, name), name)):
            return self.memo.get(key, lambda: made)
        return made


def _packed(pixels: Pixels, name: str) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, pixels, allow_pickle=False)
    buffer.write(blank_mark(name).encode())
    return buffer.getvalue()


def _unpacked(data: bytes) -> Pixels:
    file = io.BytesIO(data)
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return np.frombuffer(data, dtype, math.prod(shape), file.tell()).reshape(shape)
