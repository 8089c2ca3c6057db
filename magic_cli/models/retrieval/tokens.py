"""Texts token by token: the hidden states of a text encoder's last layers instead of one vector."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from magic_cli.errors import ConfigError
from magic_cli.models.encoders import BertText, Features, TextEncoder, TinyText


class TokenText(TextEncoder):
    """A text as its tokens: {"tokens": (B, L, window, dim), "mask": (B, window)}, the mask 1.0 at tokens, else 0.0.

    L is the number of layers, the last one last: each level of a photo is composed with a layer of its own
    (ComqueryFormer, Xu et al., IEEE TMM 2023), or all with the last. All texts have `window` places, so that their
    features can be cached and stacked. Weights keep the names that they have in the encoder it is made of.
    """

    def __init__(self, whole: TextEncoder, layers: int) -> None:
        """Take over the weights of an encoder.

        Raises:
            ConfigError: an encoder without tokens, such as CLIP's.
        """
        super().__init__(whole.window, (whole.head, whole.tail))
        self.layers, self.dim, self.pad, self.source = layers, whole.dim, whole.pad, whole.source
        self.last_stage, self.weights_sha256, self.origin = whole.last_stage, whole.weights_sha256, whole.origin
        self.transformer_blocks = whole.transformer_blocks
        self._whole = (whole,)  # a tuple: its modules are registered below, under their own names
        if isinstance(whole, BertText):
            self.net, self.used = whole.net, ("net.embeddings", "net.encoder")
            if layers > 1 and layers > len(self.net.encoder.layer):
                raise ConfigError(f"text_layers={layers}: {whole.source} has {len(self.net.encoder.layer)}; use fewer")
        elif isinstance(whole, TinyText):
            self.table = whole.table
        else:
            raise ConfigError(f"text_encoder={whole.source}: gives no tokens; use minilm or a BERT (owner/name)")
        self._tokenizer_sha256 = whole._tokenizer_sha256

    def preprocessing(self) -> str:
        """Return also the layers."""
        return f"{super().preprocessing()} tokens {self.layers}"

    def ids(self, text: str) -> list[int]:
        """Return the token ids of the encoder that it is made of."""
        return self._whole[0].ids(text)

    def batch(self, items: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Pad to the longest item, by the padding of the encoder that it is made of."""
        return self._whole[0].batch(items)

    def forward(self, batch: Mapping[str, Tensor]) -> Features:
        """Encode {"input_ids", "attention_mask"} (B, n), n <= window."""
        if isinstance(self._whole[0], BertText):
            states = self.net(**batch, output_hidden_states=True).hidden_states[-self.layers :]
            tokens = torch.stack(states, 1)
        else:
            tokens = self.table(batch["input_ids"]).unsqueeze(1).expand(-1, self.layers, -1, -1)
        missing = self.window - tokens.shape[2]
        mask = F.pad(batch["attention_mask"].to(tokens.dtype), (0, missing))
        return {"tokens": F.pad(tokens, (0, 0, 0, missing)), "mask": mask}
