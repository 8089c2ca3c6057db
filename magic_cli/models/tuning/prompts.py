"""Learned prompts: tokens that a plain transformer reads beside those of a text or of a photo's patches.

They enter before the first block, after the token in front (of a class, or the start of a text), and leave after the
last one; no position is embedded in them. Of a photo this is VPT-shallow (Jia et al., ECCV 2022), of a text the
continuous prompts of prompt tuning (Lester et al., EMNLP 2021), put after the embedding's own norm. Whoever reads the
output of a block, in the middle too, sees the usual tokens: those of the prompt are put aside between blocks.
"""

from typing import Any

import torch
from torch import Tensor, nn

from magic_cli.errors import ConfigError, problem
from magic_cli.models.encoders import Encoder

NAME = "prompt"  # of the tokens among the modules of the first block

_FIRST = 1  # place of the first token of a prompt

_MASKS = ("attention_mask", "attn_mask")

_PLAIN = 2  # axes of open_clip's mask, (L, L)

_STD = 0.02


class Prompt(nn.Module):
    """The tokens, (n, D), in the space of what the first block reads; at first drawn with a deviation of 0.02."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(count, width) * _STD)


class _Carrier:
    """Hooks of all blocks of an encoder: they put the prompt's tokens in before a block, and take them out after it."""

    def __init__(self, prompt: Prompt, blocks: int) -> None:
        self.prompt, self.blocks = prompt, blocks
        self.at = 0
        self.states: Tensor | None = None

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Return a block's arguments with the tokens, and with masks that let everything see them."""
        named = not args
        tokens: Tensor = kwargs["hidden_states"] if named else args[0]
        if hasattr(module, NAME):
            self.at = 0
            own = self.prompt.tokens.to(tokens.dtype)
            self.states = own.expand(tokens.shape[0], -1, -1)
        assert self.states is not None  # noqa: S101  the first block has run
        count, length = self.states.shape[1], tokens.shape[1]
        both = torch.cat([tokens[:, :_FIRST], self.states, tokens[:, _FIRST:]], 1)
        masks = {key: kwargs[key] for key in _MASKS if isinstance(kwargs.get(key), Tensor)}
        is_causal = kwargs.get("is_causal") is True
        kwargs = kwargs | {key: _longer(mask, count, length, is_causal) for key, mask in masks.items()}
        if named:
            return args, kwargs | {"hidden_states": both}
        return (both, *(_longer(mask, count, length, is_causal) for mask in args[1:])), kwargs

    def leave(self, _: nn.Module, args: tuple[Any, ...], output: Any) -> Any:  # noqa: ARG002  as hooks are called
        """Return a block's output without the tokens, which are kept for the next one."""
        tokens: Tensor = output[0] if isinstance(output, tuple) else output
        end = _FIRST + self.prompt.tokens.shape[0]
        self.at += 1
        self.states = tokens[:, _FIRST:end] if self.at < self.blocks else None
        usual = torch.cat([tokens[:, :_FIRST], tokens[:, end:]], 1)
        return (usual, *output[1:]) if isinstance(output, tuple) else usual


def _longer(mask: Any, count: int, length: int, is_causal: bool) -> Any:
    """Return a mask (…, L or 1, L) with `count` more rows and columns, copies of those of the token in front.

    In a causal one, which is open_clip's if it has no other axes, the tokens of the prompt see those before them only.
    """
    if not isinstance(mask, Tensor) or mask.ndim < _PLAIN or mask.shape[-1] != length:
        return mask
    order = torch.arange(length, device=mask.device)
    order = torch.cat([order[:_FIRST], order[:1].expand(count), order[_FIRST:]])
    longer = mask.index_select(-1, order)
    if mask.shape[-2] != length:
        return longer
    longer = longer.index_select(-2, order)
    if is_causal or mask.ndim == _PLAIN:
        size = _FIRST + count
        later = torch.ones(size, size, dtype=torch.bool, device=mask.device).triu(1)
        front = torch.where(later, mask[..., :1, -1:], longer[..., :size, :size])
        top = torch.cat([front, longer[..., :size, size:]], -1)
        longer = torch.cat([top, longer[..., size:, :]], -2)
    return longer


def add_prompt(encoder: Encoder, count: int) -> tuple[str, ...]:
    """Add a prompt of `count` tokens to an encoder and return its path; one that has a prompt keeps it.

    Raises:
        ConfigError: it is no plain transformer.
    """
    if not encoder.transformer_blocks:
        got = f"an encoder without a sequence of tokens ({encoder.source or type(encoder).__name__})"
        expected = "a plain vision transformer, or a transformer of texts"
        remedy = "bitfit, norm or lora go with it; for the text encoder alone: --set finetune_encoders=texts"
        raise ConfigError(problem("finetune=prompt", got, expected, remedy))
    blocks = list(encoder.get_submodule(encoder.transformer_blocks).children())
    first = blocks[0]
    path = f"{encoder.transformer_blocks}.0.{NAME}"
    if hasattr(first, NAME):
        return (path,)
    width = next(p.shape[-1] for n, p in first.named_parameters() if n.endswith("weight") and p.ndim == 1)
    prompt = Prompt(count, width).to(next(first.parameters()).device)
    first.add_module(NAME, prompt)
    carrier = _Carrier(prompt, len(blocks))
    for block in blocks:
        block.register_forward_pre_hook(carrier.enter, with_kwargs=True)
        block.register_forward_hook(carrier.leave, prepend=True)  # before those that note hidden states
    return (path,)
