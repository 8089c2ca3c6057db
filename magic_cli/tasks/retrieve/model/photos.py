"""Photos as levels: features of the frozen part from the cache, the rest computed in each step."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from magic_cli.models.cache.features import FeatureCache, Item
from magic_cli.models.encoders import ImageEncoder
from magic_cli.models.retrieval.levels import frozen_levels, level_channels, levels_of, statistics
from magic_cli.records import ImageRecord
from magic_cli.tasks.encoding import Encoded, ToEncode, encoded, gather, photo_item


class PhotoLevels(nn.Module):
    """The levels of photos, each projected to a common width: (B, D, h, w).

    Channels are centred and scaled by training photos first (`fit`), so that levels of any encoder start alike.

    Args:
        images: a pyramid encoder, tuned as the settings say; its weights are not part of this module.
        dim: D.
        side: largest height and width of a level.
        dropout: of whole channels before the projection, in training.
    """

    def __init__(self, images: ImageEncoder, dim: int, side: int, dropout: float) -> None:
        super().__init__()
        self._images = (images,)  # a tuple: the model registers it, under its own name
        self.side, self.channels = side, level_channels(images)
        self.first = frozen_levels(images, side)
        for number, width in enumerate(self.channels):
            self.register_buffer(f"mean{number}", torch.zeros(width))
            self.register_buffer(f"std{number}", torch.ones(width))
        self.dropout = nn.Dropout2d(dropout)
        self.projections = nn.ModuleList(nn.Conv2d(width, dim, 1) for width in self.channels)

    @property
    def encoder(self) -> ImageEncoder:
        """The encoder of loaded photos: the frozen part, or the whole."""
        return self._images[0] if self.first is None else self.first

    def items(self, record: ImageRecord, views: Iterable[int]) -> Iterable[tuple[ImageEncoder, Item]]:
        """Yield what may be cached of a photo, in these views."""
        if self.first is not None:
            for view in views:
                yield self.first, photo_item(self.first, record, view)

    def load(
        self, records: Sequence[ImageRecord], views: Sequence[int], cache: FeatureCache | None
    ) -> Encoded | ToEncode:
        """Return photos for the encoder: their cached features, or pixels."""
        items = [photo_item(self.encoder, record, view) for record, view in zip(records, views, strict=True)]
        return gather(self.encoder, items, cache)

    def raw(self, photos: Encoded | ToEncode) -> list[Tensor]:
        """Return the encoder's levels (B, C, h, w), fine to coarse."""
        features = encoded(self.encoder, photos)
        return levels_of(self._images[0], self.first, features, self.side)

    def fit(self, levels: list[Tensor]) -> None:
        """Set centre and scale of the channels from the levels of training photos."""
        for number, (mean, std) in enumerate(statistics(levels)):
            getattr(self, f"mean{number}").copy_(mean)
            getattr(self, f"std{number}").copy_(std)

    def forward(self, photos: Encoded | ToEncode) -> list[Tensor]:
        """Return the projected levels."""
        return self.projected(self.raw(photos))

    def projected(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Return levels (B, C, h, w), as `raw` gives them, projected."""
        return [self._projected(number, level) for number, level in enumerate(levels)]

    def _projected(self, number: int, level: Tensor) -> Tensor:
        mean, std = getattr(self, f"mean{number}"), getattr(self, f"std{number}")
        scaled = (level - mean[:, None, None]) / std[:, None, None]
        projected: Tensor = self.projections[number](self.dropout(scaled))
        return projected
