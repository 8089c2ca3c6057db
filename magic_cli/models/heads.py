"""Light heads on top of the encoders: a text-conditioned pyramid decoder and three answer heads."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from magic_cli.models.encoders import Features
from magic_cli.models.masks.scale_attention import ScaleAttention
from magic_cli.models.projection import MOST_LOG_SCALE


class Film(nn.Module):
    """Scale and shift features (B, C, h, w) by a text vector (B, T): (1 + mul(t)) * x + add(t).

    Both maps are initialised to zero, so that the text changes nothing at first.
    """

    def __init__(self, text_dim: int, channels: int) -> None:
        super().__init__()
        self.mul, self.add = nn.Linear(text_dim, channels), nn.Linear(text_dim, channels)
        for layer in (self.mul, self.add):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """Return x conditioned on the text."""
        result: Tensor = x * (1 + self.mul(text)[:, :, None, None]) + self.add(text)[:, :, None, None]
        return result


def _block(channels: int) -> nn.Sequential:
    groups = max(g for g in (8, 4, 2, 1) if channels % g == 0)
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.GroupNorm(groups, channels), nn.ReLU())


class PyramidDecoder(nn.Module):
    """Top-down decoder of a feature pyramid, FiLM-conditioned on the text at every level.

    Args:
        channels: channels of each level, fine to coarse.
        text_dim: dimension of the text vector.
        width: channels inside the decoder.
        dropout: probability to drop a channel before the last block.
        by_scale: whether the text also weighs the places of every level at several scales.
        deeply: whether the coarser levels give maps, too, for deep supervision (Lee et al., Deeply-supervised nets,
            AISTATS 2015); they are only computed by `maps`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        text_dim: int,
        width: int,
        dropout: float,
        by_scale: bool = False,
        deeply: bool = False,
    ) -> None:
        super().__init__()
        self.lateral = nn.ModuleList([nn.Conv2d(c, width, 1) for c in channels])
        self.film = nn.ModuleList([Film(text_dim, width) for _ in channels])
        self.smooth = nn.ModuleList([_block(width) for _ in channels])
        self.dropout = nn.Dropout2d(dropout)
        self.out = nn.Sequential(_block(width), nn.Conv2d(width, 1, 1))
        self.scales = nn.ModuleList([ScaleAttention(text_dim, width) for _ in channels] if by_scale else [])
        self.coarser = nn.ModuleList([nn.Conv2d(width, 1, 1) for _ in channels[1:]] if deeply else [])
        self.to(memory_format=torch.channels_last)

    def forward(self, features: Features, text: Tensor) -> Tensor:
        """Return logits (B, h, w) of {"p0": (B, c0, h, w), "p1": (B, c1, h/2, w/2), …} and text (B, T)."""
        return self._map(self._levels(features, text)[0])

    def maps(self, features: Features, text: Tensor) -> list[Tensor]:
        """Return the logits of `forward`, and with `deeply` those of each coarser level: (B, h/2, w/2), …"""
        finest, *others = self._levels(features, text)
        pairs = zip(self.coarser, others, strict=True) if self.coarser else ()
        return [self._map(finest), *(head(x)[:, 0] for head, x in pairs)]

    def _map(self, finest: Tensor) -> Tensor:
        logits: Tensor = self.out(self.dropout(finest))[:, 0]
        return logits

    def _levels(self, features: Features, text: Tensor) -> list[Tensor]:
        """Return the decoded levels, fine to coarse."""
        levels: list[Tensor] = []
        for level in reversed(range(len(self.lateral))):
            # Channels last: 15 to 20 % less time per step on the CPU, and fast half precision on a GPU.
            lateral = self.lateral[level](features[f"p{level}"].contiguous(memory_format=torch.channels_last))
            if levels:
                lateral = lateral + F.interpolate(levels[0], lateral.shape[-2:], mode="bilinear", align_corners=False)
            lateral = self.film[level](lateral, text)
            levels.insert(0, self.smooth[level](self.scales[level](lateral, text) if self.scales else lateral))
        return levels


def overflow_as_inf(vectors: Tensor) -> Tensor:
    """Return what is no finite number as inf: NaN is to stand for a missing vector, and an overflow is none."""
    return torch.where(vectors.isfinite(), vectors, torch.inf)


class AnswerHead(nn.Module):
    """A head that scores every option of every slot from one input vector.

    x (B, D) is [image; encounter text; rules], centred and scaled block by block.

    Args:
        blocks: dimension of each part of x.
        sizes: number of options of each slot.
        dropout: probability to drop an element of x.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, blocks: Sequence[int], sizes: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.blocks, self.sizes = list(blocks), list(sizes)
        self.register_buffer("mean", torch.zeros(sum(blocks)))
        self.register_buffer("scale", torch.ones(sum(blocks)))
        self.dropout = nn.Dropout(dropout)

    @property
    def prior(self) -> nn.Parameter:
        """What is added to the score of each (slot, option) row, (R,)."""
        raise NotImplementedError

    @torch.no_grad()
    def init_from_data(self, inputs: Tensor, prior: Tensor, weights: Sequence[float]) -> None:
        """Set centre and scale of x from training inputs, and the biases to the prior.

        Args:
            inputs: (N, D).
            prior: log prior of each row, (R,).
            weights: each block of x is scaled to a mean squared norm of its weight ** 2, whatever its dimension, so
                that a thousand image values do not outweigh 12 features of onset.
        """
        self.mean.copy_(inputs.mean(0))
        parts = torch.split(inputs - self.mean, self.blocks, 1)
        for part, scale, weight in zip(parts, torch.split(self.scale, self.blocks), weights, strict=True):
            norm = part.pow(2).sum(1).mean().sqrt()
            # A block that is constant in training, up to rounding, must not be scaled up.
            scale.fill_((norm if norm > 1e-5 else 1.0) / weight)
        self.prior.copy_(prior)

    def scaled(self, x: Tensor) -> Tensor:
        """Return centred and scaled inputs, in training without those that dropout leaves out."""
        dropped: Tensor = self.dropout((x - self.mean) / self.scale)
        return dropped

    def forward(self, x: Tensor, options: Tensor) -> Tensor:
        """Return scores (B, R) for inputs (B, D) and option texts (R, T)."""
        raise NotImplementedError

    def group_norms(self) -> Tensor:
        """Return norms of weights, for a group lasso: (groups, blocks)."""
        raise NotImplementedError


class SlotHead(AnswerHead):
    """Score every option of every slot linearly.

    score(slot, option) = log prior + linear(slot, option) · x. With `width`, <A x, B e(question || option)> / width is
    added, where e (R, T) are the texts of all R (slot, option) rows. linear and A start at zero, so that the untrained
    head predicts the prior (examples/closed-questions.md, "Constants to beat").

    Args:
        blocks, sizes, dropout: as of `AnswerHead`.
        text_dim: T.
        width: dimension of the option-scoring term; 0 for none.
    """

    def __init__(self, blocks: Sequence[int], sizes: Sequence[int], text_dim: int, width: int, dropout: float) -> None:
        super().__init__(blocks, sizes, dropout)
        inputs = sum(blocks)
        self.linear = nn.Linear(inputs, sum(sizes))
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.query, self.option = None, None
        if width:
            self.query, self.option = nn.Linear(inputs, width, bias=False), nn.Linear(text_dim, width, bias=False)
            nn.init.zeros_(self.query.weight)

    @property
    def prior(self) -> nn.Parameter:
        """The bias (R,)."""
        return self.linear.bias

    def forward(self, x: Tensor, options: Tensor) -> Tensor:
        """Return scores (B, R) for inputs (B, D) and option texts (R, T)."""
        x = self.scaled(x)
        scores: Tensor = self.linear(x)
        if self.query is not None and self.option is not None:
            scores = scores + self.query(x) @ self.option(options).T / self.option.out_features
        return scores

    def group_norms(self) -> Tensor:
        """Return the Frobenius norm of the weights of each slot and block, (slots, blocks), for a group lasso.

        With this penalty, a slot ignores blocks that do not help (Yuan & Lin, Model selection and estimation in
        regression with grouped variables, 2006). Smoothed at zero, where the norm has no gradient.
        """
        squares = torch.stack([part.pow(2).sum(1) for part in torch.split(self.linear.weight, self.blocks, 1)], 1)
        slots = torch.stack([part.sum(0) for part in torch.split(squares, self.sizes)])
        return (slots + 1e-6).sqrt()


class AnchoredHead(AnswerHead):
    """Score options by their texts: a projection of x against the options' embeddings, which stay as they are.

    score(slot, option) = log prior + cos(P x, a(slot, option)) / temperature, after CITE (Zhang et al., MICCAI 2023),
    which classifies photos by the names of classes. a is the text's embedding minus the mean of its slot's, of unit
    length: what a slot's texts have in common tells nothing. P is all that learns beside prior and temperature, so
    options that are rare learn from those that are worded alike.

    Args:
        blocks, sizes, dropout: as of `AnswerHead`.
        text_dim: T.
    """

    def __init__(self, blocks: Sequence[int], sizes: Sequence[int], text_dim: int, dropout: float) -> None:
        super().__init__(blocks, sizes, dropout)
        self.projection = nn.Linear(sum(blocks), text_dim, bias=False)
        self.bias = nn.Parameter(torch.zeros(sum(sizes)))
        self.log_scale = nn.Parameter(torch.zeros(()))  # 1 / temperature is 1 at first: close to the prior

    @property
    def prior(self) -> nn.Parameter:
        """The bias (R,)."""
        return self.bias

    def anchors(self, options: Tensor) -> Tensor:
        """Return unit vectors (R, T) of option texts (R, T)."""
        slots = [texts - texts.mean(0) for texts in torch.split(options, self.sizes)]
        return F.normalize(torch.cat(slots), dim=1)

    def forward(self, x: Tensor, options: Tensor) -> Tensor:
        """Return scores (B, R) for inputs (B, D) and option texts (R, T)."""
        vectors = F.normalize(self.projection(self.scaled(x)), dim=1)
        scores: Tensor = self.bias + self.log_scale.clamp(max=MOST_LOG_SCALE).exp() * vectors @ self.anchors(options).T
        return scores

    def group_norms(self) -> Tensor:
        """Return zero, (1, blocks): the length of P x has no effect, so neither would a penalty on P."""
        return self.bias.new_zeros(1, len(self.blocks))


class OptionHead(nn.Module):
    """The paper's compatibility score FFN([v_text; v_img]) (section 4.2.3), dropout after the projections only."""

    def __init__(self, image_dim: int, text_dim: int, width: int, dropout: float) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Linear(image_dim, width), nn.Dropout(dropout)) if image_dim else None
        self.text = nn.Sequential(nn.Linear(text_dim, width), nn.Dropout(dropout))
        inputs = 2 * width if image_dim else width
        unused = nn.Identity()  # was a dropout, which the paper does not have; the names of the weights stay
        self.ffn = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), unused, nn.Linear(width, 1))

    def forward(self, text: Tensor, image: Tensor | None) -> Tensor:
        """Return scores (R,) of R rows of text (R, T) and image (R, I) vectors."""
        parts = [self.text(text)]
        if self.image is not None and image is not None:
            parts.append(self.image(image))
        scores: Tensor = self.ffn(torch.cat(parts, 1))[:, 0]
        return scores
