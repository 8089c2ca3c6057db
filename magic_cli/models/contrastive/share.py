"""The rows of one process, and what is known of the whole batch that they are compared with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from magic_cli.models.contrastive.features import PairFeatures
from magic_cli.models.gather import Gather


@dataclass(frozen=True)
class Columns:
    """All G photos of the batch in the order of ranks, or some of them: which texts they have, and which case."""

    mask: Tensor
    """(G, C) bool"""
    text_ids: Tensor
    """(G, C) int64"""
    case_ids: Tensor
    """(G,) int64"""
    paths: Tensor
    """(G, L) int64: their diseases (`PairFeatures.paths`)."""

    def __len__(self) -> int:
        return len(self.mask)


@dataclass(frozen=True)
class Share:
    """The photos of one process: at least float32, masked texts zeroed."""

    rows: PairFeatures
    own: Columns
    """Of the rows."""
    columns: Columns
    """Of the whole batch."""
    first: int
    """Which photo of the whole batch the first row is."""
    owners: Tensor
    """(N,) int64: which photo of the whole batch each row is."""
    gather: Gather
    sent_as: torch.dtype
    """The number format in which vectors came, and are sent to other processes."""

    def of_batch(self, vectors: Tensor) -> Tensor:
        """Return the rows (G, ...) of all processes, with gradient."""
        if self.gather.processes == 1:
            return vectors
        return full(self.gather(vectors.to(self.sent_as)))

    def mean(self, losses: Tensor, weights: Tensor) -> Tensor:
        """Return the part of this process in the weighted mean over the whole batch, times the processes.

        Args:
            losses: of any shape, finite.
            weights: of the same shape; at least one is 1 or all are 0, and then the mean is 0.
        """
        total = self.gather.total(weights.sum()).clamp(min=1)
        return self.gather.processes * (losses * weights).sum() / total


def share_of(features: PairFeatures, gather: Gather) -> Share:
    """Return the share of this process; masks and ids are gathered in one call.

    Args:
        gather: sized.
    """
    cases = features.case_ids[:, None]
    paths = features.paths if features.paths is not None else torch.zeros_like(cases)
    own = Columns(features.mask, features.text_ids, features.case_ids, paths)
    numbers = gather(torch.cat([cases, own.mask.long(), own.text_ids, paths], 1))
    count = own.mask.shape[1]
    columns = Columns(
        mask=numbers[:, 1 : 1 + count].bool(),
        text_ids=numbers[:, 1 + count : 1 + 2 * count],
        case_ids=numbers[:, 0],
        paths=numbers[:, 1 + 2 * count :],
    )
    first = sum((gather.rows or ())[: gather.rank])
    owners = torch.arange(len(own), device=own.mask.device) + first
    nothing = torch.zeros((), dtype=features.texts.dtype, device=features.texts.device)
    texts = torch.where(features.mask[..., None], features.texts, nothing)
    patches = full(features.patches) if features.patches is not None else None
    rows = replace(features, images=full(features.images), texts=full(texts), patches=patches)
    return Share(rows, own, columns, first, owners, gather, features.images.dtype)


def full(tensor: Tensor) -> Tensor:
    """Return half precision as float32: logits of 100 would lose their fraction; float64 stays."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def floor_of(logits: Tensor) -> float:
    """Return the logit of what does not compete: finite, so that rows of nothing else have a gradient of 0, not NaN."""
    return torch.finfo(logits.dtype).min / 4


def by_rows(function: Callable[..., Tensor], rows: Sequence[Tensor], chunk_rows: int) -> Tensor:
    """Return `function(*rows)` for tensors with R equal rows, chunk by chunk if R is over `chunk_rows`.

    A chunk's intermediate results are computed again in backward, so that at no time more than one is in memory.
    The function gathers nothing: processes may have different numbers of chunks.
    """
    if len(rows[0]) <= chunk_rows:
        return function(*rows)
    chunks = zip(*(torch.split(tensor, chunk_rows) for tensor in rows), strict=True)
    return torch.cat([checkpoint(function, *chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks])
