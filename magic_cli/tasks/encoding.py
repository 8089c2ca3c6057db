"""Encoder inputs shared by the tasks: photos in a view, the two halves of a text; cached for frozen encoders."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Self
from weakref import WeakKeyDictionary

import torch
from PIL import Image
from torch import Tensor

from magic_cli.config import Config
from magic_cli.data.imaging.images import open_record
from magic_cli.data.prompts import share_window
from magic_cli.data.texts.windows import windows
from magic_cli.errors import CheckpointError, ConfigError
from magic_cli.io import files
from magic_cli.models import backbones, encoders, huggingface
from magic_cli.models.augment import turn
from magic_cli.models.cache import memo
from magic_cli.models.cache.features import FeatureCache, Item
from magic_cli.models.contrastive_encoders import contrastive_pair
from magic_cli.models.efficientnet_lite import Lite0, Lite1, Lite2
from magic_cli.models.encoders import Encoder, Features, ImageEncoder, Output, TextEncoder
from magic_cli.models.handed_on import JOINT, hand_on
from magic_cli.models.hub.timm_folder import TimmImage
from magic_cli.models.weights import BACKBONES, CONTRASTIVE, SWINS, TIMM, is_kind, model_folder, model_type
from magic_cli.records import ImageRecord, Origin, Sample
from magic_cli.tasks.pretraining_runs import TASK as PRETRAIN
from magic_cli.training import checkpoint
from magic_cli.training.task_model import Batch

_LITES = {encoder.kind: encoder for encoder in (Lite0, Lite1, Lite2)}

_KEPT = 8  # photos whose pixels are kept: reading one takes many times longer than turning it

_recent: dict[str, Tensor] = {}

_MOST_TEXTS = 65_536  # per encoder

_windows: WeakKeyDictionary[TextEncoder, dict[str, list[list[int]]]] = WeakKeyDictionary()


def photo_item(encoder: ImageEncoder, record: ImageRecord, view: int) -> Item:
    """Return a photo in a view as an encoder input."""

    def load() -> Tensor:
        return turn(_pixels(encoder, record), view).contiguous()

    return Item(encoder.key(f"photo {record.content_key} {record.upright} {view}"), load)


def first_photos(encoder: ImageEncoder, samples: Sequence[Sample]) -> Tensor:
    """Return the first photo of each sample as it is, stacked as the encoder's inputs."""
    return torch.stack([photo_item(encoder, sample.images[0], 0).load() for sample in samples])


def _pixels(encoder: ImageEncoder, record: ImageRecord) -> Tensor:
    """Return a photo as uint8 (3, S, S); the last few are kept, as the views of a photo are encoded in turn.

    Not of one whose content nothing identifies: another photo could be taken for it.
    """
    if not record.content_key:
        return encoder.pixels(open_record(record))
    # one resized photo serves all encoders that resize alike, such as those of an ensemble
    resized = f"{encoder.size} {encoder.resample} {type(encoder).pixels.__qualname__}"
    key = f"{resized} {record.content_key} {record.upright} {record.path}"
    if key not in _recent:
        _recent[key] = encoder.pixels(open_record(record))
        for old in list(_recent)[:-_KEPT]:
            del _recent[old]
    return _recent[key]


def loaded_photos(encoder: ImageEncoder, photos: Sequence[Image.Image]) -> "ToEncode":
    """Return RGB photos that are in memory as encoder inputs; their features are not cached."""
    return ToEncode(encoder.batch([encoder.pixels(photo) for photo in photos]))


def text_item(encoder: TextEncoder, question: str, answer: str) -> Item:
    """Return the two halves of a text, which share the encoder's window fairly, as an encoder input."""

    def load() -> list[int]:
        first, second = encoder.ids(question), encoder.ids(answer)
        n_first, n_second = share_window(len(first), len(second), encoder.room)
        return encoder.join(first[:n_first], second[:n_second])

    return Item(encoder.key(f"text {question}\0{answer}"), load)


def text_windows(encoder: TextEncoder, text: str) -> list[Item]:
    """Return a text of any length as encoder inputs, of which the mean vector stands for it; nothing is cut.

    A text that fits the encoder's window is one item, the same as `text_item(encoder, text, "")`.
    """
    parts = _divided(encoder, text)
    if not parts:
        return [text_item(encoder, text, "")]
    return [Item(encoder.key(f"window {i} {text}"), partial(encoder.join, ids, ())) for i, ids in enumerate(parts)]


def _divided(encoder: TextEncoder, text: str) -> list[list[int]]:
    """Return the token ids of each window of a text, [] for a single one; kept, as texts recur in every epoch."""
    known = _windows.setdefault(encoder, {})
    if text not in known:
        parts = windows(text, encoder.ids, encoder.room)
        known[text] = parts if len(parts) > 1 else []
        if len(known) > _MOST_TEXTS:
            del known[next(iter(known))]
    return known[text]


@dataclass(frozen=True)
class Encoded(Batch):
    """Items whose features were read from the cache."""

    features: Features

    def split(self, count: int) -> list[Self | None]:
        """Return the items in `count` parts of nearly equal size, in order; None for an empty part."""
        parts = [{n: t[rows] for n, t in self.features.items()} for rows in _slices(self, count)]
        return [replace(self, features=part) if len(next(iter(part.values()))) else None for part in parts]

    def __len__(self) -> int:
        """Return the number of items."""
        return len(next(iter(self.features.values())))


@dataclass(frozen=True)
class ToEncode(Batch):
    """Items that are still to be encoded, on the device.

    inputs: the result of the encoder's `batch`.
    keys: the cache key of each item, in order; empty if no item can recur, as with random crops.
    cache: where the features of these items should be but are not all.
    """

    inputs: Tensor | dict[str, Tensor]
    keys: list[str] = field(default_factory=list)
    cache: FeatureCache | None = None

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.inputs if isinstance(self.inputs, Tensor) else next(iter(self.inputs.values())))

    def split(self, count: int) -> list[Self | None]:
        """Return the items in `count` parts of nearly equal size, in order; None for an empty part."""
        found: list[Self | None] = []
        for rows in _slices(self, count):
            inputs = self.inputs
            part = inputs[rows] if isinstance(inputs, Tensor) else {n: t[rows] for n, t in inputs.items()}
            found.append(replace(self, inputs=part, keys=self.keys[rows]) if rows.stop > rows.start else None)
        return found


Items = Encoded | ToEncode
"""Items whose features are known, or that are still to be encoded."""


def _slices(items: Encoded | ToEncode, count: int) -> list[slice]:
    """Return `count` consecutive slices of items; empty ones come first, so that the last is filled."""
    ends = [len(items) * (number + 1) // count for number in range(count)]
    return [slice(first, last) for first, last in zip([0, *ends], ends, strict=False)]


def gather(encoder: Encoder, items: Sequence[Item], cache: FeatureCache | None) -> Encoded | ToEncode:
    """Read the features of items from the cache, or load the items for the encoder to encode on the device."""
    cache = cache if encoder.is_frozen else None
    if cache is not None:
        rows = [row for item in items if (row := cache.read(item.key))]
        if len(rows) == len(items):
            return Encoded({name: torch.stack([row[name] for row in rows]) for name in rows[0]})
    return ToEncode(encoder.batch([item.load() for item in items]), [item.key for item in items], cache)


def gather_all(
    encoder: ImageEncoder, photos: Sequence[tuple[ImageRecord, int]], cache: FeatureCache | None
) -> Encoded | ToEncode | None:
    """Return photos, each in a view, as `gather` does; None without any."""
    items = [photo_item(encoder, record, view) for record, view in photos]
    return gather(encoder, items, cache) if items else None


def encoded(encoder: Encoder, items: Encoded | ToEncode) -> Features:
    """Return the features of items; in prediction each text, and each photo's vector, is encoded only once."""
    if isinstance(items, Encoded):
        return items.features
    if items.cache is not None:
        return items.cache.encode_again(encoder, items.keys, items.inputs)
    if items.keys and memo.is_small(encoder) and torch.is_inference_mode_enabled():
        return memo.encode_memoised(encoder, items.keys, items.inputs)
    return encoder.features(items.inputs)


def pretrained(config: Config, output: Output, projected: bool = False) -> tuple[ImageEncoder, TextEncoder]:
    """Return the image encoder, with this output, and the text encoder that a config names.

    Args:
        config: the settings; encoders whose weights come from a pretraining run are read from its best.pt.
        output: what the image encoder gives, see `ImageEncoder`.
        projected: whether encoders of a run give its joint space's unit vectors instead of their own.

    Raises:
        WeightsError: weights are missing or damaged. CheckpointError: so is the run, or it does not fit.
        ConfigError: an unknown name.
    """
    if projected and config.image_encoder == "tiny":
        output = "patches"  # with which it was pretrained: its "pooled" is another vector
    images, texts = _published(config, output)
    if config.image_weights:
        load_run(images, Path(config.image_weights), "images", projected)
    if config.text_weights:
        load_run(texts, Path(config.text_weights), "texts", projected)
    return images, texts


def published_images(config: Config, output: Output) -> ImageEncoder:
    """Return the image encoder that a config names with its published weights; raises as `pretrained`."""
    return _published(replace(config, text_encoder="tiny"), output)[0]


def _published(config: Config, output: Output) -> tuple[ImageEncoder, TextEncoder]:
    """Return the encoders with their published weights."""
    images: ImageEncoder
    if config.image_encoder in _LITES:
        images = _LITES[config.image_encoder](config.image_size, output)
    elif config.image_encoder == "tiny":
        images = encoders.TinyImage(config.image_size, output)
    elif output != "pyramid" and _is_contrastive(config.image_encoder, config):
        images, texts = contrastive_pair(
            config.image_encoder, config.weights_path, config.image_size, config.text_window, output
        )
        return images, texts if config.text_encoder == config.image_encoder else _published_text(config)
    elif "/" in config.image_encoder:
        images = _hub_images(config, output)
    else:
        raise ConfigError(f"image_encoder {config.image_encoder!r}: expected lite0, lite1, lite2, tiny or a Hub name")
    return images, _published_text(config)


def _hub_images(config: Config, output: Output) -> ImageEncoder:
    name, weights, size = config.image_encoder, config.weights_path, config.image_size
    kind = model_type(name, weights)
    if kind == TIMM:
        return TimmImage(name, model_folder(name, weights), size, output)
    if kind in BACKBONES and not (kind in SWINS and output == "pooled"):
        return backbones.backbone(name, weights, size, output)
    if kind in SWINS:
        return huggingface.SwinPooled(name, weights, size)
    expected = f"for {output}, one of {', '.join((*BACKBONES, TIMM))}"
    raise ConfigError(f"image_encoder {name!r}: got model_type {kind[:40]!r}, expected {expected}")


def _is_contrastive(name: str, config: Config) -> bool:
    return is_kind(name, config.weights_path, (*CONTRASTIVE, "open_clip"))


def text_encoder(config: Config, projected: bool = False) -> TextEncoder:
    """Return the text encoder that a config names; arguments and exceptions as of `pretrained`."""
    texts = _published_text(config)
    if config.text_weights:
        load_run(texts, Path(config.text_weights), "texts", projected)
    return texts


def _published_text(config: Config) -> TextEncoder:
    if config.text_encoder == "minilm":
        return encoders.minilm(config.text_window)
    if config.text_encoder == "tiny":
        return encoders.TinyText(config.text_window)
    if _is_contrastive(config.text_encoder, config):
        return contrastive_pair(config.text_encoder, config.weights_path, config.image_size, config.text_window)[1]
    if "/" in config.text_encoder:
        return huggingface.bert(config.text_encoder, config.weights_path, config.text_window)
    raise ConfigError(f"text_encoder {config.text_encoder!r}: expected minilm, tiny or a Hub name (owner/name)")


def load_run(encoder: Encoder, file: Path, where: str, projected: bool) -> None:
    """Load an encoder's weights from a pretraining run, or from a checkpoint that holds an encoder with such weights.

    Args:
        encoder: of the run's kind, with its published weights.
        file: best.pt of the run, or of a model that was trained with the run's encoder and is loaded again.
        where: path of the encoder in that model; in a pretraining run it is "images" or "texts", the last word.
        projected: whether the run's projection comes with it; a model's encoder has it, or has it not.

    Raises:
        CheckpointError: the file is missing or damaged, or was trained from other published weights than those here.
    """
    meta, weights = checkpoint.load_best(file)
    of_run = meta.task == PRETRAIN
    prefix = where.rpartition(".")[2] if of_run else where
    tensors = {n.removeprefix(f"{prefix}."): t for n, t in weights.items() if n.startswith(f"{prefix}.")}
    began = meta.encoders.get(f"{prefix}={encoder.source}")
    if not encoder.state_dict().keys() <= tensors.keys() and began != encoder.weights_sha256 and of_run:
        got = f"an encoder that was trained from other weights of {encoder.source} than those here"
        raise CheckpointError(f"{file}: {got}; provide the same ones (--weights DIR)")
    if projected and of_run:
        start = f"{prefix.removesuffix('s')}_projection."
        tensors |= {f"{JOINT}.{n.removeprefix(start)}": t for n, t in weights.items() if n.startswith(start)}
    if not of_run and where in meta.origins:
        origin = Origin(**meta.origins[where])
    else:
        part = prefix.removesuffix("s")
        size = meta.config["image_size" if part == "image" else "text_window"]
        origin = Origin(str(file), files.sha256(file), str(meta.config[f"{part}_encoder"]), int(size))
    hand_on(encoder, tensors, origin)
