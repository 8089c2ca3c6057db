"""The retrieval model: vectors of photos and of photos with words, and the similarity of one to the other."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import send_to_device
from torch import Tensor, nn

from magic_cli.data.hashed_words import text_hash
from magic_cli.data.retrieval.gold import RetrievalGold
from magic_cli.data.retrieval.queries import query_of, without_some
from magic_cli.data.texts.pair_texts import class_of
from magic_cli.errors import DataError, problem
from magic_cli.models.cache.features import Item
from magic_cli.models.encoders import Encoder
from magic_cli.models.fine_tuning import keep_batch_statistics
from magic_cli.models.gather import ALONE, Gather
from magic_cli.models.projection import MOST_LOG_SCALE
from magic_cli.models.retrieval.classes import ClassAgreement
from magic_cli.models.retrieval.composer import CrossTransformer, GatedResidual
from magic_cli.models.retrieval.loss import Terms, multi_positive, retrieval_sum
from magic_cli.models.retrieval.regions import LevelVectors, RegionMasks, diversity, level_vectors
from magic_cli.records import Sample
from magic_cli.tasks.encoding import Encoded, ToEncode, encoded, gather, text_item
from magic_cli.tasks.retrieve.config import RetrieveConfig
from magic_cli.tasks.retrieve.model.encoders import level_encoders
from magic_cli.tasks.retrieve.model.photos import PhotoLevels
from magic_cli.tasks.retrieve.predictions import RetrievalPrediction
from magic_cli.training.task import of_class
from magic_cli.training.task_model import NOT_FINITE, Batch, TaskModel

_UNRANKED = np.float32(np.nan)  # similarity of photos of the query's own group

_SEEN = 256  # photos from which centre and scale of levels are measured

_AT_ONCE = 32  # photos of the gallery that are encoded at a time


@dataclass(frozen=True)
class RetrieveBatch(Batch):
    """N photos, each with its words: a query, and a photo that others may find.

    ids: image ids.
    photos: items for the image encoder.
    words: items for the text encoder.
    longest: number of tokens of the longest text; known before the batch is on a device, so that nothing waits for it.
    labels, groups: int64 (N,), hashes of the class and of the group.
    """

    ids: list[str]
    photos: Encoded | ToEncode
    words: Encoded | ToEncode
    longest: int
    labels: Tensor
    groups: Tensor


@dataclass(frozen=True)
class Vectors:
    """Vectors of photos, or of queries: by level, fine to coarse."""

    levels: tuple[LevelVectors, ...]

    @property
    def terms(self) -> list[Tensor]:
        """Global and local vectors of each level in turn: the parts of an index."""
        return [vector for level in self.levels for vector in (level.whole, level.local)]

    @property
    def whole(self) -> Tensor:
        """Global vectors of all levels side by side: what classes are told by."""
        return torch.cat([level.whole for level in self.levels], -1)


class RetrieveModel(TaskModel):
    """Photos and words -> vectors; the similarity of a query and a photo is an inner product (models/retrieval/)."""

    loss_spans_processes = True

    def __init__(self, config: RetrieveConfig) -> None:
        super().__init__()
        self.config = config
        self.images, self.texts = level_encoders(config)
        self.photos = PhotoLevels(self.images, config.dim, config.side, config.dropout)
        count = len(self.photos.channels)
        self.composer = _composer(config)
        levels = range(count if self.composer is not None else 0)
        self.words = nn.ModuleList(nn.Linear(self.texts.dim, config.dim) for _ in levels)
        self.query_masks = _masks(config, count)
        self.photo_masks = _masks(config, count)
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.scale)))
        self.classes = ClassAgreement(count * config.dim) if self._classifies else None
        if config.objective == "classifier":  # nothing is compared, so nothing of it would have a gradient
            for part in (self.query_masks, self.photo_masks):
                part.requires_grad_(False)
            self.log_scale.requires_grad_(False)
        self._gold: RetrievalGold | None = None
        self._gallery: Tensor | None = None
        self._groups = np.array([])

    @property
    def _classifies(self) -> bool:
        return self.config.objective == "classifier" or self.config.class_weight > 0

    def train(self, mode: bool = True) -> "RetrieveModel":
        """Set the mode; BatchNorm keeps its statistics, and the gallery has to be encoded again."""
        super().train(mode)
        self._gallery = None
        keep_batch_statistics(self)
        return self

    def frozen(self, samples: Sequence[Sample], views: int) -> Iterable[tuple[Encoder, Item]]:
        """Yield every photo in every view, and every text, whose encoder, or its first part, is frozen."""
        for sample in samples:
            yield from self.photos.items(sample.images[0], range(views))
            if self.texts.is_frozen and self.composer is not None:
                for text in dict.fromkeys(
                    (query_of(sample.case), *(self._words(sample, view) for view in range(views)))
                ):
                    yield self.texts, text_item(self.texts, text, "")

    def _words(self, sample: Sample, view: int) -> str:
        """Return the words of a sample in a training view: the view decides which attributes are left out."""
        return without_some(sample.case, self.config.attribute_dropout, f"{sample.id}/{view}")

    def collate(self, samples: Sequence[Sample], views: Sequence[int]) -> RetrieveBatch:
        """Return photos and words; in training without some attributes."""
        pairs = list(zip(samples, views, strict=True))
        words = [self._words(sample, view) if self.training else query_of(sample.case) for sample, view in pairs]
        groups = [sample.case.group_id or sample.case.case_id for sample in samples]
        loaded = gather(self.texts, [text_item(self.texts, text, "") for text in words], self.cache)
        return RetrieveBatch(
            ids=[sample.id for sample in samples],
            photos=self.photos.load([sample.images[0] for sample in samples], views, self.cache),
            words=loaded,
            longest=longest(loaded),
            labels=torch.tensor([text_hash(class_of(sample.case)) for sample in samples]),
            groups=torch.tensor([text_hash(group) for group in groups]),
        )

    @torch.no_grad()
    def begin(self, samples: Sequence[Sample]) -> None:
        """Set centre and scale of the levels' channels from at most 256 photos."""
        self.eval()
        chosen = [samples[place] for place in range(0, len(samples), max(1, len(samples) // _SEEN))][:_SEEN]
        parts = []
        for first in range(0, len(chosen), _AT_ONCE):
            part = chosen[first : first + _AT_ONCE]
            photos = self.photos.load([sample.images[0] for sample in part], [0] * len(part), self.cache)
            parts.append(self.photos.raw(send_to_device(photos, self.log_scale.device)))
        self.photos.fit([torch.cat(level) for level in zip(*parts, strict=True)])

    def photo_vectors(self, levels: Sequence[Tensor]) -> Vectors:
        """Return the vectors of photos from their projected levels."""
        return self._vectors(levels, self.photo_masks)

    def query_vectors(self, levels: Sequence[Tensor], words: Encoded | ToEncode, tokens: int) -> Vectors:
        """Return the vectors of photos with words, of which the first `tokens` are all that there are."""
        return self._vectors(self.composed(levels, words, tokens), self.query_masks)

    def _vectors(self, levels: Sequence[Tensor], masks: nn.ModuleList) -> Vectors:
        pairs = zip(levels, masks, strict=True)
        return Vectors(
            tuple(level_vectors(level, of_class(mask, RegionMasks), self.config.local) for level, mask in pairs)
        )

    def composed(self, levels: Sequence[Tensor], words: Encoded | ToEncode, tokens: int) -> list[Tensor]:
        """Return the levels of photos changed by words."""
        if self.composer is None:
            return list(levels)
        text = encoded(self.texts, words)
        padding, states = text["mask"][:, :tokens] < 0.5, text["tokens"][:, :, :tokens]
        layers = [states[:, min(number, states.shape[1] - 1)] for number in range(len(levels))]
        projected = [word(layer.float()) for word, layer in zip(self.words, layers, strict=True)]
        return [self.composer(level, text, padding) for level, text in zip(levels, projected, strict=True)]

    def loss(self, batch: Batch) -> Tensor:
        """Return this process's part of the loss: its mean over processes is the loss of the whole batch."""
        whole = of_class(batch, RetrieveBatch)
        levels = self.photos(whole.photos)
        photos = self.photo_vectors(levels)
        queries = self.query_vectors(levels, whole.words, whole.longest)
        total = torch.zeros((), device=self.log_scale.device)
        config, gather = self.config, self._gather
        # of what is a mean over this process's samples: its factor in the mean over processes
        share = gather.processes * len(whole.ids) / gather.total(total + len(whole.ids))
        if config.objective != "classifier":
            total = total + self._compared(queries, photos, whole, gather)
        if self.classes is not None:
            weight = 1.0 if config.objective == "classifier" else config.class_weight
            losses = [self.classes.loss(side.whole, whole.labels) for side in (photos, queries)]
            total = total + share * weight * (losses[0] + losses[1]) / 2
        if config.diversity:
            masks = [level.masks for side in (queries, photos) for level in side.levels]
            total = total + share * config.diversity * torch.stack([diversity(mask) for mask in masks]).mean()
        return total

    @property
    def _gather(self) -> Gather:
        state = PartialState()
        return ALONE if state.num_processes == 1 else Gather(state.process_index, state.num_processes)

    def _compared(self, queries: Vectors, photos: Vectors, batch: RetrieveBatch, gather: Gather) -> Tensor:
        labels, groups = gather(batch.labels), gather(batch.groups)
        positive, allowed = batch.labels[:, None] == labels, batch.groups[:, None] != groups
        targets = [gather(term) for term in photos.terms]
        scale, config = self.log_scale.exp(), self.config
        terms = Terms(queries.terms, targets, self.term_weights)
        total, count = retrieval_sum(terms, positive, allowed, scale, config.objective, config.loss_on == "terms")
        if config.supcon:
            for own, others in ((photos.terms, targets), (queries.terms, [gather(term) for term in queries.terms])):
                for weight, mine, theirs in zip(self.term_weights, own, others, strict=True):
                    more = multi_positive(scale * (mine @ theirs.T), positive, allowed)[0]
                    total = total + config.supcon * weight * more / 2
        return gather.processes * total / gather.total(count).clamp(min=1)

    @property
    def term_weights(self) -> list[float]:
        """The weight of each term: 1 - beta of the global, beta of the local ones."""
        return [1 - self.config.beta, self.config.beta] * len(self.photos.channels)

    @torch.no_grad()
    def constrain(self) -> None:
        """Keep the scale of cosines in [1, 100]."""
        self.log_scale.clamp_(0, MOST_LOG_SCALE)

    def ask(self, gold: RetrievalGold) -> None:
        """Set the gallery that `predict` ranks; it is encoded with the next batch, by the model's weights."""
        self._gold, self._gallery = gold, None
        self._groups = np.array([gold.groups[photo] for photo in gold.gallery])

    def gallery_vectors(self, samples: Sequence[Sample]) -> Tensor:
        """Return the vectors (n, p) of photos, float32, each part of unit length."""
        rows = []
        for first in range(0, len(samples), _AT_ONCE):
            part = samples[first : first + _AT_ONCE]
            photos = self.photos.load([sample.images[0] for sample in part], [0] * len(part), self.cache)
            rows.append(
                self.gallery_rows(self.photo_vectors(self.photos(send_to_device(photos, self.log_scale.device))))
            )
        return torch.cat(rows)

    def gallery_rows(self, vectors: Vectors) -> Tensor:
        """Return the vectors of photos in one row each, (n, p): all parts side by side, each of unit length."""
        agreement = self._agreement
        return torch.cat([*vectors.terms, *([agreement.photo(vectors.whole)] if agreement else [])], -1)

    def query_rows(self, queries: Vectors, beta: float | None = None) -> tuple[Tensor, Tensor]:
        """Return queries (N, p) as they ask an index, and their parts as they are.

        The inner product of the first and a photo's vector, divided by the number of levels, is the similarity
        (1 - c) S / levels + c p, in [-1, 1]: c is `class_share`, p the probability that both are of one class.
        """
        share = self.config.beta if beta is None else beta
        count, classes = len(queries.levels), self.config.class_share
        weights = [(1 - classes) * weight for weight in (1 - share, share) * count]
        parts = queries.terms
        if self._agreement is not None:
            parts, weights = [*parts, self._agreement.query(queries.whole)], [*weights, classes * count]
        scaled = [weight * part for weight, part in zip(weights, parts, strict=True)]
        return torch.cat(scaled, -1), torch.cat(parts, -1)

    @property
    def _agreement(self) -> ClassAgreement | None:
        return self.classes if self.config.class_share else None

    def predict(self, batch: Batch, view: int) -> list[RetrievalPrediction]:  # noqa: ARG002  nothing to turn back
        """Return the similarity of every query to every photo of the gallery, in [-1, 1] (`query_rows`)."""
        whole = of_class(batch, RetrieveBatch)
        gold = self._gold
        if gold is None:
            raise ValueError("no gallery: call `ask` first")
        if self._gallery is None:
            self._gallery = self.gallery_vectors(gold.samples)
        queries = self.query_vectors(self.photos(whole.photos), whole.words, whole.longest)
        scores = (self.query_rows(queries)[0] @ self._gallery.T / len(queries.levels)).float().cpu().numpy()
        if wrong := [name for name, row in zip(whole.ids, scores, strict=True) if not np.isfinite(row).all()]:
            raise DataError(problem(wrong[0], "similarities that are no numbers", "finite ones", NOT_FINITE))
        return [
            RetrievalPrediction(name, gold.gallery, np.where(self._groups == gold.groups[name], _UNRANKED, row))
            for name, row in zip(whole.ids, scores, strict=True)
        ]


def longest(words: Encoded | ToEncode) -> int:
    """Return the number of tokens of the longest of some texts that were just loaded."""
    if isinstance(words, Encoded):
        return int(words.features["mask"].sum(1).max())
    assert not isinstance(words.inputs, Tensor)  # noqa: S101  texts are dicts
    return int(words.inputs["input_ids"].shape[1])


def _composer(config: RetrieveConfig) -> CrossTransformer | GatedResidual | None:
    if config.composition == "tirg":
        return GatedResidual(config.dim)
    if config.composition == "none":
        return None
    return CrossTransformer(config.dim, config.depth, config.heads, config.dropout)


def _masks(config: RetrieveConfig, count: int) -> nn.ModuleList:
    return nn.ModuleList(RegionMasks(config.dim, config.regions, config.mask_act) for _ in range(count))


def build(config: RetrieveConfig) -> RetrieveModel:
    """Return the untrained model."""
    return RetrieveModel(config)
