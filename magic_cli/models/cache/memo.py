"""What a prediction has encoded, kept as long as its encoder: no text and no photo's vector is made twice."""

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from magic_cli.models.encoders import Encoder, Features, ImageEncoder, TextEncoder

MOST = 4096  # items an encoder, of 2 to 5 kB

_known: WeakKeyDictionary[Encoder, dict[str, Features]] = WeakKeyDictionary()


def fits(encoder: Encoder) -> bool:
    """Tell whether an encoder's features are small enough to be kept: vectors are, pyramids and taps are not."""
    return isinstance(encoder, TextEncoder) or (isinstance(encoder, ImageEncoder) and len(encoder.channels) == 1)


def recalled(encoder: Encoder, keys: Sequence[str], raw: Any) -> Features:
    """Return the features of a batch, of which only items with new keys are encoded.

    Questions share texts, and photos of one patient theirs, also where there is no cache on the disk.

    Args:
        keys: an item's key each, in the order of `raw`.
        raw: what the encoder's `batch` made.
    """
    known = _known.setdefault(encoder, {})
    new: dict[str, int] = {}
    for row, key in enumerate(keys):
        if key not in known:
            new.setdefault(key, row)
    if new:
        rows = list(new.values())
        taken = raw[rows] if isinstance(raw, Tensor) else {name: tensor[rows] for name, tensor in raw.items()}
        found = encoder.features(taken)
        known |= {key: {name: t[i] for name, t in found.items()} for i, key in enumerate(new)}
    items = [known[key] for key in keys]
    for key in list(known)[: max(0, len(known) - MOST)]:
        del known[key]
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


def forget(model: nn.Module) -> None:
    """Drop what is known of the encoders in `model` that learn, and may have learned since."""
    for part in model.modules():
        if isinstance(part, Encoder) and not part.is_frozen:
            _known.pop(part, None)


def forget_all(encoder: Encoder) -> None:
    """Drop what is known of an encoder, as if nothing had been predicted with it."""
    _known.pop(encoder, None)
