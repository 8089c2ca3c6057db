"""Photo and words composed: a cross-modal transformer over each level of a photo (ComqueryFormer), or TIRG's gate."""

import torch
from torch import Tensor, nn


class CrossLayer(nn.Module):
    """One stream's layer: attention to itself, then to the other stream, then a perceptron; norms follow each."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.own = nn.MultiheadAttention(dim, heads, dropout, batch_first=True)
        self.cross = nn.MultiheadAttention(dim, heads, dropout, batch_first=True)
        self.perceptron = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * dim, dim)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, other: Tensor, padding: Tensor | None, other_padding: Tensor | None) -> Tensor:
        """Return x (B, n, D) after attention to itself and to `other` (B, m, D).

        Args:
            x: the stream.
            other: the other stream, as the layer before left it.
            padding, other_padding: bool (B, n) and (B, m), True where there is nothing; None for none.
        """
        kept = self.own(x, x, x, key_padding_mask=padding, need_weights=False)[0]
        x = self.norms[0](x + self.dropout(kept))
        told = self.cross(x, other, other, key_padding_mask=other_padding, need_weights=False)[0]
        x = self.norms[1](x + self.dropout(told))
        out: Tensor = self.norms[2](x + self.dropout(self.perceptron(x)))
        return out


class CrossTransformer(nn.Module):
    """Two stacks of layers, for text and image, which all levels share; both read the other's previous layer.

    The text stack has one layer less: nothing would read its last one.
    """

    def __init__(self, dim: int, depth: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.image = nn.ModuleList(CrossLayer(dim, heads, dropout) for _ in range(depth))
        self.text = nn.ModuleList(CrossLayer(dim, heads, dropout) for _ in range(depth - 1))
        self.modality = nn.Embedding(2, dim)  # 0 text, 1 image

    def forward(self, level: Tensor, words: Tensor, padding: Tensor) -> Tensor:
        """Return a composed level (B, D, h, w).

        Args:
            level: (B, D, h, w).
            words: (B, n, D).
            padding: bool (B, n), True where there is no token; at least one is there.
        """
        image = level.flatten(2).transpose(1, 2) + self.modality.weight[1]
        text = words + self.modality.weight[0]
        for image_layer, text_layer in zip(self.image, self.text, strict=False):
            image, text = image_layer(image, text, None, padding), text_layer(text, image, padding, None)
        image = self.image[-1](image, text, None, padding)
        composed: Tensor = image.transpose(1, 2).reshape(level.shape)
        return composed


class GatedResidual(nn.Module):
    """TIRG (Vo et al., CVPR 2019) at each place of a level: w_g * sigmoid(gate) * x + w_r * residual."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.LayerNorm(2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.residual = nn.Sequential(
            nn.LayerNorm(2 * dim), nn.GELU(), nn.Linear(2 * dim, dim), nn.GELU(), nn.Linear(dim, dim)
        )
        self.weights = nn.Parameter(torch.tensor([1.0, 1.0]))

    def forward(self, level: Tensor, words: Tensor, padding: Tensor) -> Tensor:
        """Return a composed level; arguments as of `CrossTransformer`, the text is the mean of its tokens."""
        there = (~padding).unsqueeze(-1).to(words.dtype)
        text = (words * there).sum(1) / there.sum(1)
        x = level.permute(0, 2, 3, 1)
        both = torch.cat([x, text[:, None, None].expand(*x.shape[:3], -1)], -1)
        composed = self.weights[0] * torch.sigmoid(self.gate(both)) * x + self.weights[1] * self.residual(both)
        back: Tensor = composed.permute(0, 3, 1, 2)
        return back
