"""Outputs of frozen encoders, computed once per distinct item and reused in every epoch and run.

One safetensors file per item, named by the SHA-256 of (weights, preprocessing, content) and written atomically, so
that two runs may share a folder and a kill leaves no partial file. What is damaged or lost is computed again
(models/cache/seal.py). models/cache/store.py limits the size of the folder.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from safetensors.torch import load, save
from torch import Tensor

from magic_cli.errors import DataError
from magic_cli.io.progress import log, track
from magic_cli.models.cache import notes
from magic_cli.models.cache.seal import blank_mark, name_of, seal
from magic_cli.models.cache.store import CacheUse, discard, format_bytes, free_bytes, put, read_whole, touch
from magic_cli.models.encoders import Encoder, Features

KEPT_BYTES = 512_000_000


class Kept:
    """The content of files that could not be stored, up to `free` bytes."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.files: dict[Path, bytes] = {}

    def add(self, path: Path, data: bytes) -> bool:
        """Keep a file's content, and return whether there is room for it."""
        if len(data) > self.free:
            return False
        self.files[path] = data
        self.free -= len(data)
        return True


_kept = Kept(KEPT_BYTES)

_whole: dict[Path, tuple[int, int, int]] = {}  # files that were read, as they were then


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
        self._has_room = True

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the lock: data loader workers only read."""
        return self.__dict__ | {"_use": None}

    def hold(self) -> CacheUse:
        """Prevent `clear` of the folder while this object lives; called before anything is written."""
        self._use = self._use or CacheUse(self.root.parent)
        return self._use

    def _path(self, key: str) -> Path:
        return self.root / name_of(key, ".safetensors")

    def _mark(self, key: str) -> str:
        return hashlib.sha256(f"{self.root.name}/{key}".encode()).hexdigest()

    def read(self, key: str) -> Features | None:
        """Return the float32 features of an item that `fill` has stored, and mark them as used for eviction.

        Returns:
            None if they are lost or damaged, which is counted for the run's note.
        """
        path = self._path(key)
        data = _kept.files.get(path) or read_whole(path, self._mark(key))
        if data is None:
            notes.current().add(str(path), is_lost=True)
            return None
        touch(path)
        return {name: tensor.float() for name, tensor in sorted(load(data).items())}

    def write(self, key: str, features: Features) -> None:
        """Store an item's features; in memory, up to 512 MB, if the folder cannot be written.

        Raises:
            DataError: a value is too large for `dtype`.
        """
        self._store(key, self._packed(key, features))

    def _store(self, key: str, data: bytes) -> bool:
        """Return whether the content of a file is stored, or kept in memory."""
        path = self._path(key)
        return (self._has_room and put(path, data)) or _kept.add(path, data)

    def _packed(self, key: str, features: Features) -> bytes:
        stored = {name: tensor.to(self.dtype).contiguous().cpu() for name, tensor in features.items()}
        for name, tensor in features.items():
            if (stored[name].isinf().cpu() & tensor.isfinite().cpu()).any():
                kind, most = str(self.dtype).removeprefix("torch."), torch.finfo(self.dtype).max
                got = f"features '{name}' of up to {tensor[tensor.isfinite()].abs().max().item():.3g}"
                raise DataError(f"{self.root}: {got} do not fit {kind} (at most {most:.3g}); --set cache_dtype=float32")
        mark = self._mark(key)
        return seal(save(stored, {"magic": blank_mark(mark)}), mark)

    def _has(self, key: str) -> bool:
        """Return whether an item's features are there and whole; a file is read again only if it has changed."""
        path = self._path(key)
        if path in _kept.files:
            return True
        if _whole.get(path) != _changed(path) and read_whole(path, self._mark(key)) is None:
            discard(path)
            return False
        touch(path)
        _whole[path] = _changed(path)
        return True

    def fill(self, encoder: Encoder, items: Iterable[Item], device: torch.device, batch_size: int = 16) -> int:
        """Encode and store the items that are missing, and return their number.

        The total size is estimated from the first batch. To make room, items are evicted that were not used for a
        day, least recently used first. What cannot be stored is kept in memory, up to 512 MB; `encode_again`
        computes the rest when it is needed.

        Raises:
            DataError: this run does not fit the limit (before anything is stored); and as `write`.
        """
        wanted = {item.key: item for item in items}
        if not wanted:
            return 0
        use = self.hold()
        use.needed |= {f"{self.root.name}/{self._path(key).stem}" for key in wanted}
        todo = [item for key, item in wanted.items() if not self._has(key)]
        batches = [todo[i : i + batch_size] for i in range(0, len(todo), batch_size)]
        if not batches:
            use.make_room(0)
        stored = 0
        for number, batch in enumerate(track(batches, "encoding")):
            features = encode(encoder, [item.load() for item in batch], device)
            packed = {item.key: self._packed(item.key, _row(features, row)) for row, item in enumerate(batch)}
            if number == 0:
                each = sum(map(len, packed.values())) / len(batch)
                self._announce(encoder, len(todo), len(batches), each)
                self._has_room = use.make_room(round(each * len(todo)))
            count = sum(self._store(key, data) for key, data in packed.items())
            stored += count
            if not count:
                break
        return stored

    def encode_again(self, encoder: Encoder, keys: Sequence[str], batch: Tensor | dict[str, Tensor]) -> Features:
        """Return what `read` would return for a batch of items of which some were lost, and store what is missing.

        Args:
            encoder: a frozen one.
            keys: the key of each item, in the order of the rows of `batch`.
            batch: what `encoder.batch` made, on the encoder's device.
        """
        inputs = batch if isinstance(batch, Tensor) else next(iter(batch.values()))
        with torch.no_grad(), torch.autocast(inputs.device.type, enabled=False), _whole_products():
            features = {name: tensor.float() for name, tensor in encoder.features(batch).items()}
        for row, key in enumerate(keys):
            if not self._has(key):
                self._store(key, self._packed(key, _row(features, row)))
        return {name: tensor.to(self.dtype).float() for name, tensor in features.items()}

    def _announce(self, encoder: Encoder, count: int, batches: int, each: float) -> None:
        """Log what is encoded and the size of the result, if there are more than 8 batches."""
        if batches > 8:
            size, free = format_bytes(count * each), format_bytes(free_bytes(self.root))
            room = f"{size} in {self.root.name}, {free} of disk free"
            log(f"encoding {count} items once with {encoder.source} ({room}; cached in {self.root})")


def _row(features: Features, row: int) -> Features:
    return {name: tensor[row] for name, tensor in features.items()}


def _changed(path: Path) -> tuple[int, int, int]:
    """Return what changes with a file's content."""
    with contextlib.suppress(OSError):
        status = path.lstat()
        return status.st_ino, status.st_size, status.st_mtime_ns
    return -1, -1, -1


@contextlib.contextmanager
def _whole_products() -> Iterator[None]:
    """Compute convolutions in float32 on a GPU, too: TF32 cuts products to 10 bits, under the same key as a CPU's."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@torch.no_grad()
def encode(encoder: Encoder, loaded: list[Any], device: torch.device) -> Features:
    """Encode loaded items on `device`; return the features on the CPU in float32."""
    with _whole_products():
        features = encoder.features(send_to_device(encoder.batch(loaded), device))
    return {name: tensor.float().cpu() for name, tensor in features.items()}
