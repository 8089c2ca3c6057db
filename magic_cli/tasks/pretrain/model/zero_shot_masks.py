"""Masks in words (`magic predict seg --zero-shot`): where a photo is like a text, by a finished pretraining."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from magic_cli.data.imaging.images import open_record
from magic_cli.data.imaging.probability_maps import otsu
from magic_cli.data.imaging.regions import largest_region
from magic_cli.models.augment import unturn
from magic_cli.models.cache.features import Item
from magic_cli.models.encoders import Encoder, Features
from magic_cli.models.masks.box_prompt import Box, BoxPrompt
from magic_cli.models.masks.saliency import gradient_map
from magic_cli.records import Sample
from magic_cli.tasks.encoding import Encoded, ToEncode, photo_item
from magic_cli.tasks.pretrain.config import PretrainConfig
from magic_cli.tasks.pretrain.model.contrastive import build as build_pair
from magic_cli.tasks.seg.decide import MaskPrediction
from magic_cli.tasks.seg.mask_prompt import MaskPrompt
from magic_cli.training.task import of_class
from magic_cli.training.task_model import Batch, TaskModel


@dataclass(frozen=True)
class PhotoBatch(Batch):
    """B photos.

    ids: image ids.
    shapes: the photos' full (H, W).
    photos: items for the image encoder; for gradients its pixels.
    boxed: the photos as SAM reads them, float32 (B, 3, side, side), and their (h, w) there; None without SAM.
    inside: see `boxed`.
    """

    ids: list[str]
    shapes: list[tuple[int, int]]
    photos: Encoded | ToEncode
    boxed: Tensor | None = None
    inside: list[tuple[int, int]] | None = None


class ZeroShotMasks(TaskModel):
    """Photo (S, S) + text -> a map of where it is, scaled to [0, 1] on each photo, with Otsu's threshold of the photo.

    It follows MedCLIP-SAM (Koleilat et al., MICCAI 2024): saliency, threshold, components, a box, and SAM. The tensors
    have the names of `PretrainModel`'s, whose best.pt it loads; nothing is trained.
    """

    def __init__(self, config: PretrainConfig, asked: MaskPrompt) -> None:
        super().__init__()
        self.config, self.asked = config, asked
        pair = build_pair(config)
        self._pair = (pair,)  # a tuple: its modules are registered below, once
        self.images, self.texts = pair.images, pair.texts
        self.image_projection, self.text_projection = pair.image_projection, pair.text_projection
        self.log_scale, self.bias = pair.log_scale, pair.bias
        self.views = pair.views
        self._sam: tuple[BoxPrompt, ...] = (BoxPrompt(asked.sam, config.weights_path),) if asked.sam else ()
        self._direction: Tensor | None = None

    def frozen(self, samples: Sequence[Sample], views: int) -> Iterable[tuple[Encoder, Item]]:
        """Yield every photo in every view, unless gradients are asked for."""
        if self.asked.saliency == "similarity" and self.views.first.is_frozen:
            for sample in samples:
                for view in range(views):
                    yield self.views.first, photo_item(self.views.first, sample.images[0], view)

    def collate(self, samples: Sequence[Sample], views: Sequence[int]) -> PhotoBatch:
        """Return the photos; the texts of their cases are not read."""
        records = [sample.images[0] for sample in samples]
        if self.asked.saliency == "similarity":
            photos = self.views.load(records, views, self.cache, is_training=False)
        else:
            pairs = zip(records, views, strict=True)
            photos = ToEncode(self.images.batch([photo_item(self.images, *pair).load() for pair in pairs]))
        batch = PhotoBatch([s.id for s in samples], [(r.height, r.width) for r in records], photos)
        if not self._sam:
            return batch
        boxed = [self._sam[0].pixels(open_record(record, at_least=self._sam[0].side)) for record in records]
        return PhotoBatch(
            batch.ids, batch.shapes, photos, torch.stack([x for x, _ in boxed]), [shape for _, shape in boxed]
        )

    def predict(self, batch: Batch, view: int) -> list[MaskPrediction]:
        """Return maps (S, S), float32 in [0, 1], with a threshold each; with SAM its maps, and its threshold 0.5."""
        whole = of_class(batch, PhotoBatch)
        size = (self.config.image_size,) * 2
        raw = unturn(self._saliency(whole.photos), view)[:, None]
        enlarged = F.interpolate(raw, size, mode="bilinear", align_corners=False)[:, 0]
        maps = [_scaled(each) for each in enlarged.cpu().numpy()]
        if whole.boxed is not None and whole.inside is not None:
            boxes = [box_around(each) for each in maps]
            found = self._sam[0].masks(whole.boxed, whole.inside, boxes)
            rows = zip(whole.ids, found, whole.shapes, strict=True)
            return [MaskPrediction(name, each, shape=shape, threshold=0.5) for name, each, shape in rows]
        rows = zip(whole.ids, maps, whole.shapes, strict=True)
        return [MaskPrediction(name, each, shape=shape, threshold=otsu(each)) for name, each, shape in rows]

    def _saliency(self, photos: Encoded | ToEncode) -> Tensor:
        """Return raw maps (B, h, w), float32: cosines of patches, less those with the background, or Grad-CAM."""
        direction = self._direction = self._direction if self._direction is not None else self._encode_prompt()
        if self.asked.saliency == "similarity":
            patches = self.image_projection(self.views.features(photos)["patches"]).float()
            side = math.isqrt(patches.shape[1])
            maps: Tensor = (patches @ direction).view(-1, side, side)
            return maps

        def score(features: Features) -> Tensor:
            similarity: Tensor = self.image_projection(features["pooled"]).float() @ direction.clone()
            return similarity

        return gradient_map(self.images, of_class(of_class(photos, ToEncode).inputs, Tensor), score)

    def _encode_prompt(self) -> Tensor:
        """Return the unit vector (d,) of the text, less that of the background."""
        words = [self.asked.text, *([self.asked.background] if self.asked.background else [])]
        vectors = self._pair[0].text_vectors(words).float()
        return vectors[0] - vectors[1:].sum(0)


def _scaled(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a map scaled to [0, 1] by its least and largest value; a flat one is 0."""
    least, most = array.min(), array.max()
    return np.asarray((array - least) / max(most - least, 1e-12), np.float32)


def box_around(array: NDArray[np.float32]) -> Box:
    """Return the box around the largest region above Otsu's threshold, as shares; the whole photo for a flat map."""
    mask = largest_region((array > otsu(array)).view(np.uint8))
    if not mask.any():
        return 0.0, 0.0, 1.0, 1.0
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    height, width = mask.shape
    return columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height


def build(config: PretrainConfig, asked: MaskPrompt) -> ZeroShotMasks:
    """Return the model before the weights of best.pt are loaded."""
    return ZeroShotMasks(config, asked)
