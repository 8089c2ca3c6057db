"""Encoder outputs kept in memory during prediction, so that no text and no photo is encoded twice.

Questions share texts and a case shares its photos, and there may be no cache on disk.
"""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from magic_cli.models.encoders import Encoder, Features, ImageEncoder, TextEncoder

MAX_ITEMS = 4096  # per encoder, of 2 to 5 kB each

_memo: WeakKeyDictionary[Encoder, dict[str, Features]] = WeakKeyDictionary()


def is_small(encoder: Encoder) -> bool:
    """Return whether an encoder's features are small enough to keep: those of texts, and vectors of photos."""
    return isinstance(encoder, TextEncoder) or (isinstance(encoder, ImageEncoder) and encoder.output == "pooled")


def encode_memoised(encoder: Encoder, keys: Sequence[str], batch: Tensor | dict[str, Tensor]) -> Features:
    """Return the features of a batch; only items whose key is new are encoded.

    Args:
        encoder: keeps its items as long as it lives; if there are more than `MAX_ITEMS`, the first ones are dropped.
        keys: the key of each item, in the order of the rows of `batch`.
        batch: what `encoder.batch` made.
    """
    known = _memo.setdefault(encoder, {})
    new: dict[str, int] = {}
    for row, key in enumerate(keys):
        if key not in known:
            new.setdefault(key, row)
    if new:
        rows = list(new.values())
        selected = batch[rows] if isinstance(batch, Tensor) else {name: t[rows] for name, t in batch.items()}
        features = encoder.features(selected)
        known |= {key: {name: t[i] for name, t in features.items()} for i, key in enumerate(new)}
    items = [known[key] for key in keys]
    for key in list(known)[: max(0, len(known) - MAX_ITEMS)]:
        del known[key]
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


def clear_trainable(model: nn.Module) -> None:
    """Forget the outputs of those encoders in `model` that are trained: their weights may have changed."""
    for module in model.modules():
        if isinstance(module, Encoder) and not module.is_frozen:
            _memo.pop(module, None)


def clear(encoder: Encoder) -> None:
    """Forget the outputs of one encoder."""
    _memo.pop(encoder, None)
