"""The input of the closed-question model for one step: samples, and the photos and texts that each of them owns."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from magic_cli.models.heads import overflow_as_inf
from magic_cli.tasks.cvqa.responses import ResponseBatch
from magic_cli.tasks.encoding import Encoded, ToEncode
from magic_cli.training.task import of_class
from magic_cli.training.task_model import Batch


@dataclass(frozen=True)
class CvqaBatch(Batch):
    """B samples; their photos and texts are concatenated, with the index of the sample that owns each.

    ids, qids: encounter ids, and the slots that each sample asks for.
    photos, photo_owner: items for the image encoder, int64 (photos,); None without an image encoder, and `photos` None
        if no sample has a photo.
    seen: the same photos for the encoder that scores concepts; None if the model does not read them, or as `photos`.
    texts, text_owner: items for the text encoder, int64 (texts,); None if the model reads no text.
    wordless: bool (B,), samples without any text; None if nothing stands in for it.
    words: counts of hashed words, float32 (B, hashed words); None if the model does not read them.
    rules: float32 (B, rule features); None if the model does not read them.
    responses: the clinicians' responses, where they are inputs of their own.
    gold: in training of all heads but "options", int64 (B, slots) option indices, -1 for slots not asked for.
    asked: in training of the head "options", one int64 (1, slots asked for) of option indices per sample.
    """

    ids: list[str]
    qids: list[list[str]]
    photos: Encoded | ToEncode | None = None
    photo_owner: Tensor | None = None
    seen: Encoded | ToEncode | None = None
    texts: Encoded | ToEncode | None = None
    text_owner: Tensor | None = None
    wordless: Tensor | None = None
    words: Tensor | None = None
    rules: Tensor | None = None
    responses: ResponseBatch | None = None
    gold: Tensor | None = None
    asked: list[Tensor] = field(default_factory=list)


def mean_of_photos(batch: CvqaBatch, rows: Tensor | None, width: int) -> Tensor:
    """Return the mean (B, width) over each encounter's photos of what they have in `rows`; NaN without a photo."""
    owner, count = of_class(batch.photo_owner, Tensor), len(batch.ids)
    if rows is None:
        return torch.full((count, width), float("nan"), device=owner.device)
    rows = overflow_as_inf(rows)
    total = torch.zeros(count, rows.shape[1], device=rows.device).index_add(0, owner, rows)
    # Unlike bincount, this does not synchronise GPU and CPU to determine the length of the result.
    photos = torch.zeros(count, device=rows.device).index_add(0, owner, torch.ones_like(rows[:, 0]))
    return total / photos[:, None]
