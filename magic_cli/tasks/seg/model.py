"""The segmentation model: image pyramid + text condition -> lesion probabilities."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from magic_cli.data.imaging.images import Box, open_photo
from magic_cli.data.imaging.masks import read_mask
from magic_cli.data.questions import QuestionSchema
from magic_cli.data.texts.prompt_ladder import is_step
from magic_cli.models.augment import Augment, turn, unturn
from magic_cli.models.cache.features import Item
from magic_cli.models.cache.pixels import Pixels, PixelStore
from magic_cli.models.encoders import Encoder, Features, ImageEncoder, TextEncoder
from magic_cli.models.fine_tuning import tune
from magic_cli.models.heads import PyramidDecoder
from magic_cli.models.huggingface import ClipSegHead, clipseg
from magic_cli.models.masks.losses import supervised_loss
from magic_cli.models.weights import is_kind
from magic_cli.records import ImageRecord, Prediction, Sample
from magic_cli.tasks.encoding import (
    Encoded,
    ToEncode,
    encoded,
    gather,
    photo_item,
    pretrained,
    published_images,
    text_item,
)
from magic_cli.tasks.seg import second_look
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
    prompts: items for the text encoder.
    photos: items for the image encoder of each network.
    masks: in training, uint8 (B, S, S), foreground fraction per pixel, 0..255.
    """

    ids: list[str]
    shapes: list[tuple[int, int]]
    prompts: Encoded | ToEncode
    photos: list[Encoded | ToEncode]
    masks: Tensor | None = None


class Network(nn.Module):
    """An image encoder with a decoder of its own, beside those of the model (`config.ensemble`)."""

    def __init__(self, images: ImageEncoder, head: PyramidDecoder) -> None:
        super().__init__()
        self.images, self.head = images, head


class SegModel(TaskModel):
    """Photo (S, S) + prompt -> logits (h, w); S is `config.image_size`.

    A CLIPSeg checkpoint comes with its own decoder (IReL paper, section 4.1.3); for all others, a PyramidDecoder is
    learned on the encoder's pyramid. With `ensemble`, networks of other encoders learn beside it from the same views,
    each by its own loss, and the mean of their probabilities is predicted (deep ensembles: Lakshminarayanan et al.,
    2017).
    """

    def __init__(self, config: SegConfig) -> None:
        super().__init__()
        self.config = config
        if is_kind(config.image_encoder, config.weights_path, ("clipseg",)):
            parts: Parts = clipseg(config.image_encoder, config.weights_path, config.image_size, config.text_window)
        else:
            images, texts = pretrained(config, "pyramid")
            parts = images, texts, _decoder(images, texts, config)
        self.images, self.texts, self.head = parts
        self.texts.freeze()
        others = (published_images(replace(config, image_encoder=kind), "pyramid") for kind in config.ensemble_kinds)
        self.others = nn.ModuleList(Network(images, _decoder(images, self.texts, config)) for images in others)
        for images in self._encoders:
            tune(images, config)
        own = config.image_size, config.crop, config.colour, config.coarse, config.zoom_out
        self.augment = Augment(*own) if config.random_views else None

    @property
    def networks(self) -> list[tuple[ImageEncoder, PyramidDecoder | ClipSegHead]]:
        """The image encoder and the decoder of each network."""
        others = (of_class(network, Network) for network in self.others)
        return [(self.images, self.head), *((network.images, network.head) for network in others)]

    @property
    def _encoders(self) -> list[ImageEncoder]:
        return [images for images, _ in self.networks]

    def frozen(self, samples: Sequence[Sample], views: int) -> Iterable[tuple[Encoder, Item]]:
        """Yield every photo in every view, for frozen image encoders, and every prompt."""
        for sample in samples:
            for images in self._encoders if self.augment is None else ():
                if images.is_frozen:
                    for view in range(views):
                        yield images, photo_item(images, sample.images[0], view)
            for prompt in self._prompts(sample):
                yield self.texts, prompt

    def _prompts(self, sample: Sample) -> list[Item]:
        """Return the texts that a training may draw from: the case's own, and the steps that it comes with."""
        steps = [text_item(self.texts, text["en"], "") for role, text in sample.case.texts.items() if is_step(role)]
        return [text_item(self.texts, sample.case.question, sample.case.answer), *steps]

    def _prompt(self, sample: Sample, view: int) -> Item:
        """Return the case's own text; in training one of those it comes with, the same for the same view."""
        prompts = self._prompts(sample)
        draw = random.Random(f"prompt {view}")  # noqa: S311  not a secret
        return draw.choice(prompts) if self.training else prompts[0]

    def collate(self, samples: Sequence[Sample], views: Sequence[int]) -> SegBatch:
        """Return photos and prompts; in training also masks."""
        ids = [sample.id for sample in samples]
        shapes = [(sample.images[0].height, sample.images[0].width) for sample in samples]
        drawn = [self._prompt(sample, view) for sample, view in zip(samples, views, strict=True)]
        prompts = gather(self.texts, drawn, self.cache)
        if self.training and self.augment is None:  # of more views than of the photo if the text is drawn, too
            views = [view % self.config.views for view in views]
        pairs = list(zip((sample.images[0] for sample in samples), views, strict=True))
        if self.training and self.augment is not None:
            seen = [self.augment(*self._pair(photo, ROOM), view) for photo, view in pairs]
            photos = ToEncode(self.images.batch([photo for photo, _ in seen]))
            each: list[Encoded | ToEncode] = [photos] * len(self.networks)
            return SegBatch(ids, shapes, prompts, each, torch.stack([mask for _, mask in seen]))
        is_part = any(photo.box for photo, _ in pairs)  # of a photo, and seen once
        cache = self.cache if self.augment is None and not is_part else None
        items = [
            gather(images, [photo_item(images, photo, view) for photo, view in pairs], cache)
            for images in self._encoders
        ]
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

    def _logits(self, batch: SegBatch) -> list[Tensor]:
        """Return the logits (B, h, w) of each network."""
        return [head(features, text) for head, features, text in self._features(batch)]

    def _features(self, batch: SegBatch) -> Iterator[tuple[PyramidDecoder | ClipSegHead, Features, Tensor]]:
        """Yield the decoder of each network with what it reads: the photos' features, and the text's."""
        text = encoded(self.texts, batch.prompts)["text"]
        for (images, head), photos in zip(self.networks, batch.photos, strict=True):
            yield head, encoded(images, photos), text

    def probabilities(self, each: Sequence[Tensor]) -> Tensor:
        """Return foreground probabilities (B, S, S), float32: the mean over networks, of their logits (B, h, w)."""
        size = (self.config.image_size,) * 2
        enlarged = (
            functional.interpolate(x.float()[:, None], size, mode="bilinear", align_corners=False) for x in each
        )
        return torch.stack([torch.sigmoid(logits) for logits in enlarged]).mean(0)[:, 0]

    def loss(self, batch: Batch) -> Tensor:
        """Return the mask loss against soft masks in [0, 1], the mean over networks.

        With `deep_supervision`, the mean loss of the maps of a decoder's coarser levels is added with that weight.
        """
        photos = of_class(batch, SegBatch)
        masks = of_class(photos.masks, Tensor).float() / 255
        maps = (head.maps(features, text) for head, features, text in self._features(photos))
        config = self.config
        return torch.stack([supervised_loss(each, masks, config.loss, config.deep_supervision) for each in maps]).mean()

    def predict(self, batch: Batch, view: int) -> list[MaskPrediction]:
        """Return foreground probabilities (S, S), float32, with the settings' threshold and the photo's (H, W)."""
        photos = of_class(batch, SegBatch)
        maps = unturn(self.probabilities(self._logits(photos)), view).cpu().numpy()
        rows = zip(photos.ids, maps, photos.shapes, strict=True)
        return [MaskPrediction(i, array, shape=shape, threshold=self.config.threshold) for i, array, shape in rows]

    def closer(self, first: Prediction, factor: float) -> Box | None:
        """Return the surroundings of a small lesion."""
        return second_look.closer(of_class(first, MaskPrediction), factor)

    def both_looks(self, first: Prediction, second: Prediction, box: Box) -> Prediction:
        """Return the first look with the part that the second one saw averaged into it."""
        return second_look.both_looks(of_class(first, MaskPrediction), of_class(second, MaskPrediction), box)


def _decoder(images: ImageEncoder, texts: TextEncoder, config: SegConfig) -> PyramidDecoder:
    deeply = config.deep_supervision > 0
    return PyramidDecoder(images.channels, texts.dim, config.width, config.dropout, config.scale_attention, deeply)


def build(config: SegConfig, _questions: QuestionSchema) -> SegModel:
    """Return the untrained model."""
    return SegModel(config)
