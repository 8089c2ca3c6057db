"""Outputs of frozen encoders, computed once per distinct item and reused in every epoch and run.

One safetensors file an item, named by SHA-256 of (weights, preprocessing, content), written atomically, so
that two runs may share a folder and a killed writer leaves nothing wrong. Reading maps the file.
"""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from magic_cli.errors import DataError
from magic_cli.model.encoders import Encoder, Features
from magic_cli.progress import log, track


@dataclass(frozen=True)
class Item:
    """Something to encode: its cache key, and how to load it (pixels or token ids)."""

    key: str
    load: Callable[[], Any]


class FeatureCache:
    """A folder of encoder outputs in `dtype` (float32: exact; float16: half the size)."""

    def __init__(self, root: Path, dtype: str) -> None:
        self.root, self.dtype = root / dtype, getattr(torch, dtype)

    def _path(self, key: str) -> Path:
        return self.root / key[:2] / f"{key}.safetensors"

    def read(self, key: str) -> Features:
        """Return the float32 features of an item that `fill` has seen.

        Raises:
            DataError: the cache was cleared or damaged meanwhile; a damaged file is removed.
        """
        path = self._path(key)
        try:
            return {name: tensor.float() for name, tensor in load_file(path).items()}
        except (OSError, SafetensorError):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            raise DataError(f"{path}: lost or damaged while in use; the same command, with --resume, goes on") from None

    def write(self, key: str, features: Features) -> None:
        """Store an item's features.

        Raises:
            DataError: the folder cannot be written or the disk is full.
        """
        path = self._path(key)
        temporary = path.with_suffix(f".{os.getpid()}.{secrets.token_hex(4)}.tmp")
        data = save({n: t.to(self.dtype).contiguous().cpu() for n, t in features.items()})
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)  # with the permissions of the umask: a cache may be shared
            temporary.replace(path)
        except OSError as error:
            reason = error.strerror or error
            raise DataError(f"{self.root}: cannot be written ({reason}); use --cache-dir or --no-cache") from None
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def fill(self, encoder: Encoder, items: Iterable[Item], device: torch.device, batch_size: int = 16) -> int:
        """Encode and store what is missing; return how many items were encoded."""
        missing = {item.key: item for item in items if not self._path(item.key).is_file()}
        todo = list(missing.values())
        batches = [todo[i : i + batch_size] for i in range(0, len(todo), batch_size)]
        if len(batches) > 8:
            log(f"encoding {len(todo)} items once with {encoder.source} (kept in {self.root})")
        for batch in track(batches, "encoding"):
            found = encode(encoder, [item.load() for item in batch], device)
            for row, item in enumerate(batch):
                self.write(item.key, {name: tensor[row] for name, tensor in found.items()})
        return len(todo)


@torch.no_grad()
def encode(encoder: Encoder, loaded: list[Any], device: torch.device) -> Features:
    """Encode loaded items on `device`; the features come back on the CPU in float32."""
    found = encoder.features(send_to_device(encoder.batch(loaded), device))
    return {name: tensor.float().cpu() for name, tensor in found.items()}
