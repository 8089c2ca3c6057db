"""The segmentation model: image pyramid + text condition -> lesion probabilities."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from magic_cli.data.imaging.images import open_photo
from magic_cli.data.imaging.masks import read_mask
from magic_cli.data.questions import QuestionSchema
from magic_cli.models.augment import Augment, turn, unturn
from magic_cli.models.cache.features import Item
from magic_cli.models.cache.pixels import Pixels, PixelStore
from magic_cli.models.encoders import Encoder, ImageEncoder, TextEncoder
from magic_cli.models.fine_tuning import set_finetuning
from magic_cli.models.heads import PyramidDecoder
from magic_cli.models.huggingface import ClipSegHead, clipseg
from magic_cli.models.losses import mask_loss
from magic_cli.records import ImageRecord, Sample
from magic_cli.tasks.encoding import Encoded, ToEncode, encoded, gather, photo_item, pretrained, text_item
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.tasks.seg.decide import MaskPrediction
from magic_cli.training.task import of_class
from magic_cli.training.task_model import Batch, TaskModel

ROOM = 1.5  # stored photos are larger than the model's input, so that crops keep their resolution

Parts = tuple[ImageEncoder, TextEncoder, PyramidDecoder | ClipSegHead]


@dataclass(frozen=True)
class SegBatch(Batch):
    """B photos with their prompts.

    ids: image ids.
    shapes: the photos' full (H, W).
    prompts, photos: items for the text and the image encoder.
    masks: in training, uint8 (B, S, S), foreground fraction per pixel, 0..255.
    """

    ids: list[str]
    shapes: list[tuple[int, int]]
    prompts: Encoded | ToEncode
    photos: Encoded | ToEncode
    masks: Tensor | None = None


class SegModel(TaskModel):
    """Photo (S, S) + prompt -> logits (h, w); S is `config.image_size`.

    A Hub name in `image_encoder` is a CLIPSeg checkpoint, with its own decoder (IReL paper, section 4.1.3);
    otherwise a PyramidDecoder is learned on the encoder's pyramid.
    """

    def __init__(self, config: SegConfig) -> None:
        super().__init__()
        self.config = config
        if "/" in config.image_encoder:
            parts: Parts = clipseg(config.image_encoder, config.weights_path, config.image_size, config.text_window)
        else:
            images, texts = pretrained(config, "pyramid")
            parts = images, texts, PyramidDecoder(images.channels, texts.dim, config.width, config.dropout)
        self.images, self.texts, self.head = parts
        self.texts.freeze()
        set_finetuning(self.images, config.finetune, config.rank)
        self.augment = Augment(config.image_size, config.crop, config.colour) if config.random_views else None

    def frozen(self, samples: Sequence[Sample], views: int) -> Iterable[tuple[Encoder, Item]]:
        """Yield every photo in every view, if the image encoder is frozen, and every prompt."""
        for sample in samples:
            if self.images.is_frozen and self.augment is None:
                for view in range(views):
                    yield self.images, photo_item(self.images, sample.images[0], view)
            yield self.texts, self._prompt(sample)

    def _prompt(self, sample: Sample) -> Item:
        return text_item(self.texts, sample.case.question, sample.case.answer)

    def collate(self, samples: Sequence[Sample], views: Sequence[int]) -> SegBatch:
        """Return photos and prompts; in training also masks."""
        ids = [sample.id for sample in samples]
        shapes = [(sample.images[0].height, sample.images[0].width) for sample in samples]
        prompts = gather(self.texts, [self._prompt(sample) for sample in samples], self.cache)
        pairs = list(zip((sample.images[0] for sample in samples), views, strict=True))
        if self.training and self.augment is not None:
            seen = [self.augment(*self._pair(photo, ROOM), view) for photo, view in pairs]
            photos = ToEncode(self.images.batch([photo for photo, _ in seen]))
            return SegBatch(ids, shapes, prompts, photos, torch.stack([mask for _, mask in seen]))
        cache = self.cache if self.augment is None else None
        items = gather(self.images, [photo_item(self.images, photo, view) for photo, view in pairs], cache)
        if not self.training:
            return SegBatch(ids, shapes, prompts, items)
        masks = torch.stack([turn(self._mask(photo, 1.0), view) for photo, view in pairs])
        return SegBatch(ids, shapes, prompts, items, masks)

    @property
    def _store(self) -> PixelStore:
        return PixelStore(self.cache.root.parent / "pixels" if self.cache else None)

    def _pair(self, record: ImageRecord, room: float) -> tuple[Tensor, Tensor]:
        """Return a photo, uint8 (3, s, s), and its mask, uint8 (s, s), with s = room * image_size."""
        side = round(room * self.config.image_size)

        def load() -> Pixels:
            assert record.path is not None  # noqa: S101  samples() gives only photos that exist
            photo = open_photo(record.path, record.upright, at_least=2 * side, sha256=record.sha256)
            return np.asarray(photo.resize((side, side), Image.Resampling.BICUBIC))

        pixels = self._store.get(f"photo {record.sha256} {record.upright} {side} draft", load)
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1), self._mask(record, room)

    def _mask(self, record: ImageRecord, room: float) -> Tensor:
        """Return the merged mask as uint8 (s, s), the area mean in 0..255, with s = room * image_size."""
        path, side = record.mask, round(room * self.config.image_size)
        assert path is not None  # noqa: S101  samples() gives only train photos with a mask

        def load() -> Pixels:
            full = Image.fromarray(read_mask(path) * np.uint8(255))
            return np.asarray(full.resize((side, side), Image.Resampling.BOX))

        stat = Path(path).stat()
        return torch.from_numpy(self._store.get(f"mask {path} {stat.st_size} {stat.st_mtime_ns} {side}", load).copy())

    def _logits(self, batch: SegBatch) -> Tensor:
        features = encoded(self.images, batch.photos)
        logits: Tensor = self.head(features, encoded(self.texts, batch.prompts)["text"])
        return logits

    def loss(self, batch: Batch) -> Tensor:
        """Return the mask loss against soft masks in [0, 1]."""
        photos = of_class(batch, SegBatch)
        return mask_loss(self._logits(photos), of_class(photos.masks, Tensor).float() / 255, self.config.loss)

    def predict(self, batch: Batch, view: int) -> list[MaskPrediction]:
        """Return foreground probabilities (S, S), float32, with the settings' threshold and the photo's (H, W)."""
        photos = of_class(batch, SegBatch)
        logits = self._logits(photos).float()[:, None]
        size = (self.config.image_size,) * 2
        logits = torch.nn.functional.interpolate(logits, size, mode="bilinear", align_corners=False)[:, 0]
        maps = unturn(torch.sigmoid(logits), view).cpu().numpy()
        rows = zip(photos.ids, maps, photos.shapes, strict=True)
        return [MaskPrediction(i, array, shape=shape, threshold=self.config.threshold) for i, array, shape in rows]


def build(config: SegConfig, _questions: QuestionSchema) -> SegModel:
    """Return the untrained model."""
    return SegModel(config)
