"""The contrastive model: a photo's vector and patches, its texts' vectors, and a learned temperature."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import send_to_device
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from magic_cli.data.hashed_words import text_hash
from magic_cli.data.texts.captions import MOST_SUBTEXTS
from magic_cli.data.texts.pair_texts import PairTexts, class_of, concepts_of, disease_path_of, pair_texts
from magic_cli.models.augment import unturn
from magic_cli.models.cache.features import Item
from magic_cli.models.contrastive import ContrastiveOptions, PairFeatures, contrastive_loss
from magic_cli.models.contrastive.features import SUBTEXTS
from magic_cli.models.encoders import Encoder, Features
from magic_cli.models.fine_tuning import keep_batch_statistics
from magic_cli.models.gather import ALONE, Gather
from magic_cli.models.projection import MOST_LOG_SCALE, Projection
from magic_cli.records import Case, Sample
from magic_cli.tasks.encoding import Encoded, ToEncode, encoded, gather, photo_item, text_windows
from magic_cli.tasks.pretrain.asked import Asked
from magic_cli.tasks.pretrain.config import PretrainConfig
from magic_cli.tasks.pretrain.model.encoders import pair_encoders, projections
from magic_cli.tasks.pretrain.model.photos import PhotoViews
from magic_cli.tasks.pretrain.model.zero_shot import Prompts, class_probabilities, concept_scores, encode_prompts
from magic_cli.tasks.pretrain.predictions import PairPrediction
from magic_cli.tasks.pretrain.prompts import CLASS_TEMPLATES
from magic_cli.training.cached_accumulation import ChunkedModel, Part
from magic_cli.training.task import of_class
from magic_cli.training.task_model import Batch

LEVELS = 8  # of a path of diseases

BUCKETS = 1024  # of hashed concepts

SIGLIP_BIAS = -10.0  # at the start, without a checkpoint's own (Zhai et al., ICCV 2023)

_SEEN = 512  # samples from which centre and scale of features are measured

_AT_ONCE = 64  # prompts that are encoded at a time


@dataclass(frozen=True)
class PretrainBatch(Batch):
    """N photos with their texts; every distinct text comes once, in windows that the text encoder can read.

    ids: image ids.
    photos: items for the image encoder.
    windows: items for the text encoder, W of them.
    owner: int64 (W,), the distinct text that each window is of.
    index: int64 (N, C), the distinct text at each place, ordered as in data/texts/pair_texts.py; 0 for none.
    mask: bool (N, C), whether there is a text.
    text_ids, case_ids: int64 (N, C) and (N,), hashes that are equal for the very same text and the same case.
    paths: int64 (N, LEVELS), hashes of the classes that the disease text names, from the widest on; 0 for none.
    concepts: float32 (N, BUCKETS), which of these classes and of the concepts of the concept text there are, hashed;
        only for soft targets.
    """

    ids: list[str]
    photos: Encoded | ToEncode
    windows: Encoded | ToEncode
    owner: Tensor
    index: Tensor
    mask: Tensor
    text_ids: Tensor
    case_ids: Tensor
    paths: Tensor
    concepts: Tensor | None = None


class PretrainModel(ChunkedModel):
    """Photos (S, S) and texts -> unit vectors of dimension d; the loss is that of models/contrastive/.

    BatchNorm keeps the statistics of the pretrained weights: with those of each batch, parts of a batch, or processes,
    would see other features than the whole.
    """

    loss_spans_processes = True

    def __init__(self, config: PretrainConfig) -> None:
        super().__init__()
        self.config = config
        self.images, self.texts = pair_encoders(config)
        self.image_projection, self.text_projection = projections(self.images, self.texts, config.dim, config.dropout)
        initial = math.log(1 / config.temperature) if self.images.log_scale is None else self.images.log_scale
        self.log_scale = nn.Parameter(torch.tensor(float(initial)))
        bias = SIGLIP_BIAS if self.images.logit_bias is None else self.images.logit_bias
        self.bias = nn.Parameter(torch.tensor(float(bias))) if config.objective == "siglip" else None
        self.views = PhotoViews(self.images, config)
        self.is_divided = config.micro_batch > 0
        self.asked = Asked()
        self._prompts: Prompts | None = None
        self._processes: Gather | None = None

    def train(self, mode: bool = True) -> "PretrainModel":
        """Set the mode, except that BatchNorm keeps its statistics."""
        super().train(mode)
        keep_batch_statistics(self)
        return self

    def frozen(self, samples: Sequence[Sample], views: int) -> Iterable[tuple[Encoder, Item]]:
        """Yield every photo in every view, and every text, whose encoder, or its first part, is frozen."""
        for sample in samples:
            if self.views.first.is_frozen and self.views.augment is None:
                for view in range(views):
                    yield self.views.first, photo_item(self.views.first, sample.images[0], view)
            if self.texts.is_frozen:
                for text in (*self.chosen_texts(pair_texts(sample.case)), *self._wordings(sample.case)):
                    for item in text_windows(self.texts, text):
                        yield self.texts, item

    def chosen_texts(self, texts: PairTexts) -> tuple[str, ...]:
        """Return the texts that the settings use, in their order; "" where there is none."""
        return texts.all if self.config.subtexts else texts.all[:SUBTEXTS]

    def _wordings(self, case: Case) -> tuple[str, ...]:
        """Return what takes turns with the disease text in training: () unless the settings ask for it."""
        name = class_of(case) if self.config.disease_wording == "templates" and pair_texts(case).disease else ""
        return tuple(template.format(name) for template in CLASS_TEMPLATES) if name else ()

    def _texts_in(self, sample: Sample, view: int) -> tuple[str, ...]:
        """Return the texts of a sample in a training view: its number chooses the wording of the disease text."""
        texts = pair_texts(sample.case)
        wordings = (texts.disease, *self._wordings(sample.case))
        return self.chosen_texts(replace(texts, disease=wordings[(view + text_hash(sample.id)) % len(wordings)]))

    def collate(self, samples: Sequence[Sample], views: Sequence[int]) -> PretrainBatch:
        """Return the photos and the texts of samples; every distinct text is encoded once."""
        if self.training:
            rows = [self._texts_in(sample, view) for sample, view in zip(samples, views, strict=True)]
        else:
            rows = [self.chosen_texts(pair_texts(sample.case)) for sample in samples]
        numbers: dict[str, int] = {}
        for text in (text for row in rows for text in row if text):
            numbers.setdefault(text, len(numbers))
        windows = [text_windows(self.texts, text) for text in numbers or ("",)]
        width = max(map(len, rows))
        padded = [(*row, *[""] * (width - len(row))) for row in rows]
        return PretrainBatch(
            ids=[sample.id for sample in samples],
            photos=self.views.load([sample.images[0] for sample in samples], views, self.cache, self.training),
            windows=gather(self.texts, [item for items in windows for item in items], self.cache),
            owner=torch.tensor([number for number, items in enumerate(windows) for _ in items]),
            index=torch.tensor([[numbers.get(text, 0) for text in row] for row in padded]),
            mask=torch.tensor([[bool(text) for text in row] for row in padded]),
            text_ids=torch.tensor([[text_hash(text) for text in row] for row in padded]),
            case_ids=torch.tensor([text_hash(sample.case.case_id) for sample in samples]),
            paths=torch.tensor([_path(sample.case) for sample in samples]),
            concepts=_concepts(samples) if self.config.objective == "soft" else None,
        )

    @torch.no_grad()
    def begin(self, samples: Sequence[Sample]) -> None:
        """Set centre and scale of the encoders' features from at most 512 samples."""
        if not isinstance(self.image_projection, Projection) or not isinstance(self.text_projection, Projection):
            return
        self.eval()
        device = self.log_scale.device
        some = [samples[place] for place in range(0, len(samples), max(1, len(samples) // _SEEN))][:_SEEN]
        photos, texts = [], []
        for first in range(0, len(some), 16):
            part = some[first : first + 16]
            batch = send_to_device(self.collate(part, [0] * len(part)), device)
            photos.append(self.views.features(batch.photos)["pooled"])
            texts.append(encoded(self.texts, batch.windows)["text"])
        self.image_projection.fit(torch.cat(photos))
        self.text_projection.fit(torch.cat(texts))

    def parts(self, batch: Batch) -> list[Part]:
        """Return the batch in parts of at most `micro_batch` photos, texts dealt evenly; one part if that is 0."""
        whole = of_class(batch, PretrainBatch)
        count = math.ceil(len(whole.ids) / self.config.micro_batch) if self.config.micro_batch else 1
        photos, windows = whole.photos.split(count), whole.windows.split(count)
        return [Part({"photos": photo, "windows": window}) for photo, window in zip(photos, windows, strict=True)]

    def encode(self, part: Part) -> Features:
        """Return {"images": (n, d), "patches": (n, P, d), "windows": (w, d)}; texts' windows are not averaged yet."""
        found: Features = {}
        if (photos := part.items["photos"]) is not None:
            features = self.views.features(photos)
            found["images"] = self.image_projection(features["pooled"])
            if self.config.local_weight and self.config.subtexts:
                found["patches"] = self.image_projection(features["patches"])
        if (windows := part.items["windows"]) is not None:
            found["windows"] = self.text_projection(encoded(self.texts, windows)["text"])
        return found

    def objective(self, batch: Batch, features: Features) -> Tensor:
        """Return this process's part of the loss: its mean over processes is the loss of the whole batch."""
        whole, gather = of_class(batch, PretrainBatch), ALONE
        if PartialState().num_processes > 1:
            whole, gather = _filled(whole, SUBTEXTS + MOST_SUBTEXTS), self._gather(len(whole.ids))
        pairs = PairFeatures(
            images=features["images"],
            texts=self._texts(whole, features["windows"]),
            mask=whole.mask,
            text_ids=whole.text_ids,
            case_ids=whole.case_ids,
            patches=features.get("patches"),
            concepts=whole.concepts,
            paths=whole.paths,
        )
        return contrastive_loss(pairs, self.log_scale.exp(), self.options, gather, self.bias).total

    def _gather(self, rows: int) -> Gather:
        """Return the processes that share a batch; their rows are asked once, as all batches are whole and so alike."""
        if self._processes is None:
            state = PartialState()
            self._processes = Gather(state.process_index, state.num_processes).sized(rows, self.log_scale.device)
        return self._processes

    def loss_parameters(self) -> list[nn.Parameter]:
        """Return the temperature, and the bias of the sigmoid loss: what the loss itself learns."""
        return [self.log_scale, *([self.bias] if self.bias is not None else [])]

    @property
    def options(self) -> ContrastiveOptions:
        """The settings of the loss."""
        config = self.config
        return ContrastiveOptions(
            objective=config.objective,
            denominator=config.denominator,
            subtexts=config.subtexts,
            local_weight=config.local_weight,
            local_threshold=config.local_threshold,
            local_pool=config.local_pool,
            weighting=config.weighting,
            same_text=config.same_text,
            ontology_beta=config.ontology_beta,
            soft_temperature=config.soft_temperature,
            hardness=config.hardness,
            chunk_rows=config.chunk_rows,
        )

    def _texts(self, batch: PretrainBatch, windows: Tensor) -> Tensor:
        """Return the unit vectors (N, C, d) of texts: normalised means over their windows."""
        total = torch.zeros_like(windows)  # there are at least as many windows as texts
        return F.normalize(total.index_add(0, batch.owner, windows), dim=-1)[batch.index]

    @torch.no_grad()
    def constrain(self) -> None:
        """Keep the scale 1 / temperature in [1, 100]."""
        self.log_scale.clamp_(0, MOST_LOG_SCALE)

    def ask(self, asked: Asked) -> None:
        """Set what `predict` says about every photo; its prompts are encoded with the next batch, by its weights."""
        self.asked, self._prompts = asked, None

    def text_vectors(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors (texts, d), float32, of texts of any length."""
        vectors = []
        for first in range(0, len(texts), _AT_ONCE):
            windows = [text_windows(self.texts, text) for text in texts[first : first + _AT_ONCE]]
            items = ToEncode(self.texts.batch([item.load() for group in windows for item in group]))
            features = encoded(self.texts, send_to_device(items, self.log_scale.device))["text"]
            parts = torch.split(self.text_projection(features), [len(group) for group in windows])
            vectors.append(F.normalize(torch.stack([part.sum(0) for part in parts]), dim=-1))
        return torch.cat(vectors)

    def predict(self, batch: Batch, view: int) -> list[PairPrediction]:
        """Return vectors, scores of what was asked, and maps; see tasks/pretrain/predictions.py."""
        whole = of_class(batch, PretrainBatch)
        photos = self.views.features(whole.photos)
        images = self.image_projection(photos["pooled"])
        texts = self._texts(whole, self.text_projection(encoded(self.texts, whole.windows)["text"]))
        if self._prompts is None:
            self._prompts = encode_prompts(self.asked, self.text_vectors)
        classes, concepts = class_probabilities(images, self._prompts), concept_scores(images, self._prompts)
        presence = self._presence(photos["patches"])
        maps = unturn(self._maps(photos["patches"], texts), view).half().cpu().numpy()
        vectors, rows = images.cpu().numpy(), [_numpy(each) for each in (texts[:, 0], classes, concepts, presence)]
        found = []
        for row, (name, mask) in enumerate(zip(whole.ids, whole.mask.cpu().numpy(), strict=True)):
            text, of_classes, of_concepts, of_places = (None if each is None else each[row].copy() for each in rows)
            kept = [place for place in (0, *range(3, len(mask))) if mask[place]]
            found.append(
                PairPrediction(
                    id=name,
                    image=vectors[row].copy(),
                    text=text if mask[0] else None,
                    classes=self.asked.classes,
                    class_scores=of_classes,
                    concepts=tuple(concept.name for concept in self.asked.concepts),
                    concept_scores=of_concepts,
                    presence=of_places,
                    maps=maps[row][kept].copy() if mask[0] else None,
                )
            )
        return found

    def _presence(self, patches: Tensor) -> Tensor | None:
        """Return the highest cosine (N, classes) of a photo's patches (N, P, D) with each class; None unless asked."""
        if not self.asked.presence or self._prompts is None or self._prompts.classes is None:
            return None
        similarity: Tensor = self.image_projection(patches).float() @ self._prompts.classes.float().T
        return similarity.amax(1)

    def _maps(self, patches: Tensor, texts: Tensor) -> Tensor:
        """Return the similarity (N, C, side, side) of patches (N, side * side, D) to texts (N, C, d)."""
        side = math.isqrt(patches.shape[1])
        similarity = torch.einsum("npd,ncd->ncp", self.image_projection(patches), texts)
        return similarity.view(*texts.shape[:2], side, side)


def _numpy(tensor: Tensor | None) -> NDArray[np.float32] | None:
    found: NDArray[np.float32] | None = None if tensor is None else tensor.float().cpu().numpy()
    return found


def _path(case: Case) -> list[int]:
    names = [text_hash(name.casefold()) for name in disease_path_of(case)]
    names = [*names[: LEVELS - 1], *names[LEVELS - 1 :][-1:]]  # of a longer one the widest, and the disease itself
    return names + [0] * (LEVELS - len(names))


def _concepts(samples: Sequence[Sample]) -> Tensor:
    found = torch.zeros(len(samples), BUCKETS)
    for row, sample in zip(found, samples, strict=True):
        for name in (*disease_path_of(sample.case), *concepts_of(sample.case)):
            row[text_hash(name.casefold()) % BUCKETS] = 1
    return found


def _filled(batch: PretrainBatch, places: int) -> PretrainBatch:
    """Return the batch with as many places for texts, the added ones empty."""
    added = (0, places - batch.mask.shape[1])
    index, mask, text_ids = (F.pad(each, added) for each in (batch.index, batch.mask, batch.text_ids))
    return replace(batch, index=index, mask=mask, text_ids=text_ids)


def build(config: PretrainConfig) -> PretrainModel:
    """Return the untrained model."""
    return PretrainModel(config)
