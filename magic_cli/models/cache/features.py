"""Outputs of frozen encoders, computed once per distinct item and reused in every epoch and run.

One safetensors file per item, named by the SHA-256 of (weights, preprocessing, content) and written atomically, so
that two runs may share a folder and a kill leaves no partial file. Files are memory-mapped for reading.
models/cache/store.py limits the size of the folder.
"""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from magic_cli.errors import DataError
from magic_cli.io.progress import log, track
from magic_cli.models.cache.store import CacheUse, format_bytes, free_bytes, put, touch
from magic_cli.models.encoders import Encoder, Features


@dataclass(frozen=True)
class Item:
    """An item to encode: its cache key, and a function that loads it (pixels or token ids)."""

    key: str
    load: Callable[[], Any]


class FeatureCache:
    """A folder of encoder outputs in `dtype`: float32 is exact; float16 and bfloat16 take half the size.

    Rounding changes a value by at most a factor of 2^-11 (float16) or 2^-8 (bfloat16).
    """

    def __init__(self, root: Path, dtype: str) -> None:
        self.root, self.dtype = root / dtype, getattr(torch, dtype)
        self._use: CacheUse | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the lock: data loader workers only read."""
        return self.__dict__ | {"_use": None}

    def hold(self) -> CacheUse:
        """Prevent `clear` of the folder while this object lives; called before anything is written."""
        self._use = self._use or CacheUse(self.root.parent)
        return self._use

    def _path(self, key: str) -> Path:
        return self.root / key[:2] / f"{key}.safetensors"

    def read(self, key: str) -> Features:
        """Return the float32 features of an item that `fill` has stored, and mark them as used for eviction.

        Raises:
            DataError: the cache was cleared or damaged since; a damaged file is removed.
        """
        path = self._path(key)
        try:
            features = {name: tensor.float() for name, tensor in load_file(path).items()}
            touch(path)
            return features
        except (OSError, SafetensorError):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            raise DataError(f"{path}: lost or damaged while in use; rerun with --resume to continue") from None

    def write(self, key: str, features: Features) -> None:
        """Store an item's features.

        Raises:
            DataError: a value is too large for `dtype`, the folder cannot be written, or the disk is full.
        """
        put(self._path(key), self._packed(features))

    def _packed(self, features: Features) -> bytes:
        stored = {name: tensor.to(self.dtype).contiguous().cpu() for name, tensor in features.items()}
        for name, tensor in features.items():
            if (stored[name].isinf().cpu() & tensor.isfinite().cpu()).any():
                kind, most = str(self.dtype).removeprefix("torch."), torch.finfo(self.dtype).max
                got = f"features '{name}' of up to {tensor[tensor.isfinite()].abs().max().item():.3g}"
                raise DataError(f"{self.root}: {got} do not fit {kind} (at most {most:.3g}); --set cache_dtype=float32")
        packed: bytes = save(stored)
        return packed

    def fill(self, encoder: Encoder, items: Iterable[Item], device: torch.device, batch_size: int = 16) -> int:
        """Encode and store the items that are missing, and return their number.

        The total size is estimated from the first batch. To make room, items are evicted that were not used for a
        day, least recently used first.

        Raises:
            DataError: this run does not fit the disk or the limit (before anything is stored); and as `write`.
        """
        wanted = {item.key: item for item in items}
        if not wanted:
            return 0
        use = self.hold()
        use.needed |= {f"{self.root.name}/{key}" for key in wanted}
        todo = [item for key, item in wanted.items() if not touch(self._path(key))]
        batches = [todo[i : i + batch_size] for i in range(0, len(todo), batch_size)]
        if not batches:
            use.make_room(0)
        for number, batch in enumerate(track(batches, "encoding")):
            features = encode(encoder, [item.load() for item in batch], device)
            packed = [self._packed({n: t[row] for n, t in features.items()}) for row in range(len(batch))]
            if number == 0:
                each = sum(map(len, packed)) / len(batch)
                self._announce(encoder, len(todo), len(batches), each)
                use.make_room(round(each * len(todo)))
            for item, data in zip(batch, packed, strict=True):
                put(self._path(item.key), data)
        return len(todo)

    def _announce(self, encoder: Encoder, count: int, batches: int, each: float) -> None:
        """Log what is encoded and the size of the result, if there are more than 8 batches."""
        if batches > 8:
            size, free = format_bytes(count * each), format_bytes(free_bytes(self.root))
            room = f"{size} in {self.root.name}, {free} of disk free"
            log(f"encoding {count} items once with {encoder.source} ({room}; cached in {self.root})")


@torch.no_grad()
def encode(encoder: Encoder, loaded: list[Any], device: torch.device) -> Features:
    """Encode loaded items on `device`; return the features on the CPU in float32."""
    features = encoder.features(send_to_device(encoder.batch(loaded), device))
    return {name: tensor.float().cpu() for name, tensor in features.items()}
