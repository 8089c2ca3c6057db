"""Photos as the image encoder sees them: a fixed view, or a random one that is cropped and recoloured."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from magic_cli.data.imaging.images import open_record
from magic_cli.models.augment import PhotoAugment
from magic_cli.models.cache.features import FeatureCache
from magic_cli.models.cache.pixels import Pixels, PixelStore
from magic_cli.models.encoders import Features, ImageEncoder
from magic_cli.models.stem import stem_of
from magic_cli.records import ImageRecord
from magic_cli.tasks.encoding import Encoded, ToEncode, encoded, gather, photo_item
from magic_cli.tasks.pretrain.config import PretrainConfig

ROOM = 1.25  # stored photos are larger than the model's input, so that crops keep their resolution


class PhotoViews:
    """Loads photos for the image encoder in views.

    With random views, photos are decoded once: they are stored shrunk (models/cache/pixels.py), and every step crops
    and recolours the stored one. Photos inside shards are decoded in every epoch instead: a copy of a large set beside
    it would fill the disk.

    Attributes:
        first: the encoder of loaded photos: the whole one, or its frozen first part (models/stem.py), of which the
            features may be cached, with finetune=last and without random views.
    """

    def __init__(self, encoder: ImageEncoder, config: PretrainConfig) -> None:
        self.encoder, self.size = encoder, config.image_size
        self.augment = (
            PhotoAugment(config.image_size, config.crop, config.colour, config.grey) if config.random_views else None
        )
        self.stem = stem_of(encoder) if self.augment is None else None
        self.first: ImageEncoder = self.stem or encoder

    def load(
        self, records: Sequence[ImageRecord], views: Sequence[int], cache: FeatureCache | None, is_training: bool
    ) -> Encoded | ToEncode:
        """Return photos for the encoder: their cached features, or pixels."""
        if self.augment is not None and is_training:
            store = PixelStore(cache.root.parent / "pixels" if cache else None)
            pairs = zip(records, views, strict=True)
            return ToEncode(
                self.encoder.batch([self.augment(self._shrunk(record, store), view) for record, view in pairs])
            )
        items = [photo_item(self.first, record, view) for record, view in zip(records, views, strict=True)]
        return gather(self.first, items, cache)

    def features(self, photos: Encoded | ToEncode) -> Features:
        """Return the image encoder's features of loaded photos."""
        features = encoded(self.first, photos)
        return features if self.stem is None else self.encoder.tail(features)

    def _shrunk(self, record: ImageRecord, store: PixelStore) -> Tensor:
        """Return a photo, uint8 (3, s, s), with s = ROOM * image_size."""
        side = round(ROOM * self.size)

        def load() -> Pixels:
            photo = open_record(record, at_least=2 * side)
            return np.asarray(photo.resize((side, side), Image.Resampling.BICUBIC))

        pixels = store.get(f"photo {record.sha256} {record.upright} {side} draft", load) if record.sha256 else load()
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1)
