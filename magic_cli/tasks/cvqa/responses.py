"""The clinicians' responses as a term of their own, which is added to the scores of a model that does not read them.

Joined with the query, their guesses ("on the legs, no?", "two weeks of ointment") are read as the patient's own words.
Here the rest of the model learns as if there were none, so that a case without a response is answered as well as by a
model that was trained without; the term learns what is left open, and the penalty on (slot, block) makes each slot
ignore it where it does not help. examples/ablation.md has the figures.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.nn import functional as F

from magic_cli.data.hashed_words import bag_of_words, idf
from magic_cli.models.cache.features import FeatureCache, Item
from magic_cli.models.encoders import TextEncoder
from magic_cli.models.heads import SlotHead
from magic_cli.records import Sample
from magic_cli.tasks.encoding import Encoded, ToEncode, encoded, gather, text_item
from magic_cli.training.task_model import Batch

_WEIGHT = 0.6  # scale of each block, as of the query's text and words; not tuned


@dataclass(frozen=True)
class ResponseBatch(Batch):
    """The responses of R of the B samples of a batch.

    owner: int64 (R,), the samples that have any.
    texts: R items for the text encoder; None if R is 0.
    words: counts of hashed words, float32 (R, hashed words).
    """

    owner: Tensor
    texts: Encoded | ToEncode | None
    words: Tensor


class ResponseTerm(nn.Module):
    """A score per option from a case's responses, joined to one text: from its vector and its hashed words.

    The text encoder is the model's own, and is passed with every call.
    """

    rarity: Tensor

    def __init__(self, dim: int, hashed_words: int, sizes: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.hashed_words = hashed_words
        blocks = [dim, hashed_words] if hashed_words else [dim]
        with torch.random.fork_rng(devices=[]):  # whatever is drawn after it is as without the term
            self.head = SlotHead(blocks, sizes, dim, 0, dropout)
        self.head.linear.bias.requires_grad_(False)  # the mean response says nothing
        self.register_buffer("rarity", torch.ones(hashed_words))

    def items(self, texts: TextEncoder, samples: Iterable[Sample]) -> list[Item]:
        """Return the responses of the samples that have any, for the text encoder."""
        return [text_item(texts, sample.case.answer, "") for sample in samples if sample.case.answer]

    def collate(self, texts: TextEncoder, samples: Sequence[Sample], cache: FeatureCache | None) -> ResponseBatch:
        """Return the responses of the samples."""
        items = self.items(texts, samples)
        bags = [bag_of_words(s.case.answer, self.hashed_words) for s in samples if s.case.answer and self.hashed_words]
        return ResponseBatch(
            torch.tensor([n for n, sample in enumerate(samples) if sample.case.answer], dtype=torch.long),
            gather(texts, items, cache) if items else None,
            torch.from_numpy(np.stack(bags)) if bags else torch.zeros(len(items), self.hashed_words),
        )

    @torch.no_grad()
    def begin(self, texts: TextEncoder, samples: Sequence[Sample], cache: FeatureCache | None) -> None:
        """Set the weights of words and the scales of inputs from the training responses; nothing without any."""
        answered = [sample for sample in samples if sample.case.answer]
        if not answered:
            return
        if self.hashed_words:
            self.rarity.copy_(torch.from_numpy(idf(bag_of_words(s.case.answer, self.hashed_words) for s in answered)))
        bias = self.head.linear.bias
        parts = (self.collate(texts, answered[i : i + 32], cache) for i in range(0, len(answered), 32))
        inputs = torch.cat([self._inputs(texts, send_to_device(part, bias.device)) for part in parts])
        self.head.init_from_data(inputs, torch.zeros_like(bias), [_WEIGHT] * len(self.head.blocks))

    def _inputs(self, texts: TextEncoder, batch: ResponseBatch) -> Tensor:
        if batch.texts is None:
            return torch.zeros(0, sum(self.head.blocks), device=batch.owner.device)
        vectors = encoded(texts, batch.texts)["text"].float()
        return torch.cat([vectors, F.normalize(batch.words * self.rarity)], 1)

    def forward(self, texts: TextEncoder, batch: ResponseBatch) -> Tensor:
        """Return the term (R, rows) of the samples that have responses."""
        inputs = self._inputs(texts, batch)
        scores: Tensor = self.head(inputs, inputs[:0])  # no texts of options: the head has no term for them
        return scores

    def added(self, scores: Tensor, texts: TextEncoder, batch: ResponseBatch) -> Tensor:
        """Return scores (B, rows) with the term added where there are responses."""
        return scores.index_add(0, batch.owner, self(texts, batch).to(scores.dtype)) if len(batch.owner) else scores
