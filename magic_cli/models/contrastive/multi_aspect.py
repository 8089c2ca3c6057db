"""Multi-aspect knowledge-image contrastive learning (mkcl): each text of a photo with the photo, and back.

MAKE, Eq. 3 and 4. Logits are computed once for all texts of a photo and never repeated for each of them.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from magic_cli.models.contrastive.features import DISEASE, ContrastiveOptions
from magic_cli.models.contrastive.ontology import distances_between, mixed, spread_loss
from magic_cli.models.contrastive.same_text import copies, rivals, texts_of_images
from magic_cli.models.contrastive.share import Columns, Share, by_rows, floor_of


def text_to_image(share: Share, images: Tensor, first: int, scale: Tensor, options: ContrastiveOptions) -> Tensor:
    """Return the losses (N, C - first) of texts: -log softmax over images of the whole batch (Eq. 4, and Eq. 6).

    Disease texts that are among them have ontology targets if `ontology_beta` > 0.

    Args:
        images: (G, d), one vector per photo of the whole batch.
        first: the first column of the texts that are taken.
    """
    rows = share.rows
    shape = rows.mask[:, first:].shape
    has_spread = options.ontology_beta > 0 and first <= DISEASE < rows.mask.shape[1]

    def losses(texts: Tensor, text_ids: Tensor, case_ids: Tensor, owners: Tensor, paths: Tensor) -> Tensor:
        logits = scale * texts @ images.T
        own = owners[:, None] == torch.arange(len(images), device=owners.device)
        competing, matches = rivals(text_ids, case_ids, own, share.columns, options.same_text)
        total = torch.logsumexp(logits.masked_fill(~competing, floor_of(logits)), 1)
        loss = total - (logits * matches).sum(1) / matches.sum(1)
        if not has_spread:
            return loss
        between, known = distances_between(paths, share.columns.paths, logits.dtype)
        spread = spread_loss(logits, total, between, known & competing)
        return mixed(loss, spread, paths, options.ontology_beta)

    paths = share.own.paths.new_zeros(*shape, share.own.paths.shape[1])
    if has_spread:
        paths[:, DISEASE - first] = share.own.paths
    arguments = (
        rows.texts[:, first:].flatten(0, 1),
        rows.text_ids[:, first:].flatten(),
        rows.case_ids[:, None].expand(shape).flatten(),
        share.owners[:, None].expand(shape).flatten(),
        paths.flatten(0, 1),
    )
    return by_rows(losses, arguments, options.chunk_rows).view(shape)


def image_to_text(share: Share, scale: Tensor, options: ContrastiveOptions) -> Tensor:
    """Return the losses (N, C) of a photo's texts: -log of each one's share among the texts of the whole batch.

    The denominator is "others": the text and all texts of other photos, with least value 0; or "all": all texts, so
    that those of one photo compete and the mean loss is at least log C. Copies of a text are taken to have its vector.
    """
    columns, count = share.columns, share.own.mask.shape[1]
    all_texts = share.of_batch(share.rows.texts).flatten(0, 1)

    def losses(images: Tensor, ids: Tensor, mask: Tensor, cases: Tensor, owners: Tensor, paths: Tensor) -> Tensor:
        logits = scale * images @ all_texts.T
        grid = logits.view(len(images), len(columns), count)
        texts = logits.gather(1, owners[:, None] * count + torch.arange(count, device=owners.device))
        own = (owners[:, None] == torch.arange(len(columns), device=owners.device))[..., None]
        photos = Columns(mask, ids, cases, paths)
        competing, repeated = _rival_texts(photos, owners, own, columns, options)
        rest = torch.logsumexp(grid.masked_fill(~competing, floor_of(grid)).flatten(1), 1)[:, None]
        if options.denominator == "all":
            loss = rest - texts
        else:
            more = torch.log(repeated.to(logits.dtype))
            loss = more - F.logsigmoid(texts + more - rest)  # log(repeated exp(texts) + exp(rest)) - texts
        if not options.ontology_beta or count <= DISEASE:
            return loss
        between, known = distances_between(paths, share.columns.paths, logits.dtype)
        related = known & (competing | own)[..., DISEASE] & columns.mask[:, DISEASE]
        total = loss[:, DISEASE] + texts[:, DISEASE]
        spread = spread_loss(grid[..., DISEASE], total, between, related)
        disease = mixed(loss[:, DISEASE], spread, paths, options.ontology_beta)
        return torch.cat([loss[:, :DISEASE], disease[:, None], loss[:, DISEASE + 1 :]], 1)

    photos = share.own
    arguments = (share.rows.images, photos.text_ids, photos.mask, photos.case_ids, share.owners, photos.paths)
    return by_rows(losses, arguments, options.chunk_rows)


def _rival_texts(
    photos: Columns, owners: Tensor, own: Tensor, columns: Columns, options: ContrastiveOptions
) -> tuple[Tensor, Tensor]:
    """Return what competes with the texts of R photos, and how often each of these is a match.

    Args:
        photos: R photos.
        owners: (R,), which of the G photos of the batch they are.
        own: (R, G, 1) bool, likewise.
        columns: G photos.

    Returns:
        (R, G, C) bool, with the texts of a photo itself for "all" alone, and (R, C) int64: itself, and for "others"
        with same_text "positive" its copies. For "all" a copy that is a match competes as any other text does.
    """
    among_all = options.denominator == "all"
    competing = columns.mask.expand(len(owners), -1, -1) if among_all else columns.mask & ~own
    once = torch.ones_like(photos.text_ids)
    if options.same_text == "negative" or (options.same_text == "positive" and among_all):
        return competing, once
    same = texts_of_images(photos.text_ids, photos.mask, photos.case_ids, columns)
    positive = options.same_text == "positive"
    return competing & (own | ~same), copies(photos.text_ids, owners, columns) if positive else once
