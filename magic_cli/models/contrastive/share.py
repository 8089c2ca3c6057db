"""The rows of one process, and those of the whole batch that they are compared with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from magic_cli.models.contrastive.features import PairFeatures
from magic_cli.models.gather import Gather


@dataclass(frozen=True)
class Share:
    """Rows of this process, masked texts zeroed; columns of the whole batch, in the order of ranks."""

    rows: PairFeatures
    columns: PairFeatures
    """Without patches, concepts and nodes."""
    owners: Tensor
    """(N,) int64: which photo of the whole batch each row is."""
    row_nodes: Tensor
    """(N,) int64: the disease of each row, -1 unknown."""
    column_nodes: Tensor
    """(G,) int64."""
    gather: Gather

    def mean(self, losses: Tensor, weights: Tensor) -> Tensor:
        """Return the part of this process in the weighted mean over the whole batch, times the processes.

        Args:
            losses: of any shape, finite.
            weights: of the same shape; at least one is 1 or all are 0, and then the mean is 0.
        """
        total = self.gather.total(weights.sum()).clamp(min=1)
        return self.gather.processes * (losses * weights).sum() / total


def share_of(features: PairFeatures, gather: Gather) -> Share:
    """Return the share of this process; gathers vectors once with gradient, and masks and ids in one call.

    Args:
        gather: sized.
    """
    count = features.mask.shape[1]
    nodes = features.nodes if features.nodes is not None else torch.full_like(features.case_ids, -1)
    rows = replace(features, texts=_without_masked(features.texts, features.mask))
    numbers = torch.cat([rows.mask.long(), rows.text_ids, rows.case_ids[:, None], nodes[:, None]], 1)
    numbers = gather(numbers)
    columns = PairFeatures(
        images=full(gather(rows.images)),
        texts=full(gather(rows.texts)),
        mask=numbers[:, :count].bool(),
        text_ids=numbers[:, count : 2 * count],
        case_ids=numbers[:, -2],
    )
    sizes = gather.rows or (len(rows.images),)
    owners = torch.arange(len(rows.images), device=rows.images.device) + sum(sizes[: gather.rank])
    rows = replace(rows, images=full(rows.images), texts=full(rows.texts))
    return Share(rows, columns, owners, nodes, numbers[:, -1], gather)


def full(tensor: Tensor) -> Tensor:
    """Return half precision as float32: logits of 100 would lose their fraction; float64 stays."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def floor_of(logits: Tensor) -> float:
    """Return the logit of what does not compete: finite, so that rows of nothing else have a gradient of 0, not NaN."""
    return torch.finfo(logits.dtype).min / 4


def by_rows(function: Callable[..., Tensor], rows: Sequence[Tensor], chunk_rows: int) -> Tensor:
    """Return `function(*rows)` for tensors with R equal rows, chunk by chunk if R is over `chunk_rows`.

    A chunk's intermediate results are computed again in backward, so that at no time more than one is in memory.
    No rows are one empty chunk: gradients reach what all processes gathered, in the same order on each.
    """
    count = len(rows[0])
    if count <= chunk_rows:
        return function(*rows)
    chunks = zip(*(torch.split(tensor, chunk_rows) for tensor in rows), strict=True)
    return torch.cat([checkpoint(function, *chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks])


def _without_masked(texts: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask[..., None], texts, torch.zeros((), dtype=texts.dtype, device=texts.device))
