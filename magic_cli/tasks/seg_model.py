"""The segmentation model: image pyramid + text condition -> lesion probabilities."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from magic_cli.config import SegConfig
from magic_cli.data.masks import read_mask
from magic_cli.engine import Batch, TaskModel
from magic_cli.model.cache import Item
from magic_cli.model.encoders import Encoder, ImageEncoder, TextEncoder
from magic_cli.model.heads import PyramidDecoder
from magic_cli.model.hub import ClipSegHead, clipseg
from magic_cli.model.losses import mask_loss
from magic_cli.questions import QuestionSchema
from magic_cli.records import ImageRecord, Prediction, Sample
from magic_cli.tasks.inputs import encoded, gather, photo_item, pretrained, text_item, turn, unturn

Parts = tuple[ImageEncoder, TextEncoder, PyramidDecoder | ClipSegHead]


class SegModel(TaskModel):
    """Photo (S, S) + prompt -> logits (h, w); S is `config.image_size`.

    A Hub name in `image_encoder` is a CLIPSeg checkpoint, with its own decoder (IReL paper, section 4.1.3);
    otherwise a PyramidDecoder is learned on the encoder's pyramid.
    """

    def __init__(self, config: SegConfig) -> None:
        super().__init__()
        self.config = config
        if "/" in config.image_encoder:
            parts: Parts = clipseg(config.image_encoder, config.weights_dir, config.image_size, config.text_window)
        else:
            images, texts = pretrained(config, pooled=False)
            parts = images, texts, PyramidDecoder(images.channels, texts.dim, config.width, config.dropout)
        self.images, self.texts, self.head = parts
        self.texts.freeze()
        if config.tune == "head":
            self.images.freeze()
        self._small_masks: dict[Path, Tensor] = {}

    def frozen(self, samples: Sequence[Sample], views: int) -> Iterable[tuple[Encoder, Item]]:
        """Yield every photo in every view, when the image encoder is frozen, and every prompt."""
        for sample in samples:
            if self.images.is_frozen:
                for view in range(views):
                    yield self.images, photo_item(self.images, sample.images[0], view)
            yield self.texts, self._prompt(sample)

    def _prompt(self, sample: Sample) -> Item:
        return text_item(self.texts, sample.encounter.question, sample.encounter.answer)

    def collate(self, samples: Sequence[Sample], views: Sequence[int]) -> Batch:
        """Return photos and prompts, encoded or raw; in training also "masks", uint8 (B, S, S)."""
        photos = [photo_item(self.images, s.images[0], v) for s, v in zip(samples, views, strict=True)]
        batch: Batch = {
            "photos": gather(self.images, photos, self.cache),
            "prompts": gather(self.texts, [self._prompt(s) for s in samples], self.cache),
            "ids": [sample.id for sample in samples],
            "shapes": [(s.images[0].height, s.images[0].width) for s in samples],
        }
        if self.training:
            masks = [turn(self._mask(s.images[0]), v) for s, v in zip(samples, views, strict=True)]
            batch["masks"] = torch.stack(masks)
        return batch

    def _mask(self, record: ImageRecord) -> Tensor:
        """Return the merged mask as uint8 (S, S), the area mean in 0..255; 64 kB a photo are kept."""
        assert record.mask is not None  # noqa: S101  samples() gives train photos with a mask only
        if record.mask not in self._small_masks:
            full = Image.fromarray(read_mask(record.mask, str(record.mask)) * np.uint8(255))
            small = full.resize((self.config.image_size,) * 2, Image.Resampling.BOX)
            self._small_masks[record.mask] = torch.from_numpy(np.asarray(small).copy())
        return self._small_masks[record.mask]

    def _logits(self, batch: Batch) -> Tensor:
        features = encoded(self.images, batch["photos"])
        logits: Tensor = self.head(features, encoded(self.texts, batch["prompts"])["text"])
        return logits

    def loss(self, batch: Batch) -> Tensor:
        """Return the mask loss against soft masks in [0, 1]."""
        return mask_loss(self._logits(batch), batch["masks"].float() / 255, self.config.loss)

    def predict(self, batch: Batch, view: int) -> list[Prediction]:
        """Return foreground probabilities (S, S), float32, with the photo's full shape."""
        logits = self._logits(batch).float()[:, None]
        size = (self.config.image_size,) * 2
        logits = torch.nn.functional.interpolate(logits, size, mode="bilinear", align_corners=False)[:, 0]
        maps = unturn(torch.sigmoid(logits), view).cpu().numpy()
        rows = zip(batch["ids"], maps, batch["shapes"], strict=True)
        return [Prediction(name, {"mask": mask}, (int(h), int(w))) for name, mask, (h, w) in rows]


def build(config: SegConfig, _questions: QuestionSchema) -> SegModel:
    """Return the untrained model."""
    return SegModel(config)
