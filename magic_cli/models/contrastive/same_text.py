"""Which photos and texts of a batch match beside the pair itself: the very same text, or the same case."""

import torch
from torch import Tensor

from magic_cli.models.contrastive.features import SameText
from magic_cli.models.contrastive.share import Columns


def rivals(
    text_ids: Tensor, case_ids: Tensor, own: Tensor, columns: Columns, same_text: SameText
) -> tuple[Tensor, Tensor]:
    """Return two (R, G) bool: whether image g is in the denominator of text r, and whether it is a match.

    Args:
        text_ids: (R,), of texts that are there.
        case_ids: (R,), of the photos that have them.
        own: (R, G) bool: g is the photo that r belongs to.
        columns: G photos.
    """
    if same_text == "negative":
        return torch.ones_like(own), own
    matches = own | images_of_texts(text_ids, case_ids, columns)
    return (own | ~matches, own) if same_text == "ignore" else (torch.ones_like(own), matches)


def images_of_texts(text_ids: Tensor, case_ids: Tensor, columns: Columns) -> Tensor:
    """Return (R, G) bool: whether photo g has text r, or is of its case.

    Args:
        text_ids: (R,), of texts that are there.
        case_ids: (R,), of the photos that have them.
        columns: G photos.
    """
    same = case_ids[:, None] == columns.case_ids
    for ids, mask in zip(columns.text_ids.T, columns.mask.T, strict=True):
        same |= (text_ids[:, None] == ids) & mask
    return same


def texts_of_images(text_ids: Tensor, mask: Tensor, case_ids: Tensor, columns: Columns) -> Tensor:
    """Return (R, G, C) bool: whether text (g, c), if it is there, is a text of photo r, or of its case.

    Args:
        text_ids: (R, C).
        mask: (R, C) bool.
        case_ids: (R,).
        columns: G photos with C texts each.
    """
    same = (case_ids[:, None] == columns.case_ids)[..., None].repeat(1, 1, columns.mask.shape[1])
    for ids, there in zip(text_ids.T, mask.T, strict=True):
        same |= (ids[:, None, None] == columns.text_ids) & there[:, None, None]
    return same & columns.mask


def copies(text_ids: Tensor, owners: Tensor, columns: Columns) -> Tensor:
    """Return (R, C) int64: how often each text of photo r is there in the whole batch, itself and other photos'.

    Args:
        text_ids: (R, C).
        owners: (R,), which of the G photos r is.
    """
    others = columns.mask & (owners[:, None, None] != torch.arange(len(columns), device=owners.device)[:, None])
    return torch.stack([((ids[:, None, None] == columns.text_ids) & others).sum((1, 2)) for ids in text_ids.T], 1) + 1
