"""Photos and masks at training size, decoded and shrunk once: one uint8 .npy file each, mapped when read.

Decoding a photo of five megapixels with its mask takes 47 ms, reading the shrunk pixels of both 1.2 ms
(examples/evidence.md, "Caches"). Written atomically: two runs may share a folder, a kill leaves nothing wrong. The
cache folder's limit counts them too (models/cache/store.py): the least recently used go first.
"""

import contextlib
import hashlib
import io
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import get_worker_info

from magic_cli.models.cache.store import put, touch

Pixels = NDArray[np.uint8]

KEPT_BYTES = 512_000_000


class Memory:
    """Arrays by key, up to `room` bytes; what comes later is not kept, as each is asked for once an epoch.

    Workers of a data loader keep nothing: they live for an epoch, and each would hold a copy of its own.
    """

    def __init__(self, room: int) -> None:
        self.room, self.lock = room, threading.Lock()
        self.kept: dict[str, Pixels] = {}

    def get(self, key: str, make: Callable[[], Pixels]) -> Pixels:
        """Return the array of a key, read-only where it is kept."""
        found = self.kept.get(key)
        if found is not None:
            return found
        made = make()
        with self.lock:
            if made.nbytes <= self.room and key not in self.kept and get_worker_info() is None:
                self.kept[key] = np.array(made)
                self.kept[key].flags.writeable = False
                self.room -= made.nbytes
        return made


_memory = Memory(KEPT_BYTES)


class PixelStore:
    """A folder of uint8 arrays by key; without a folder, this process keeps the first 512 MB of them."""

    def __init__(self, root: Path | None, memory: Memory = _memory) -> None:
        self.root, self.memory = root, memory

    def get(self, key: str, make: Callable[[], Pixels]) -> Pixels:
        """Return the array of a key, read-only where it was stored; `make` is called where it was not.

        `key` names the content and everything that was done to it. A damaged file is made again.

        Raises:
            DataError: the folder cannot be written, or the disk is full; and whatever `make` raises.
        """
        if self.root is None:
            return self.memory.get(key, make)
        name = hashlib.sha256(key.encode()).hexdigest()
        path = self.root / name[:2] / f"{name}.npy"
        with contextlib.suppress(OSError, ValueError, EOFError):
            found: Pixels = np.load(path, mmap_mode="r", allow_pickle=False)
            touch(path)
            return found
        made = np.ascontiguousarray(make(), np.uint8)
        buffer = io.BytesIO()
        np.save(buffer, made, allow_pickle=False)
        put(path, buffer.getbuffer())
        return made
